"""Which blocks fall back to the reference, and that a plan says so."""

import pytest

from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import GIB, machine, tiny

DEVICES = ("CPU", "CUDA0", "CUDA1")
LOAD = Workload(256, 16, kernels="fast")


def notes(rules: list[str], load: Workload = LOAD) -> str:
    parsed = parse_rules(rules, DEVICES)
    made = plan(tiny(), machine(GIB, GIB), tuple(parsed), load, shares=(3, 1))
    return "\n".join(note for note in made.notes if "reference kernels" in note)


@pytest.mark.parametrize(
    "rules",
    [
        [],
        ["exps=CPU"],
        ["exps=GPU"],
        ["exps#0-3=GPU", "exps=CPU"],
        ["exps#0-3=CPU", "exps#4-5=CPU", "exps=GPU"],
        ["^output=CPU", "^token_embd=CUDA1"],
    ],
    ids=str,
)
def test_blocks_that_are_wholly_on_their_gpu_but_for_experts_in_ram_are_taken(rules):
    assert notes(rules) == ""


@pytest.mark.parametrize(
    ("rules", "layers", "why"),
    [
        (
            [r"blk\.1\.attn_output=CPU"],
            "layer 1 is",
            "an operation is not on its block's GPU (blk.1.attn_output.weight is on CPU",
        ),
        (
            [r"blk\.[23]\.ffn_gate_inp=CPU"],
            "layers 2-3 are",
            "(blk.2.ffn_gate_inp.weight is on CPU, the block on CUDA",
        ),
        (["exps#2-5=GPU", "exps=CPU"], "layers 1-3 ", "more than one range"),
        (["gate_exps=GPU", "exps=CPU"], "layers 1-3 ", "more than one range"),
        (
            [r"blk\.1\..*exps=CUDA1", "exps=CPU"],
            "layer 1 is",
            r"-ot 'blk\.1\.=CUDA1' first moves the whole block",
        ),
    ],
    ids=str,
)
def test_others_are_named_with_the_reason(rules, layers, why):
    said = notes(rules)
    assert layers in said
    assert why in said


def test_exact_kernels_are_the_reference_everywhere():
    assert notes(["attn_output=CPU"], Workload(256, 16)) == ""


def test_a_block_in_ram_with_experts_on_a_gpu_is_told_too() -> None:
    rules = tuple(parse_rules([r"blk\.1\..*_exps=CUDA0", "exps=CPU"], DEVICES))
    made = plan(tiny(), machine(GIB), rules, LOAD, gpu_layers=0)
    [note] = [note for note in made.notes if "reference kernels" in note]
    assert note.startswith("layer 1 is computed by the reference kernels")
    assert "blk.1.ffn_gate_exps.weight is on CUDA0, the block on CPU" in note
