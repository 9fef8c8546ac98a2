"""`hybrid bench`: a table and one line of JSON on stdout, everything else on stderr."""

import json
import sys
from contextlib import contextmanager

import pytest

from tests.cli.test_bad_input import assert_one_block
from tools.make_model import make_model

QUICK = ("-p", "6", "-n", "2", "-r", "1", "-t", "1")


def test_a_table_and_then_one_line_of_json(command):
    outcome = command("bench", "demo", "-p", "6,7", "-n", "2", "-d", "0,5", "-r", "2", "-t", "1")
    assert outcome.code == 0, outcome.err
    *rows, predictions, last = outcome.out.splitlines()
    assert predictions.endswith("which no formula counts: they may be wrong by factors")
    names = ["pp6", "pp7", "tg2", "pp6 @ d5", "pp7 @ d5", "tg2 @ d5"]
    assert rows[0].split()[:2] == ["test", "tok/s"]
    assert [row[:8].strip() for row in rows[1:]] == names
    answer = json.loads(last)
    assert [test["test"] for test in answer["tests"]] == names
    assert answer["context_tokens"] == 5 + 7
    assert answer["model"]["name"] == "tiny-tales"
    assert answer["ram_read_gb_s"] > 0
    for test in answer["tests"]:
        assert 0 < test["min_tok_s"] <= test["tok_s"] <= test["max_tok_s"]
        assert len(test["repetitions_tok_s"]) == 2
        assert (test["limit_tok_s"] is None) == (test["work"] == "prompt")
        assert test["limit_memory"] == (None if test["work"] == "prompt" else "RAM")
        assert test["predicted_tok_s"] > 0
    assert "tiny-tales (deepseek2)" in outcome.err
    assert "tg2 @ d5: " in outcome.err


def test_reading_to_a_depth_is_said_before_and_counted_beside_the_bar(command, monkeypatch):
    shown = []

    @contextmanager
    def bar(title, unit):
        yield lambda done, total, text="": shown.append((title, done, total, text))

    monkeypatch.setattr("hybrid.cli.bench.progress_bar", bar)
    line = ("-p", "6", "-n", "0", "-d", "0,9", "-r", "1", "-t", "1", "-ub", "4")
    told = [text.strip() for text in command("bench", "demo", *line).err.splitlines()]
    said = [text.partition(":")[0] for text in told[-3:]]
    assert said == ["pp6", "reading 9 tokens of context", "pp6 @ d9"]
    texts = [(done, text) for title, done, _, text in shown if title == "bench"]
    of = "of 9 tokens of context read"
    assert texts == [(0, ""), (1, ""), (1, f"0 {of}"), (1, f"4 {of}"), (1, ""), (2, "")]


def test_a_terminal_gets_the_table_alone_unless_json_is_asked_for(command, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda _: True)
    plain = command("bench", "demo", *QUICK)
    firsts = [row.split()[0] for row in plain.out.splitlines()]
    assert firsts == ["test", "pp6", "tg2", "predictions:"]
    [line] = command("bench", "demo", *QUICK, "--json").out.splitlines()
    assert len(json.loads(line)["tests"]) == 2


def test_with_json_that_line_is_all_of_stdout(command):
    outcome = command("bench", "-m", "demo", *QUICK, "--json", "-c", "32")
    assert outcome.code == 0, outcome.err
    [line] = outcome.out.splitlines()
    answer = json.loads(line)
    assert (answer["context_tokens"], answer["threads"]) == (32, 1)
    assert [test["test"] for test in answer["tests"]] == ["pp6", "tg2"]


def test_placement_flags_decide_where_the_bytes_are_read(command):
    line = ("--simulate", "CUDA0=64MiB", "-ot", "exps=CPU", "-ub", "4", "--json")
    answer = json.loads(command("bench", "demo", *QUICK, *line).out)
    assert set(answer["placements"][0]["devices"]) == {"CPU", "CUDA0"}
    assert answer["placements"][0]["ubatch_tokens"] == 4
    assert min(answer["tests"][1]["device_bytes_per_token"].values()) > 0


def test_a_saved_plan_brings_its_context(command, tmp_path):
    path = str(tmp_path / "plan.json")
    assert command("plan", "demo", "-c", "16", "--save", path).code == 0
    fits = command("bench", "demo", *QUICK, "--json", "--plan", path)
    assert json.loads(fits.out)["context_tokens"] == 16
    assert "without effect" not in fits.err
    assert command("bench", "demo", "-p", "17", "--plan", path).code == 1


def test_a_file_without_vocabulary_is_measured_too(command, tmp_path):
    path = str(make_model(tmp_path / "bare.gguf", vocabulary=False))
    outcome = command("bench", path, *QUICK, "--json")
    assert outcome.code == 0, outcome.err
    assert len(json.loads(outcome.out)["tests"]) == 2


# exit code, words of the block, flags
WRONG = {
    "no repetitions": (2, "-r/--repetitions", ("demo", "-r", "0")),
    "too many repetitions": (2, "at most 1000", ("demo", "-r", "1001")),
    "nothing to measure": (2, "nothing to measure", ("demo", "-p", "0", "-n", "0")),
    "negative prompt": (2, "-p/--n-prompt", ("demo", "-p", "8,-1")),
    "prompt that is a text": (2, "'hello'", ("demo", "-p", "hello")),
    "empty depth": (2, "-d/--n-depth", ("demo", "-d", "")),
    "number of 5000 digits": (2, "-n/--n-gen", ("demo", "-n", "1" * 5000)),
    "depth beyond the context": (
        1,
        "tg32 @ d60 needs 92",
        ("demo", "-p", "0", "-d", "60", "-c", "64"),
    ),
    "prompt beyond the context": (1, "pp512 needs 512", ("demo", "-c", "64")),
    "depth beyond all memory": (1, "try", ("demo", "-d", str(10**9))),
    "depth beyond all counts": (1, "context", ("demo", "-d", str(10**18))),
    "missing model": (1, "no file", ("none.gguf",)),
    "no model": (2, "no model", ()),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_is_told_before_anything_is_loaded(name, command, monkeypatch):
    code, words, flags = WRONG[name]
    monkeypatch.setattr("hybrid.runtime.load.load_prepared", None)
    outcome = command("bench", *flags)
    assert outcome.code == code, outcome.err
    assert_one_block(outcome.err, words)
    assert outcome.out == ""
