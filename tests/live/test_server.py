"""The socket of a run and those that watch it, in one process."""

import errno
import json
import os
import socket
import threading
from contextlib import suppress
from itertools import pairwise
from time import monotonic, sleep, time

import pytest

from hybrid.live import client, server
from hybrid.live.client import Ending, attach, runs
from hybrid.live.codec import from_line
from hybrid.live.live_run import LiveRun
from hybrid.live.server import SocketServer
from hybrid.live.snapshot import Phase, Snapshot
from hybrid.live.socket_folder import socket_path
from hybrid.live.wire import FASTEST_S, peer_is_us
from tests.live.samples import Engine, Sources, view
from tests.live.waiting import PATIENCE_S, apart_s, has_more, until


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "hybrid"


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def live(engine):
    made = LiveRun(view(os.getpid()), Sources())
    made.begin(engine)
    return made


@pytest.fixture
def served(live, folder):
    made = SocketServer(live, (folder,), pytest.fail)
    yield made
    made.stop()


def connected(path):
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE_S)
    made.connect(str(path))
    return made


def test_only_this_user_may_open_the_socket(served, folder):
    assert folder.stat().st_mode & 0o7777 == 0o700
    assert served.path.stat().st_mode & 0o7777 == 0o600


def test_a_peer_of_another_user_hears_nothing(served, folder, monkeypatch):
    monkeypatch.setattr(server, "peer_is_us", lambda _: False)
    with connected(served.path) as other:
        assert other.recv(100) == b""


def test_whose_the_other_end_is_comes_from_the_system(monkeypatch):
    one, other = socket.socketpair()
    with one, other:
        assert peer_is_us(one)
        us = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: us + 1)
        assert not peer_is_us(one)


def test_a_list_of_runs_measures_nothing(served, folder, engine):
    [run] = runs([folder])
    assert (run.pid, run.model, run.command, run.started_at) == (os.getpid(), "tiny", "run", 1e9)
    assert engine.listeners == []


def test_snapshots_come_until_the_watcher_leaves(served, folder, engine):
    with attach(runs([folder])[0], 0.05) as watched:
        shots = [next(watched) for _ in range(3)]
        assert len(engine.listeners) == 1
    assert shots[0].at < shots[1].at < shots[2].at
    assert watched.ending is None
    until(lambda: engine.listeners == [])


def test_watchers_have_a_pace_of_their_own(served, folder, engine):
    [run] = runs([folder])
    with attach(run, 0.05) as fast, attach(run, 0.2) as slow, attach(run, 60.0) as rare:
        next(rare)
        for _ in range(20):
            until(lambda: has_more(fast))  # comes without waiting for the rare one
            next(fast)
        assert not has_more(rare), "the rare one is sent what the fast one asked for"
        fast.close()
        until(lambda: len(served._watchers) == 2)
        assert len(engine.listeners) == 1
        assert apart_s(slow, 6) > 0.2 * 3.9, "the slow one comes at the fast one's pace"
    until(lambda: engine.listeners == [])


def stop_reading(served, connection):
    """Ask for snapshots and take none, until there is no room for more."""
    until(lambda: served._watchers)
    [watcher] = served._watchers.values()
    watcher.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    connection.sendall(b'{"every_s": 0.05}\n')
    until(lambda: watcher.every_s and watcher.pending)


def test_a_watcher_that_does_not_read_goes_without_and_keeps_nobody(served, folder):
    with connected(served.path) as stuck:
        stop_reading(served, stuck)
        with attach(runs([folder])[0], 0.05) as watched:
            for _ in range(20):
                until(lambda: has_more(watched))
                next(watched)
        stuck_lines = stuck.makefile("rb")
        json.loads(stuck_lines.readline())
        ages = [from_line(stuck_lines.readline()).at for _ in range(10)]
        assert ages == sorted(ages)  # whole lines, in order
        gaps_s = [later - earlier for earlier, later in pairwise(ages)]
        assert max(gaps_s) > 0.05 * 15, "none was left out"
        stuck_lines.close()


def test_a_watcher_that_does_not_read_delays_the_end_a_moment_at_most(served, live, monkeypatch):
    monkeypatch.setattr(server, "STOP_S", 60.0)
    with connected(served.path) as stuck:
        stop_reading(served, stuck)
        live.end()
        began = monotonic()
        served.stop()
        assert monotonic() - began < 10.0, "the end waits for it to read"


@pytest.mark.parametrize(
    "request_line",
    [b"hello\n", b"{}\n", b'{"every_s": "x"}\n', b'{"every_s": true}\n', b"x" * 10_000, b"\xff\n"],
)
def test_what_is_no_request_ends_the_connection(served, engine, request_line):
    with connected(served.path) as odd:
        odd.sendall(request_line)
        heard = odd.makefile("rb")
        with suppress(ConnectionResetError):
            assert heard.read().count(b"\n") == 1  # the hello
        heard.close()
    assert engine.listeners == []
    with connected(served.path) as next_one:
        assert next_one.recv(10)


