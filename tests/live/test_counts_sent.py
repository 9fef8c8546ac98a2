"""Expert counts over the socket: seldom there, and never missed by who attaches."""

import json
import os
from dataclasses import replace
from time import time

import pytest

from hybrid.live import server
from hybrid.live.client import attach, runs
from hybrid.live.codec import from_line
from hybrid.live.live_run import LiveRun
from hybrid.live.server import SocketServer
from hybrid.live.wire import has_counts, request_line, with_counts
from tests.live.samples import Engine, Pass, Sources, full_snapshot, view
from tests.live.test_server import connected

COUNTS = {1: (3, 0, 12)}


@pytest.fixture
def live():
    """A run whose experts have been counted once somebody watches."""
    engine = Engine()
    made = LiveRun(view(os.getpid()), Sources())
    made.begin(engine, usage=lambda: COUNTS)
    with made.watch():
        engine.listeners[0].on_pass(Pass(), prompt=False)
        yield made


@pytest.fixture
def served(live, tmp_path):
    made = SocketServer(live, (tmp_path / "hybrid",), pytest.fail)
    yield made
    made.stop()


def sent(served, lines):
    """So many snapshots, as they were sent."""
    with connected(served.path) as other, other.makefile("rb") as stream:
        stream.readline()
        other.sendall(request_line(0.05))
        return [from_line(stream.readline()) for _ in range(lines)]


def test_counts_are_in_a_watchers_first_snapshot_and_then_seldom(served, monkeypatch):
    monkeypatch.setattr(server, "COUNTS_EVERY_S", 0.4)
    began = time()
    shots = sent(served, 20)
    counted = [shot for shot in shots if has_counts(shot)]
    assert shots[0] is counted[0]
    assert [layer.usage for layer in counted[0].layers] == [(), (3, 0, 12)]
    turns = (counted[-1].at - began) / 0.4
    assert 2 <= len(counted) <= 1.1 + turns, "they come again, and not sooner than they should"


def test_each_watcher_gets_its_own(served):
    assert has_counts(sent(served, 1)[0])
    assert has_counts(sent(served, 1)[0])


def test_who_attaches_sees_them_in_every_snapshot(served, tmp_path):
    [run] = runs([tmp_path / "hybrid"])
    with attach(run, 0.05) as watched:
        assert all(next(watched).layers[1].usage == (3, 0, 12) for _ in range(5))


def test_another_engine_does_not_get_the_counts_of_the_one_before(live, served):
    with connected(served.path) as other, other.makefile("rb") as stream:
        stream.readline()
        other.sendall(request_line(0.05))
        assert has_counts(from_line(stream.readline()))
        assert not has_counts(from_line(stream.readline()))
        following = Engine()
        live.replan(view(os.getpid()), Sources())
        live.begin(following, usage=lambda: {1: (0, 7, 0)})
        following.listeners[0].on_pass(Pass(), prompt=False)
        while not has_counts(shot := from_line(stream.readline())):
            pass
    assert shot.layers[1].usage == (0, 7, 0)


def test_counts_are_kept_for_the_same_plan_alone():
    last = full_snapshot()
    bare = replace(last, layers=tuple(replace(layer, usage=()) for layer in last.layers))
    assert with_counts(bare, last) == last
    other = replace(bare, facts=replace(bare.facts, plan_line="elsewhere"))
    assert with_counts(other, last) is other
    assert with_counts(bare, None) is bare


def test_a_snapshot_without_counts_has_the_same_names(served):
    with connected(served.path) as other, other.makefile("rb") as stream:
        stream.readline()
        other.sendall(request_line(0.05))
        first, second = (json.loads(stream.readline()) for _ in range(2))
    assert [layer.keys() for layer in second["layers"]] == [
        layer.keys() for layer in first["layers"]
    ]
    assert second["layers"][1]["usage"] == []
