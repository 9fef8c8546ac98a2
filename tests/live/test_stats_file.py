"""--stats-json: lines that can be read at once, and a run that does not mind a file that fails."""

import os
import threading
from pathlib import Path
from time import monotonic, sleep

import pytest

from hybrid.errors import OutputError, UsageError
from hybrid.live.codec import from_line
from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Phase
from hybrid.live.stats_file import StatsFile, for_file
from tests.live.samples import Sources, full_snapshot, view
from tests.live.waiting import PATIENCE_S, until


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr("hybrid.live.stats_file.EVERY_S", 0.02)


def test_lines_come_while_the_run_lives_and_the_last_one_tells_its_end(tmp_path):
    path, live = tmp_path / "stats.json", LiveRun(view(), Sources())
    with StatsFile(str(path), pytest.fail) as file:
        file.serve(live)
        until(lambda: path.read_bytes().count(b"\n") >= 3)
        live.end()
    phases = [from_line(line).phase for line in path.read_bytes().splitlines()]
    assert set(phases[:3]) == {Phase.LOADING}
    assert phases[-1] is Phase.ENDED


def test_text_and_long_lists_are_left_out_of_the_file():
    kept = for_file(full_snapshot())
    assert (kept.text, kept.rates.history) == ("", ())
    assert all(layer.usage == () for layer in kept.layers)
    assert kept.rates.decode_now_tok_s == full_snapshot().rates.decode_now_tok_s


def test_stdout_is_refused():
    with pytest.raises(UsageError, match="--stats-json -"):
        StatsFile("-", pytest.fail)


def test_a_file_that_cannot_be_opened_is_told_at_once(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        StatsFile(str(tmp_path / "missing" / "stats.json"), pytest.fail)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disc_is_noted_once(tmp_path):
    noted = []
    with StatsFile("/dev/full", noted.append) as file:
        file.serve(LiveRun(view(), Sources()))
        until(lambda: noted)
        sleep(0.1)
    assert noted == ["--stats-json /dev/full is written no more: No space left on device"]


def test_a_reader_that_goes_away_is_noted_once(tmp_path):
    path, noted, heard = tmp_path / "pipe", [], []
    os.mkfifo(path)

    def read_one():
        with path.open("rb") as pipe:
            heard.append(pipe.readline())

    reader = threading.Thread(target=read_one)
    reader.start()
    with StatsFile(str(path), noted.append) as file:
        file.serve(LiveRun(view(), Sources()))
        reader.join()
        until(lambda: noted)
        sleep(0.1)
    assert from_line(heard[0]).facts.model == "tiny"
    assert noted == [f"--stats-json {path} is written no more: Broken pipe"]


MANY = 80  # lines, far more than a pipe has room for


def counted(file, monkeypatch):
    """Grows with each of its turns to write."""
    turns, write = [], file._write

    def take_turn(*patience_s):
        turns.append(1)
        write(*patience_s)

    monkeypatch.setattr(file, "_write", take_turn)
    return turns


def test_a_pipe_that_nobody_reads_does_not_hold_the_run(tmp_path, monkeypatch):
    path, live = tmp_path / "pipe", LiveRun(view(), Sources())
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    began = monotonic()
    with StatsFile(str(path), pytest.fail) as file:
        turns = counted(file, monkeypatch)
        file.serve(live)
        until(lambda: len(turns) > MANY)
    assert monotonic() - began < PATIENCE_S, "the run waits for a reader"
    read = b"".join(iter(lambda: os.read(reader, 1 << 16), b""))
    os.close(reader)
    *whole, _ = read.split(b"\n")
    assert 10 < len(whole) < MANY
    assert {from_line(line).facts.model for line in whole} == {"tiny"}


def test_a_reader_that_comes_back_gets_whole_lines_and_the_last_one(tmp_path, monkeypatch):
    monkeypatch.setattr("hybrid.live.stats_file.LAST_WORDS_S", PATIENCE_S)
    path, live, heard = tmp_path / "pipe", LiveRun(view(), Sources()), []
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with StatsFile(str(path), pytest.fail) as file:
        turns = counted(file, monkeypatch)
        file.serve(live)
        until(lambda: len(turns) > MANY)
        os.set_blocking(reader, True)
        late = threading.Thread(
            target=lambda: heard.extend(iter(lambda: os.read(reader, 1 << 16), b""))
        )
        late.start()
        sleep(0.2)
        live.end()
    late.join()
    os.close(reader)
    lines = b"".join(heard).splitlines(keepends=True)
    assert all(line.endswith(b"\n") for line in lines)
    assert [from_line(line).phase for line in lines][-1] is Phase.ENDED


def test_no_line_is_written_into_one_that_a_disc_still_holds(tmp_path, monkeypatch):
    path, free, began = tmp_path / "stats.json", threading.Event(), threading.Event()
    monkeypatch.setattr("hybrid.live.sources.ticker.STOP_S", 0.1)
    write, writers = os.write, set()

    def held(descriptor, data):
        writers.add(threading.current_thread())
        began.set()
        free.wait(PATIENCE_S)
        return write(descriptor, data)

    monkeypatch.setattr("hybrid.live.stats_file.os.write", held)
    with StatsFile(str(path), pytest.fail) as file:
        file.serve(LiveRun(view(), Sources()))
        assert began.wait(PATIENCE_S)
    free.set()
    assert len(writers) == 1
    assert threading.current_thread() not in writers
    until(lambda: path.read_bytes().endswith(b"\n"))
