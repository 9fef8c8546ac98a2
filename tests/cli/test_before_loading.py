"""Mistakes are told before the weights are read: of a large model that takes minutes."""

from dataclasses import replace

import pytest

import hybrid.runtime.load
import kernels.native
import tools.make_model
from hybrid.runtime import machines, prepare
from hybrid.runtime.options import LoadOptions
from kernels.native import tiers
from kernels.native.library import library
from placement.machines.machine import CPU
from placement.machines.probe import probe_machine
from tools.make_header import make_header
from tools.make_model import make_model

MIB = 1 << 20
LONG = "word " * 2000

# name -> words of the block, command line
TABLE = {
    "top-p of run": ("top-p 7", ("run", "demo", "-p", "x", "--top-p", "7")),
    "temperature of run": ("temperature", ("run", "demo", "-p", "x", "--temp", "-1")),
    "min-p of chat": ("min-p 3", ("chat", "demo", "--min-p", "3")),
    "top-p of chat": ("top-p 9", ("chat", "demo", "--top-p", "9")),
    "system prompt": ("exceed the context", ("chat", "demo", "-sys", LONG)),
    "answer of run": ("exceed the context", ("run", "demo", "-p", "x", "-n", "8190")),
    "template": ("not valid jinja", ("chat", "{broken:template}")),
    "template that fails": ("cannot be rendered", ("chat", "{broken:template that fails}")),
    "window": ("window of 1", ("perplexity", "demo", "-c", "1", "-f", __file__)),
    "empty text": ("text is empty", ("perplexity", "demo", "-f", "/dev/null")),
    "chat without vocabulary": ("carries no vocabulary", ("chat", "{bare}")),
    "perplexity without vocabulary": (
        "carries no vocabulary",
        ("perplexity", "{bare}", "-f", __file__),
    ),
    "text without vocabulary": ("carries no vocabulary", ("run", "{bare}", "-p", "hi")),
}


@pytest.fixture
def loads(monkeypatch) -> list[tuple]:
    """What was loaded: nothing really is."""
    seen: list[tuple] = []

    def spy(*given):
        seen.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr(hybrid.runtime.load, "load_prepared", spy)
    return seen


@pytest.mark.parametrize("name", TABLE)
def test_a_mistake_is_told_before_anything_is_loaded(name, command, broken, loads, tmp_path):
    words, line = TABLE[name]
    if line[1] == "{bare}":
        bare = str(make_model(tmp_path / "bare.gguf", vocabulary=False))
        line = (line[0], bare, "-c", "64", *line[2:])
    elif line[1].startswith("{broken:"):
        line = (line[0], broken(line[1][len("{broken:") : -1]))
    outcome = command(*line, stdin="Hello\n")
    assert outcome.code in (1, 2)
    assert words in outcome.err
    assert loads == []


@pytest.mark.parametrize(
    "line",
    [
        ("run", "demo", "-p", "x"),
        ("chat", "demo", "-sys", "Be brief."),
        ("perplexity", "demo", "-c", "64", "-f", __file__),
    ],
    ids=lambda line: line[0],
)
def test_without_a_mistake_loading_begins(line, command, loads):
    assert command(*line).code == 130
    assert len(loads) == 1


def test_a_vocabulary_larger_than_the_head_is_refused(command, tmp_path, monkeypatch):
    write = tools.make_model.write_vocabulary
    monkeypatch.setattr(
        tools.make_model, "write_vocabulary", lambda writer, count: write(writer, count + 8)
    )
    path = make_model(tmp_path / "odd.gguf")
    outcome = command("run", str(path), "-p", "hi", "-c", "64")
    assert outcome.code == 1
    assert "odd.gguf has 328 tokens, but its head knows 320" in outcome.err


def test_without_the_native_library_the_remedy_is_to_install(command, monkeypatch, tmp_path):
    monkeypatch.setattr(kernels.native, "__path__", [str(tmp_path)])
    library.cache_clear()
    outcome = command("run", "demo", "-p", "hi", "-n", "1")
    assert outcome.code == 1
    assert "error: the compiled kernels are not there" in outcome.err
    assert str(tmp_path) in outcome.err
    assert "  try   make native" in outcome.err


@pytest.mark.parametrize("name", ["run", "plan", "chat", "bench", "perplexity"])
def test_a_tier_that_does_not_run_here_is_refused_before_a_plan_is_made(name, command, monkeypatch):
    monkeypatch.setattr(tiers, "here", lambda: ("scalar", "avx2"))
    monkeypatch.setattr(prepare.GgufFile, "open", lambda path: pytest.fail("opened"))
    more = {"run": ("-p", "x"), "perplexity": ("-f", __file__)}.get(name, ())
    outcome = command(name, "demo", "--tier", "amx", *more)
    assert outcome.code == 2
    assert "error: the vector code of tier amx does not run on this processor" in outcome.err
    assert "  these do: scalar, avx2\n  try   --tier avx2\n" in outcome.err


def test_without_the_native_library_a_plan_is_made_and_names_no_tier(
    command, monkeypatch, tmp_path
):
    monkeypatch.setattr(kernels.native, "__path__", [str(tmp_path)])
    outcome = command("plan", "demo", "-t", "1", "--tier", "amx")
    assert outcome.code == 0
    assert "kernels   fast, 1 thread\n" in outcome.out


@pytest.mark.parametrize(
    ("flags", "text"),
    [((), "fast, avx2, 1 thread"), (("--kernels", "exact", "--tier", "scalar"), "exact, scalar,")],
)
def test_plan_and_run_say_how_the_cpu_will_compute(flags, text, command, loads, monkeypatch):
    monkeypatch.setattr(tiers, "here", lambda: ("scalar", "avx2"))
    assert f"\nkernels   {text}" in command("plan", "demo", "-t", "1", *flags).out
    shown = command("run", "demo", "-p", "x", "-t", "1", *flags)
    assert len(loads) == 1
    assert f"\n  kernels on the CPU: {text}" in shown.err


def test_simulated_gpus_must_fit_into_the_memory_there_is(command, monkeypatch):
    sizes = {"CUDA0": 256 * MIB}
    plan = prepare.prepare("demo", LoadOptions(simulate=sizes, context=64)).plan
    on_cpu = sum(use.total_bytes for use in plan.devices if use.name == CPU)

    def small(**given):
        machine = probe_machine(**given)
        host = replace(machine.host, free_bytes=on_cpu + MIB)
        return replace(machine, devices=(host, *machine.devices[1:]))

    monkeypatch.setattr(machines, "probe_machine", small)
    outcome = command("run", "demo", "-p", "hi", "-c", "64", "--simulate", "CUDA0=256MiB")
    assert outcome.code == 1
    assert "error: the plan needs more RAM than is free" in outcome.err
    assert "with its simulated GPUs" in outcome.err


def test_the_map_gives_room_beyond_the_memory_there_is(command, tmp_path):
    header = str(make_header(tmp_path / "kimi.gguf", "kimi-k2", "F32"))  # 3.7 TiB
    line = ("plan", header, "-c", "64", "-ub", "8", "--device", "none")
    refused = command(*line)
    assert refused.code == 1
    assert "does not fit" in refused.err
    mapped = command(*line, "--mmap")
    assert mapped.code == 0, mapped.err
