from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.errors import RuleError
from placement.inventory import ModelInventory
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import GIB, TINY, deepseek_v3, machine, model, tiny

TWELVE = model(replace(TINY, layers=12), "twelve", weights="Q8_0")


def notes(*texts: str, stock: ModelInventory = TWELVE, gpus: int = 1) -> str:
    where = machine(*[GIB] * gpus)
    made = plan(stock, where, parse_rules(texts, where.device_names), Workload(256, 16))
    return "\n".join(made.notes)


@pytest.mark.parametrize(
    ("rule", "instead"),
    [
        (r"blk.1.*exps=CUDA0", r"blk\.1\..*exps=CUDA0"),
        (r"blk\.(1|2).*_exps=CUDA0", r"blk\.(1|2)\..*_exps=CUDA0"),
        (r"blk\.[1-3].*_exps#0-3=CUDA0", r"blk\.[1-3]\..*_exps#0-3=CUDA0"),
        (r"blk\.(?:1).*_up_exps=CUDA0", r"blk\.(?:1)\..*_up_exps=CUDA0"),
    ],
)
def test_a_block_number_that_nothing_ends_is_told_with_the_rule_that_was_meant(
    rule: str, instead: str
) -> None:
    text = notes(rule)
    assert "finds layers 10-11 too" in text
    assert f"-ot '{instead}'" in text
    assert "finds layers" not in notes(instead)


@pytest.mark.parametrize(
    "rule",
    [
        r"blk\.1\..*_exps=CUDA0",
        r"blk\.1.ffn_up_exps=CUDA0",
        r"blk\.1[01]\..*_exps=CUDA0",
        r"blk\.(1|10|11)\..*_exps=CUDA0",
        r"blk\.\d+\..*_exps=CUDA0",
        r"blk\.1\d?\..*_exps=CUDA0",
        r"blk\.[0-9]{1,2}.*_exps=CUDA0",
        "exps=CUDA0",
    ],
)
def test_a_block_number_with_an_end_is_not_told(rule: str) -> None:
    assert "finds layers" not in notes(rule)


def test_a_number_that_is_only_a_beginning_is_told_too() -> None:
    text = notes(r"blk\.0.*_exps=CUDA0,blk.1.*ffn_up_exps=CUDA0", stock=TWELVE)
    assert "finds layers 10-11 too" in text
    dense = model(replace(TINY, layers=12, dense_layers=2), "dense", weights="Q8_0")
    assert "means no tensor but finds layers 10-11" in notes("blk.1.*_exps=CUDA0", stock=dense)


def test_a_rule_that_drags_the_rest_of_the_block_along_is_told_with_the_experts_own() -> None:
    text = notes("ffn_.*=CPU")
    assert "11 router, 33 shared expert, 12 norm, 3 dense feed-forward tensors" in text
    assert "for the experts alone: -ot 'ffn_.*_exps=CPU'" in text
    assert "takes more than experts" not in notes("ffn_.*_exps=CPU")
    assert "-ot 'ffn_(gate|up|down)_exps=CPU'" in notes("ffn_(gate|up|down)=CPU")


def test_whole_blocks_in_ram_are_no_trap() -> None:
    assert "takes more than experts" not in notes(r"blk\.(3|4)\.=CPU")
    assert "takes more than experts" not in notes(".*=CPU")


def test_a_hidden_rule_is_told_by_whom_and_in_which_order_it_would_win() -> None:
    text = notes(r"exps=CPU,blk\.3\..*exps=CUDA0")
    assert "rule 2 (blk\\.3\\..*exps=CUDA0) has no effect: rule 1 (exps=CPU) took all 3" in text
    assert r"-ot 'blk\.3\..*exps=CUDA0,exps=CPU'" in text
    assert "has no effect" not in notes(r"blk\.3\..*exps=CUDA0,exps=CPU")


def test_a_router_in_ram_of_a_block_on_a_gpu_is_told() -> None:
    text = notes(r"blk\.(3|5)\.ffn_gate_inp=CPU")
    assert "has the router of layers 3, 5 on the CPU" in text
    assert "-ot 'ffn_gate_inp|exp_probs_b=GPU' before it" in text
    kept = notes("ffn_gate_inp|exp_probs_b=GPU", r"blk\.(3|5)\.ffn_gate_inp=CPU")
    assert "has the router" not in kept
    assert "has the router" not in notes(r"blk\.3\.=CPU")


