"""Whatever is wrong ends in one block with a remedy and exit code 1 or 2, never in a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.cli import failures, run
from hybrid.errors import UsageError
from hybrid.runtime.engine import Engine

ROOT = Path(__file__).resolve().parents[2]
RUN = ("run", "-p", "hi", "-n", "1", "-m")
LONG = "word " * 2000

# name -> exit code, words of the block, command line; {broken:X} is a file with that fault
TABLE = {
    "missing file": (1, "no file", (*RUN, "{folder}/none.gguf")),
    "directory": (1, "is a folder", (*RUN, "{folder}")),
    "not a GGUF": (1, "not a GGUF", (*RUN, "{broken:not a GGUF}")),
    "cut file": (1, "is cut", (*RUN, "{broken:cut data}")),
    "cut header": (1, "broken.gguf", (*RUN, "{broken:cut header}")),
    "unknown architecture": (1, "mammouth9", (*RUN, "{broken:unknown architecture}")),
    "missing tensor": (1, "blk.2.attn_q_b.weight", (*RUN, "{broken:missing tensor}")),
    "wrong shape": (1, "token_embd.weight", (*RUN, "{broken:wrong shape}")),
    "unsupported format": (1, "IQ4_K", (*RUN, "{broken:unsupported format}")),
    "bad rule": (2, "rule 1", ("plan", "demo", "-ot", "(exps=CPU")),
    "rule without a device": (2, "names no device", ("plan", "demo", "-ot", "exps")),
    "unknown device in a rule": (2, "CUDA7", ("plan", "demo", "-ot", "exps=CUDA7")),
    "unknown device": (2, "CUDA7", ("plan", "demo", "--device", "CUDA7")),
    "budget of an unknown device": (2, "CUDA7", ("plan", "demo", "--vram", "CUDA7=1GiB")),
    "too small a budget": (1, "does not fit", ("plan", "demo", "--ram", "1MiB")),
    "too small a GPU": (
        1,
        "CUDA0",
        ("plan", "demo", "--simulate", "CUDA0=1MiB", "-ot", ".*=CUDA0"),
    ),
    "budget that is no number": (2, "lots", ("plan", "demo", "--ram", "lots")),
    "prompt longer than the context": (1, "exceed the context", ("run", "demo", "-p", LONG)),
    "more tokens than the context": (1, "exceed", ("run", "demo", "-p", "hi", "-n", "9999")),
    "empty prompt": (2, "prompt is empty", ("run", "demo", "-p", "")),
    "empty stdin": (2, "prompt is empty", ("run", "demo")),
    "two prompts": (2, "more than one prompt", ("run", "demo", "-p", "a", "-f", "b")),
    "missing prompt file": (2, "none.txt", ("run", "demo", "-f", "{folder}/none.txt")),
    "prompt file not UTF-8": (2, "byte 3 is 0xff", ("run", "demo", "-f", "{latin}")),
    "prompt file without end": (2, "more than", ("run", "demo", "-f", "/dev/zero")),
    "id that is no number": (2, "'x'", ("run", "demo", "--prompt-ids", "1,x")),
    "id outside the vocabulary": (2, "4096", ("run", "demo", "--prompt-ids", "4096")),
    "negative context": (2, "-c/--ctx-size", ("plan", "demo", "-c", "-5")),
    "negative micro-batch": (2, "-ub/--ubatch-size", ("plan", "demo", "-ub", "-1")),
    "negative count of tokens": (2, "-n/--predict", ("run", "demo", "-p", "a", "-n", "-2")),
    "negative layers": (2, "-ngl", ("plan", "demo", "-ngl", "-3")),
    "negative n-cpu-moe": (2, "-ncmoe", ("plan", "demo", "-ncmoe", "-1")),
    "negative threads": (2, "--threads", ("run", "demo", "-p", "a", "-t", "-2")),
    "negative temperature": (2, "temperature", ("run", "demo", "-p", "a", "--temp", "-1")),
    "temperature that is NaN": (2, "temperature", ("run", "demo", "-p", "a", "--temp", "nan")),
    "absurd context": (1, "context", ("plan", "demo", "-c", str(10**18))),
    "number of 5000 digits": (2, "-c/--ctx-size", ("plan", "demo", "-c", "1" * 5000)),
    "window without room": (2, "window of 1", ("perplexity", "demo", "-c", "1", "-f", "{text}")),
    "empty text": (2, "text is empty", ("perplexity", "demo", "-f", "{empty}")),
    "unwritable output": (1, "--save", ("plan", "demo", "--save", "{folder}/none/plan.json")),
    "output that is a folder": (1, "--save", ("plan", "demo", "--save", "{folder}")),
    "missing plan": (1, "none.json", ("plan", "demo", "--plan", "{folder}/none.json")),
    "plan that is no plan": (1, "text.txt", ("plan", "demo", "--plan", "{text}")),
    "no model": (2, "no model", ("plan",)),
    "two models": (2, "two models are given: demo and other.gguf", ("plan", "demo", "other.gguf")),
    "unknown flag": (2, "unknown flag --contxt", ("plan", "demo", "--contxt=5")),
    "flag without its value": (2, "-c/--ctx-size", ("plan", "demo", "-c")),
    "unknown choice": (2, "q9_9", ("plan", "demo", "-ctk", "q9_9")),
    "unknown command": (2, "'plam'", ("plam",)),
    "flag before the command": (2, "-m", ("-m", "demo")),
}


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_gives_one_block_with_a_remedy(name, command, broken, tmp_path):
    code, words, line = TABLE[name]
    (tmp_path / "latin.txt").write_bytes(b"abc\xff")
    (tmp_path / "text.txt").write_text("some words")
    (tmp_path / "empty.txt").write_text("")
    places = {"{folder}": str(tmp_path)}
    places |= {f"{{{stem}}}": str(tmp_path / f"{stem}.txt") for stem in ("latin", "text", "empty")}
    filled = []
    for word in line:
        if word.startswith("{broken:"):
            word = broken(word[len("{broken:") : -1])
        for place, path in places.items():
            word = word.replace(place, path)
        filled.append(word)
    outcome = command(*filled)
    assert outcome.code == code
    assert_one_block(outcome.err, words)
    assert outcome.out == ""


def assert_one_block(text: str, words: str) -> None:
    lines = text.splitlines()
    starts = [at for at, line in enumerate(lines) if line.startswith("error: ")]
    assert len(starts) == 1, text
    block = lines[starts[0] :]
    assert words in "\n".join(block), text
    assert any(line.startswith("  try   ") for line in block), text
    assert "Traceback" not in text
    assert "internal error" not in text


def piped_to_a_closed_reader(*words: str) -> subprocess.CompletedProcess[str]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-m", "hybrid", *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize(
    "words", [("plan", "demo"), ("inspect", "demo", "--json"), ("--help",), ()], ids=str
)
def test_who_has_read_enough_of_what_a_command_tells_may_go(words):
    done = piped_to_a_closed_reader(*words)
    assert done.returncode == 141
    assert "error" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_run_whose_reader_goes_gives_one_block_and_no_complaint_at_the_end():
    done = piped_to_a_closed_reader("run", "demo", "-p", "hi", "-n", "4")
    assert done.returncode == 1
    assert_one_block(done.stderr, "has gone")
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_gives_one_block():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "hybrid", "plan", "demo"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert_one_block(done.stderr, os.strerror(errno.ENOSPC))


def test_traceback_is_shown_only_when_asked_for(command):
    outcome = command("plan", "none.gguf", "--traceback")
    assert "Traceback" in outcome.err
    assert "error: there is no file none.gguf" in outcome.err
    assert "Traceback" not in command("plan", "none.gguf").err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyError("left"), 1, "internal error: KeyError"),
        (MemoryError(), 1, "memory ran out"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 1, "memory ran out"),
        (OSError(errno.EIO, "Input/output error", "model.gguf"), 1, "model.gguf"),
        (ImportError("no libfoo.so"), 1, "libfoo"),
        (UsageError("wrong", remedy="right"), 2, "wrong"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_error_becomes_one_block(error, code, words, command, monkeypatch):
    def failing(_):
        raise error

    monkeypatch.setattr(run, "run", failing)
    outcome = command("run", "demo")
    assert outcome.code == code
    assert outcome.err.startswith("error: ")
    assert words in outcome.err
    assert "  try   " in outcome.err
    assert "Traceback" not in outcome.err


def test_ctrl_c_gives_one_line_and_130(command, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run", interrupted)
    outcome = command("run", "demo")
    assert outcome.code == failures.INTERRUPTED
    assert outcome.err.split() == ["interrupted"]


def test_ctrl_c_while_tokens_come_tells_how_fast_they_came(command, monkeypatch):
    usual = Engine._generate

    def interrupted(*given):
        stream = usual(*given)
        for _ in range(3):
            yield next(stream)
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "_generate", interrupted)
    outcome = command("run", "demo", "-p", "Once", "-n", "9", "-c", "64", "--device", "none")
    assert outcome.code == failures.INTERRUPTED
    *_, timings, last = filter(None, outcome.err.splitlines())
    assert last == "interrupted"
    assert "; decode " in timings
    assert outcome.out.endswith("\n")


def test_a_missing_file_is_told_before_a_missing_prompt(command, tmp_path):
    outcome = command("run", str(tmp_path / "nowhere.gguf"))
    assert outcome.code == 1
    assert "nowhere.gguf" in outcome.err.splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "-m", "x.gguf"),
        ("-m", "demo", "x.GGUF"),
        ("demo", "x.gguf"),
        ("-m", "demo", "demo"),
    ],
)
def test_a_second_model_is_called_one(words, command):
    outcome = command("run", *words, "-p", "Once")
    assert outcome.code == 2
    assert_one_block(outcome.err, "two models are given: ")
    assert all(word in outcome.err for word in words if word != "-m")


def test_a_word_of_a_text_that_lacks_its_quotes_is_no_model(command):
    outcome = command("run", "demo", "-p", "Once", "upon")
    assert_one_block(outcome.err, "'upon' is not a flag")


def test_a_long_foreign_flag_is_not_read_as_a_short_flag_with_a_value(command):
    """argparse alone would take -mlx for -m lx."""
    outcome = command("plan", "demo", "-mlx")
    assert outcome.code == 2
    assert "unknown flag -mlx" in outcome.err
