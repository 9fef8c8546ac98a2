"""Published command lines of ik_llama.cpp and llama.cpp plan a header unchanged."""

import json
import re
import shlex

import pytest

from hybrid.cli.foreign_flags import FLAGS
from hybrid.cli.parser import Parser
from tests.cli.command_lines import LINES
from tools.make_header import make_header

DEVICES = ("CPU", *(f"CUDA{i}" for i in range(16)))


@pytest.fixture(scope="module")
def headers(tmp_path_factory):
    made = {}

    def header(model):
        if model not in made:
            path = tmp_path_factory.mktemp("headers") / f"{'-'.join(model)}.gguf"
            made[model] = str(make_header(path, *model))
        return made[model]

    return header


@pytest.mark.parametrize("published", LINES, ids=lambda its: its.source)
def test_a_published_command_line_plans_unchanged(published, headers, command):
    words = shlex.split(published.line.replace("MODEL", headers(published.model)))
    machine = ["--ram", "1200GiB", "--json"]
    if published.gpus:
        sizes = ",".join(f"CUDA{i}={size}GiB" for i, size in enumerate(published.gpus))
        machine += ["--simulate", sizes]
    else:
        machine += ["--device", "none"]
    outcome = command("plan", *words, *machine)
    assert outcome.code == 0, outcome.err
    plan = json.loads(outcome.out)
    assert {row["device"] for row in plan["assignments"]} <= set(DEVICES)
    notes = [line for line in outcome.err.splitlines() if line]
    assert all(line.startswith("note: ") for line in notes)
    assert all(told(flag, outcome.err) for flag in foreign(words))


def foreign(words: list[str]) -> list[str]:
    """Flags of the line that mean nothing here, as typed but for dashes."""
    names = {name for flag in FLAGS for name in flag.names}
    dashed = [w.replace("_", "-") if w.startswith("--") else w for w in words]
    return [word for word in dashed if word in names]


def told(flag: str, text: str) -> bool:
    """Whether a line of its own, or the one of those that nobody misses, names it."""
    lines = text.splitlines()
    shared = [line for line in lines if line.startswith("note: without effect here, ")]
    typed = re.split(r": |, | \(--help", shared[0]) if shared else []
    own = any(line.startswith(f"note: {flag} ") for line in lines)
    return own != any(word.split(" ")[0] == flag for word in typed)


def test_a_quick_start_places_what_it_says(headers, command):
    [published] = [its for its in LINES if "quick start" in its.source]
    words = shlex.split(published.line.replace("MODEL", headers(published.model)))
    outcome = command("plan", *words, "--simulate", "CUDA0=24GiB", "--ram", "1TiB", "--json")
    rows = {row["tensor"]: row["device"] for row in json.loads(outcome.out)["assignments"]}
    assert {device for name, device in rows.items() if "exps" in name} == {"CPU"}
    assert rows["blk.0.attn_q_a.weight"] == rows["output.weight"] == "CUDA0"


def test_underscores_of_long_flags_are_dashes_and_those_of_values_stay():
    parser = Parser("plan", "")
    parser.add_argument("--ctx-size")
    parser.add_argument("--model")
    args = parser.read(["--ctx_size=a_b", "--model", "r_1.gguf"])
    assert (args.ctx_size, args.model) == ("a_b", "r_1.gguf")
