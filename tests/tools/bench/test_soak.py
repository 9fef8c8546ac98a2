"""The soak: what it calls growth, a short one, runs that do not last or do not end."""

import json

import pytest

from tools.bench import soak
from tools.bench.soak import Soaked, Trend

DECODING = ("--device", "none", "-t", "1", "-p", "0")


@pytest.mark.parametrize(
    ("name", "values", "grown"),
    [
        ("resident MiB, the run", [50.0] * 15 + [1000.0] * 85, False),  # while warming up
        ("resident MiB, the run", [1000 + 0.05 * i for i in range(100)], False),
        ("resident MiB, the run", [1000 + 0.5 * i for i in range(100)], True),
        ("resident MiB, top", [20 + 0.01 * i for i in range(100)], False),  # 3 %, of little
        ("resident MiB, top", [20 + 0.05 * i for i in range(100)], True),
        ("VRAM MiB", [1000.0] * 60 + [1020.0] * 40, True),
        ("threads, the run", [7.0] * 60 + [8.0] * 40, True),
        ("open files, top", [8.0] * 60 + [7.0] * 40, False),
        ("tok/s", [100.0] * 60 + [200.0] * 40, False),
    ],
)
def test_growth_is_of_memory_beyond_noise_and_of_anything_counted(name, values, grown):
    assert Trend(name, values).grown is grown


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Soaked([{"threads, top": float(n > 20)} for n in range(40)]), "has grown: threads, top"),
        (Soaked([{"threads, top": 1.0}] * 40, why="top is gone"), "top is gone"),
        (Soaked([{"threads, top": 1.0}] * 11), "too short"),
        (
            Soaked([{"threads, top": 1.0}] * 40, told=[{"VRAM MiB": 9.0 * n} for n in range(40)]),
            "VR",
        ),
    ],
)
def test_what_is_wrong_is_an_error_behind_the_table(found, words):
    with pytest.raises(SystemExit, match=f"error: .*{words}"):
        soak.report(found)
    assert soak.report(Soaked([{"threads, top": 1.0}] * 40)) is None


def test_a_soak_compares_a_runs_first_and_last_seconds(monkeypatch, capfd):
    monkeypatch.setattr(soak, "EVERY_S", 0.1)
    monkeypatch.setattr(soak, "GROWTH_MIB", 100.0)  # it has hardly begun
    soak.main(("--minutes", "0.06"))
    rows = json.loads(capfd.readouterr().out.splitlines()[-1])["rows"]
    found = {row["figure"]: row for row in rows}
    assert set(found) >= {*soak.COUNTED, "resident MiB, the run", "resident MiB, top", "tok/s"}
    assert found["resident MiB, the run"]["least"] > found["resident MiB, top"]["least"] > 10
    assert found["tok/s"]["least"] > 0
    assert min(found[f"characters drawn, {name}"]["most"] for name in ("the run", "top")) > 1000


def test_a_run_that_cannot_begin_is_told_as_it_said():
    with pytest.raises(SystemExit, match=r"the run ended with 1: error: .*nowhere.gguf"):
        soak.main(("--minutes", "1", "--", "bench", "-m", "nowhere.gguf", *DECODING))


def test_a_run_that_ends_before_its_time_is_told():
    words = ("--minutes", "10", "--", "bench", "-m", "demo", *DECODING, "-n", "512", "-r", "4")
    with pytest.raises(SystemExit, match="(the run|top) ended with 0"):
        soak.main(words)


def test_another_end_than_the_one_that_was_asked_for_is_told():
    with soak.program("top", "--help") as terminal:
        assert soak.not_left("top", terminal, "q", 3) == "top ended with 0, not 3"
    with soak.program("top", "--help") as terminal:
        assert soak.not_left("top", terminal, "q", 0) == ""


def test_a_screen_that_does_not_come_is_told(monkeypatch):
    monkeypatch.setattr(soak, "LOADED_WITHIN_S", 0.2)
    with soak.program("chat", "-m", "demo") as terminal:
        assert soak.not_drawn("the run", terminal).startswith("the run: it did not come about")


@pytest.mark.parametrize("minutes", ["0.1", "-1", "nan", "inf"])
def test_a_time_that_says_nothing_is_refused_before_anything_runs(minutes):
    with pytest.raises(SystemExit, match="error: --minutes is to be 0.2 or more"):
        soak.main((f"--minutes={minutes}",))
