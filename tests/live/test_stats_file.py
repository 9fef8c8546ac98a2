"""--stats-json: lines that can be read at once, and a run that does not mind a file that fails."""

import os
import threading
from pathlib import Path
from time import sleep

import pytest

from hybrid.errors import OutputError, UsageError
from hybrid.live.codec import from_line
from hybrid.live.live_run import LiveRun
from hybrid.live.snapshot import Phase
from hybrid.live.stats_file import StatsFile, for_file
from tests.live.samples import Sources, full_snapshot, view


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr("hybrid.live.stats_file.EVERY_S", 0.02)


def test_lines_come_while_the_run_lives_and_the_last_one_tells_its_end(tmp_path):
    path, live = tmp_path / "stats.json", LiveRun(view(), Sources())
    with StatsFile(str(path), pytest.fail) as file:
        file.serve(live)
        while path.read_bytes().count(b"\n") < 3:
            sleep(0.01)
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
        sleep(0.1)
    assert from_line(heard[0]).facts.model == "tiny"
    assert noted == [f"--stats-json {path} is written no more: Broken pipe"]