def merged() -> ModelInventory:
    """Gate and up of experts in one tensor, as newer files have them."""
    stock = tiny()
    tensors = []
    for tensor in stock.tensors:
        if tensor.name.endswith("ffn_gate_exps.weight"):
            name = tensor.name.replace("gate_exps", "gate_up_exps")
            count, rows, columns = tensor.shape
            shape = (count, 2 * rows, columns)
            tensors.append(replace(tensor, name=name, shape=shape, nbytes=2 * tensor.nbytes))
        elif not tensor.name.endswith("ffn_up_exps.weight"):
            tensors.append(tensor)
    return replace(stock, tensors=tuple(tensors))


def test_a_rule_that_misses_a_new_name_of_experts_is_told_with_one_that_does_not() -> None:
    text = notes("ffn_(gate|up|down)_exps=CUDA0", stock=merged())
    assert "leaves out blk.1-3.ffn_gate_up_exps" in text
    assert "-ot '_exps=CUDA0'" in text
    text = notes(r"blk\.(1|2)\.ffn_(up|down)_exps=CUDA0", stock=merged())
    assert "leaves out blk.1-2.ffn_gate_up_exps" in text
    assert r"-ot 'blk\.(1|2)\..*_exps=CUDA0'" in text
    assert "leaves out" not in notes("_exps=CUDA0", stock=merged())
    assert "leaves out" not in notes("ffn_(gate|up|down)_exps=CPU", stock=merged())


def test_a_dead_rule_for_experts_is_told_what_they_are_called() -> None:
    assert "called ffn_gate_up_exps, ffn_down_exps: -cmoe knows them by role" in notes(
        "ffn_(gate|up)_exps=CPU", stock=merged()
    )
    assert "-ot 'exps=CUDA0'" in notes("ffn_(gate|up)_chexps=CUDA0", stock=merged())


def test_split_experts_are_told_with_the_rule_that_moves_them_together() -> None:
    text = notes(r"blk\.(3|4|10)\.ffn_(gate|down)_exps=CUDA0")
    assert "gate, up and down of ffn_exps are on different devices in layers 3-4, 10" in text
    instead = r"blk\.([34]|10)\.ffn_(gate|up|down)_exps\.=CUDA0"
    assert f"-ot '{instead}' first" in text
    assert "on different devices" not in notes(
        instead, r"blk\.(3|4|10)\.ffn_(gate|down)_exps=CUDA0"
    )


PIECES = (
    "blk",
    ".",
    r"\.",
    "1",
    "(1|2)",
    "[0-3]",
    r"\d",
    "+",
    "?",
    ".*",
    "ffn_",
    "exps",
    "|",
    "$",
)


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9), st.sampled_from(["CPU", "GPU"]))
def test_no_pattern_is_too_odd_to_be_warned_of(pieces: list[str], device: str) -> None:
    text = "".join(pieces)
    try:
        rules = parse_rules([f"{text}={device}"], ("CPU", "CUDA0"))
    except RuleError:
        return
    where = machine(GIB)
    made = plan(TWELVE, where, rules, Workload(256, 16))
    for note in made.notes:
        if "alone: -ot '" in note:
            instead = note.split("alone: -ot '")[1].split("'")[0]
            (rule,) = parse_rules([instead], where.device_names)
            wide = {t.name for t in TWELVE.tensors if rules[0].matches(t)}
            assert {t.name for t in TWELVE.tensors if rule.matches(t)} < wide


def test_layers_of_a_large_model_are_told_as_ranges() -> None:
    stock, where = deepseek_v3(), machine(400 * GIB, ram=400 * GIB)
    rules = parse_rules([r"blk\.[3-5].*exps=CUDA0", "exps=CPU"], where.device_names)
    assert "finds layers 30-59 too" in "\n".join(plan(stock, where, rules, Workload(4096)).notes)
