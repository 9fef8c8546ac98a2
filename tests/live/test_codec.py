"""Snapshots go through JSON and come back the same; anything else is refused by its place."""

import json

import pytest

from hybrid.live.codec import VERSION, WireError, from_json, from_line, to_json, to_line
from tests.live.samples import empty_snapshot, full_snapshot


@pytest.mark.parametrize("snapshot", [full_snapshot(), empty_snapshot()], ids=["full", "empty"])
def test_a_snapshot_comes_back_as_it_was(snapshot):
    line = to_line(snapshot)
    assert from_line(line) == snapshot
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()


def test_what_no_source_says_is_null_and_never_zero():
    value = to_json(empty_snapshot())
    cpu = value["devices"][0]
    assert cpu["sensors"] is None
    assert cpu["memory"]["actual_bytes"] is None
    assert value["nodes"][0]["used_bytes"] is None
    assert value["host"] == dict.fromkeys(value["host"])


def test_the_version_is_in_every_line():
    assert to_json(full_snapshot())["version"] == VERSION


def broken(change):
    value = json.loads(to_line(full_snapshot()))
    change(value)
    return value


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda v: v.update(version=VERSION + 1), "version is 2"),
        (lambda v: v.pop("version"), "version is None"),
        (lambda v: v["rates"].pop("ms_a_token"), "snapshot.rates lacks 'ms_a_token'"),
        (lambda v: v.update(more=1), "snapshot has 'more'"),
        (lambda v: v["facts"].update(pid="4711"), "snapshot.facts.pid is '4711'"),
        (lambda v: v["facts"].update(pid=True), "snapshot.facts.pid"),
        (lambda v: v["facts"].update(pid=1.5), "snapshot.facts.pid"),
        (lambda v: v["facts"].update(model=None), "snapshot.facts.model is no text"),
        (
            lambda v: v["devices"][0].update(read_limit_is_measured=1),
            "read_limit_is_measured is neither true nor false",
        ),
        (lambda v: v.update(phase="asleep"), "snapshot.phase is 'asleep'"),
        (lambda v: v.update(devices={}), "snapshot.devices is no list"),
        (lambda v: v["devices"][0].update(seconds=[1]), "snapshot.devices.seconds is no object"),
        (lambda v: v["devices"][1].update(sensors=3), "snapshot.devices.sensors is no object"),
        (lambda v: v["rates"].update(history=[1.0, None]), "snapshot.rates.history"),
    ],
)
def test_anything_else_is_refused_by_its_place(change, where):
    with pytest.raises(WireError) as caught:
        from_json(broken(change))
    assert where in str(caught.value)


@pytest.mark.parametrize("line", [b"", b"{", b"[1]", b"null", b'{"version": 1}', b"[" * 100_000])
def test_what_is_no_object_of_ours_is_refused(line):
    with pytest.raises(WireError):
        from_line(line)


def test_numbers_that_json_has_no_word_for_are_refused():
    text = to_line(full_snapshot()).replace(b'"ms_a_token":50.0', b'"ms_a_token":NaN')
    with pytest.raises(WireError, match="ms_a_token"):
        from_line(text)
