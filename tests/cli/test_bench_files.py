"""--csv and --plot: refused before anything is measured, written behind the table."""

import csv
import sys

import pytest

from tests.cli.test_bad_input import assert_one_block

QUICK = ("demo", "-p", "6", "-n", "2", "-r", "1", "-t", "1", "--device", "none")


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch):
    """Reading a GiB of RAM takes seconds, and is tested elsewhere."""
    monkeypatch.setattr("hybrid.runtime.bandwidth.ram_read_gb_s", lambda threads: 20.0)


def test_the_csv_holds_the_tests(command, tmp_path):
    path = tmp_path / "bench.csv"
    assert command("bench", *QUICK, "--csv", str(path)).code == 0
    with path.open(encoding="utf-8", newline="") as file:
        assert [row["test"] for row in csv.DictReader(file)] == ["pp6", "tg2"]


# exit code, words of the block, flags with FOLDER for an empty folder
WRONG = {
    "folder for a table": (1, "--csv FOLDER cannot be written", ("--csv", "FOLDER")),
    "no such folder": (1, "cannot be written", ("--csv", "FOLDER/none/a.csv")),
    "no such folder for a plot": (1, "cannot be written", ("--plot", "FOLDER/none/a.png")),
    "name of no meaning": (1, "cannot be written", ("--csv", "a\0b")),
    "no format": (2, ".png or .svg", ("--plot", "FOLDER/a")),
    "another format": (2, ".png or .svg", ("--plot", "FOLDER/a.pdf")),
    "no matplotlib": (1, "pip install matplotlib", ("--plot", "FOLDER/a.png")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_written_is_told_before_anything_is_loaded(
    name, command, tmp_path, monkeypatch
):
    code, words, flags = WRONG[name]
    monkeypatch.setattr("hybrid.runtime.load.load_prepared", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    outcome = command("bench", *QUICK, *(flag.replace("FOLDER", str(tmp_path)) for flag in flags))
    assert outcome.code == code, outcome.err
    assert_one_block(outcome.err, words.replace("FOLDER", str(tmp_path)))
    assert outcome.out == ""
    assert list(tmp_path.glob("*.*")) == []


def test_a_file_that_is_there_is_kept_until_there_is_another(command, tmp_path):
    path = tmp_path / "bench.csv"
    path.write_text("before", encoding="utf-8")
    assert command("bench", *QUICK, "--csv", str(path), "-c", "1").code == 1
    assert path.read_text(encoding="utf-8") == "before"
