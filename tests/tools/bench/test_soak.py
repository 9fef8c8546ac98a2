"""The soak: what it calls growth, a short one, and runs that do not last."""

import json

import pytest

from tools.bench import soak
from tools.bench.soak import Found

DECODING = ("--device", "none", "-t", "1", "-p", "0")


@pytest.mark.parametrize(
    ("name", "values", "grown"),
    [
        ("resident MiB, top", [5.0] * 10 + [100.0] * 90, False),  # while warming up
        ("resident MiB, top", [100 + 0.005 * i for i in range(100)], False),
        ("resident MiB, top", [100 + 0.05 * i for i in range(100)], True),
        ("VRAM MiB", [100.0] * 60 + [102.0] * 40, True),
        ("threads, the run", [7.0] * 60 + [8.0] * 40, True),
        ("open files, top", [8.0] * 60 + [7.0] * 40, False),
        ("tok/s", [100.0] * 60 + [200.0] * 40, False),
    ],
)
def test_growth_is_of_memory_beyond_noise_and_of_anything_counted(name, values, grown):
    assert Found(name, values).grown is grown


def test_a_soak_compares_a_runs_first_and_last_seconds(monkeypatch, capfd):
    monkeypatch.setattr(soak, "EVERY_S", 0.1)
    monkeypatch.setattr(soak, "GROWTH", 0.5)  # it has hardly begun
    soak.main(("--minutes", "0.06"))
    rows = json.loads(capfd.readouterr().out.splitlines()[-1])["rows"]
    found = {row["figure"]: row for row in rows}
    assert set(found) >= {*soak.COUNTED, "resident MiB, the run", "resident MiB, top", "tok/s"}
    assert found["resident MiB, the run"]["least"] > found["resident MiB, top"]["least"] > 10
    assert found["tok/s"]["least"] > 0
    assert min(found[f"characters drawn, {name}"]["most"] for name in ("the run", "top")) > 1000


def test_a_run_that_cannot_begin_is_told_as_it_said():
    with pytest.raises(SystemExit, match="the run ended with 1: error: .*nowhere.gguf"):
        soak.main(("--minutes", "0.1", "--", "bench", "-m", "nowhere.gguf", *DECODING))


def test_a_run_that_ends_before_its_time_is_told():
    words = ("--minutes", "10", "--", "bench", "-m", "demo", *DECODING, "-n", "512", "-r", "4")
    with pytest.raises(SystemExit, match="(the run|top) ended with 0"):
        soak.main(words)