def test_a_number_beyond_all_floats_is_the_slowest_pace(served, folder):
    with attach(runs([folder])[0], 0.05) as watched, connected(served.path) as odd:
        odd.sendall(b'{"every_s": 1' + b"0" * 400 + b"}\n")
        heard = odd.makefile("rb")
        heard.readline()
        assert from_line(heard.readline())
        heard.close()
        assert isinstance(next(watched), Snapshot)


def test_a_watcher_that_cannot_be_served_ends_alone(served, folder, monkeypatch):
    with attach(runs([folder])[0], 0.05) as watched:
        next(watched)
        monkeypatch.setattr(server, "read_request", lambda _: 1 / 0)
        with connected(served.path) as odd:
            odd.sendall(b"{}\n")
            with suppress(ConnectionResetError):
                while odd.recv(1000):
                    pass
        assert isinstance(next(watched), Snapshot)
        assert isinstance(next(watched), Snapshot)


def test_where_no_descriptor_is_free_it_waits_and_then_serves_again(served, monkeypatch):
    monkeypatch.setattr(server, "REST_S", 0.2)
    tried, real = [], socket.socket.accept

    def accept(listener):
        tried.append(monotonic())
        if len(tried) < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(listener)

    monkeypatch.setattr(socket.socket, "accept", accept)
    with connected(served.path) as waiting:
        assert waiting.recv(10)
    assert len(tried) == 3
    assert tried[2] - tried[0] > 0.3


def test_no_watcher_asks_faster_than_is_good_for_the_run(served, folder):
    with attach(runs([folder])[0], 0.0) as watched:
        assert apart_s(watched, 12) > FASTEST_S * 9.9, "it comes as fast as the run can tell"


def test_too_many_watchers_are_turned_away(served, folder, monkeypatch):
    monkeypatch.setattr(server, "MOST_WATCHERS", 1)
    with connected(served.path) as first:
        assert first.recv(10)
        with connected(served.path) as second:
            assert second.recv(10) == b""


@pytest.mark.parametrize(
    ("error", "ending", "phase"),
    [(None, Ending.ENDED, Phase.ENDED), ("no RAM", Ending.FAILED, Phase.FAILED)],
)
def test_the_end_is_told_with_a_last_snapshot(served, folder, live, error, ending, phase):
    watched = attach(runs([folder])[0], 60.0)
    next(watched)
    live.end(error)
    served.stop()
    [last] = list(watched)
    assert (last.phase, last.error) == (phase, error)
    assert watched.ending is ending
    assert not served.path.exists()


def test_a_run_that_vanishes_was_killed(served, folder, monkeypatch):
    watched = attach(runs([folder])[0], 60.0)
    next(watched)
    ours = [its.connection for its in served._watchers.values()]
    monkeypatch.setattr(client, "_is_alive", lambda _: False)
    for connection in ours:
        connection.shutdown(socket.SHUT_RDWR)
    assert list(watched) == []
    assert watched.ending is Ending.KILLED


def test_closing_wakes_a_watcher_that_waits_in_another_thread(served, folder):
    watched = attach(runs([folder])[0], 60.0)
    next(watched)
    waiting = threading.Thread(target=lambda: list(watched))
    waiting.start()
    sleep(0.05)
    watched.close()
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    assert watched.ending is None


def test_another_version_is_told(served, folder, monkeypatch):
    monkeypatch.setattr(server, "to_line", lambda _: b'{"version": 99}\n')
    watched = attach(runs([folder])[0])
    assert list(watched) == []
    assert watched.ending is Ending.VERSION


def dead_socket(folder, pid, age_s):
    folder.mkdir(mode=0o700, exist_ok=True)
    path = socket_path(folder, pid)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    os.utime(path, (time() - age_s,) * 2)
    return path


def test_sockets_of_dead_runs_are_removed_by_who_finds_them(folder):
    gone = dead_socket(folder, 4_194_303, 0.0)
    number_given_to_another = dead_socket(folder, os.getppid(), 60.0)
    about_to_listen = dead_socket(folder, os.getpid(), 0.0)
    assert runs([folder]) == []
    assert not gone.exists()
    assert not number_given_to_another.exists()
    assert about_to_listen.exists()


def test_a_dead_run_s_socket_gives_way_to_one_with_its_number(folder, live):
    dead_socket(folder, os.getpid(), 0.0)
    made = SocketServer(live, (folder,), pytest.fail)
    assert [run.pid for run in runs([folder])] == [os.getpid()]
    made.stop()


def test_serving_that_fails_is_noted_and_leaves_no_socket(live, folder, monkeypatch):
    noted = []
    made = SocketServer(live, (folder,), noted.append)
    monkeypatch.setattr(live, "snapshot", lambda: 1 / 0)
    watched = attach(runs([folder])[0], 0.05)
    assert list(watched) == []
    until(lambda: noted)
    assert noted == ["`hybrid top` is not served any more: ZeroDivisionError: division by zero"]
    assert runs([folder]) == []
    made.stop()


def test_no_folder_means_no_runs(tmp_path):
    assert runs([tmp_path / "missing"]) == []
