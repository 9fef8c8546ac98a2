"""Runs and watchers as processes of their own: attached, detached, killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

from hybrid.live.client import Ending, attach, runs
from hybrid.live.codec import from_line
from hybrid.live.snapshot import Phase
from hybrid.live.socket_folder import socket_path
from tests.live.waiting import until
from tools.pseudo_terminal import PseudoTerminal

ROOT = Path(__file__).resolve().parents[2]
LONG = ("-n", "100000", "-c", "110000", "--ignore-eos")  # until it is killed
DEADLINE_S = 60.0  # a program of its own starts and loads


@pytest.fixture
def session(tmp_path):
    """A session's own folder, and what runs have to know of it."""
    folder = tmp_path / "session"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def start(session, tmp_path):
    """start("run", ...) -> a process; those that still live are killed at the end."""
    begun = []

    def run(*words: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": str(session),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "hybrid", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        if process.poll() is None:
            process.kill()
        for pipe in (process.stdout, process.stderr):
            pipe.close()
        process.wait()


def demo(*words: str) -> tuple[str, ...]:
    return ("run", "demo", "-p", "Once upon a time", "--device", "none", "-t", "1", *words)


def decoding(session, *processes):
    """The runs of these processes, once all of them decode."""
    folder = session / "hybrid"
    pids = {process.pid for process in processes}

    def listed():
        found = [run for run in runs([folder]) if run.pid in pids]
        return found if len(found) == len(pids) else None

    found = until(listed, DEADLINE_S)
    for run in found:
        with attach(run, 0.05) as watched:
            assert any(shot.phase is Phase.DECODE for shot in watched)
    return found


def test_a_run_that_is_killed_under_its_watcher_is_told_as_killed(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    [run] = decoding(session, process)
    watched = attach(run, 0.05)
    next(watched)
    process.send_signal(signal.SIGKILL)
    began = monotonic()
    assert all(shot.phase is Phase.DECODE for shot in watched)
    assert monotonic() - began < 10.0, "the end of the connection is not heard"
    assert watched.ending is Ending.KILLED
    process.wait()
    runs([session / "hybrid"])
    assert not socket_path(session / "hybrid", process.pid).exists()


def test_a_watcher_that_is_killed_leaves_the_run_as_it_was(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    [run] = decoding(session, process)
    watcher = start("top", str(process.pid))
    assert watcher.stdout.readline().startswith(b"decode")  # a plain line: no terminal
    watcher.kill()
    watcher.wait()
    with attach(run, 0.05) as watched:
        before = next(watched).rates.decode_tokens
        until(lambda: next(watched).rates.decode_tokens > before)
    assert process.poll() is None


def test_top_prints_lines_where_there_is_no_terminal_until_nobody_reads_them(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    decoding(session, process)
    watcher = start("top", str(process.pid), "--every", "0.25")
    began = monotonic()
    for _ in range(4):
        assert watcher.stdout.readline().startswith(b"decode")
    assert monotonic() - began > 0.5
    watcher.stdout.close()
    assert watcher.wait(DEADLINE_S) == 0
    assert watcher.stderr.read() == b""
    assert process.poll() is None


def test_tops_last_line_is_of_the_runs_end_however_rare_lines_are(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    decoding(session, process)
    watcher = start("top", str(process.pid), "--every", "600")
    assert watcher.stdout.readline().startswith(b"decode")
    process.send_signal(signal.SIGINT)
    out, _ = watcher.communicate(timeout=DEADLINE_S)
    assert out.splitlines()[-1].startswith(b"ended")


def test_ctrl_c_ends_a_run_in_order(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    [run] = decoding(session, process)
    watched = attach(run, 0.05)
    process.send_signal(signal.SIGINT)
    *_, last = watched
    assert last.phase is Phase.ENDED
    assert watched.ending is Ending.ENDED
    assert process.wait(DEADLINE_S) == 130
    assert not socket_path(session / "hybrid", process.pid).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_leaves_its_counts_its_last_line_and_no_socket(
    start, session, tmp_path, number, code
):
    counts, stats = tmp_path / "experts.json", tmp_path / "stats.json"
    words = ("--save-expert-stats", str(counts), "--stats-json", str(stats), "-s", "1")
    process = start(*demo(*LONG, *words))
    decoding(session, process)
    process.send_signal(number)
    assert process.wait(DEADLINE_S) == code
    assert b"Traceback" not in process.stderr.read()
    assert sum(json.loads(counts.read_text())["layers"]["1"]) > 0
    assert from_line(stats.read_bytes().splitlines()[-1]).phase is Phase.ENDED
    assert list((session / "hybrid").iterdir()) == []


def test_a_reader_that_goes_away_leaves_the_counts_of_the_run_that_it_ends(start, tmp_path):
    counts = tmp_path / "experts.json"
    process = start(*demo(*LONG, "--save-expert-stats", str(counts)))
    assert process.stdout.read(20)
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 1
    assert b"whoever read the output has gone" in process.stderr.read()
    assert sum(json.loads(counts.read_text())["layers"]["1"]) > 0


def test_a_run_that_ends_before_anything_is_counted_leaves_the_counts_of_before(start, tmp_path):
    counts = tmp_path / "experts.json"
    counts.write_text("of before")
    process = start(*demo("-n", "1", "--save-expert-stats", str(counts), "--prompt-ids", "x"))
    assert process.wait(DEADLINE_S) != 0
    assert counts.read_text() == "of before"


def test_runs_are_told_apart_and_each_has_its_own_watcher(start, session):
    first, second = start(*demo(*LONG, "-s", "1")), start(*demo(*LONG, "-s", "2"))
    decoding(session, first, second)
    listing = start("top", "--list", "--json")
    out, _ = listing.communicate(timeout=DEADLINE_S)
    listed = {its["pid"] for its in json.loads(out)}  # and those of this user's own
    assert {first.pid, second.pid} <= listed
    one = start("top", "--json", str(second.pid))
    out, _ = one.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["facts"]["pid"] == second.pid
    unsure = start("top", "--json")
    _, said = unsure.communicate(timeout=DEADLINE_S)
    assert unsure.returncode == 2
    assert str(first.pid).encode() in said


def test_watching_changes_no_token(start, session):
    length = ("-n", "1000", "-c", "1200", "--ignore-eos")
    words = demo(*length, "--temp", "0.9", "-s", "5", "--json")
    alone = start(*words, "--no-live")
    expected = json.loads(alone.communicate(timeout=DEADLINE_S)[0])["token_ids"]
    watched_run = start(*words)
    folder, seen = session / "hybrid", 0
    [run] = until(lambda: runs([folder]), DEADLINE_S)
    while watched_run.poll() is None:
        with attach(run, 0.05) as watched:  # attached and detached, over and over
            for _ in range(3):
                seen += next(watched, None) is not None
    out, _ = watched_run.communicate(timeout=DEADLINE_S)
    assert json.loads(out)["token_ids"] == expected
    assert seen > 3


def test_a_run_without_a_live_view_is_not_listed(start, session):
    process = start(*demo("-n", "300", "--ignore-eos", "-s", "1", "--no-live"))
    found = []
    while process.poll() is None:
        found += runs([session / "hybrid"])
        sleep(0.05)
    assert process.returncode == 0
    assert found == []


def test_a_failure_is_told_to_whoever_watches(start, session):
    process = start(*demo(*LONG, "-s", "1"))
    [run] = decoding(session, process)
    watched = attach(run, 0.05)
    process.stdout.close()  # of whom it writes to nobody is left
    *_, last = watched
    assert (last.phase, watched.ending) == (Phase.FAILED, Ending.FAILED)
    assert "whoever read the output has gone" in last.error
    assert process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_with_a_screen_that_is_told_to_end_leaves_the_terminal_as_it_was(tmp_path, number):
    words = demo(*LONG, "--tui", "--save-expert-stats", str(tmp_path / "experts.json"))
    known = {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with PseudoTerminal(sys.executable, "-m", "hybrid", *words, **known) as terminal:
        terminal.read_until("decoding", DEADLINE_S)
        os.kill(terminal.program.pid, number)
        assert terminal.ended(DEADLINE_S) == 128 + number
        assert terminal.modes() == terminal.before
        assert "Traceback" not in terminal.after_screen()
    assert (tmp_path / "experts.json").exists()
