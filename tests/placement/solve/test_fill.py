"""Left-over VRAM: which experts fill it, and that nobody's rule is touched."""

import json
from itertools import product

import pytest

from hybrid.errors import HybridError
from hybrid.runtime.expert_usage import read_expert_stats
from placement.cost.expert_stats import EVEN, ExpertStats, parse_stats
from placement.errors import RequestError
from placement.inventory import Role
from placement.memory.reference_blocks import reference_blocks
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.rules import cpu_moe_rule, parse_rules
from placement.workload import Workload
from tests.placement.models import MIB, deepseek_v3, machine, tiny

LOAD = Workload(context_tokens=256, ubatch_tokens=16, attention_work_bytes=MIB, kernels="fast")
EXPERTS = 8


def planned(size: int, *rules: str, stats: ExpertStats = EVEN) -> PlacementPlan:
    where = machine(size)
    parsed = parse_rules(rules, where.device_names)
    return plan(tiny(), where, parsed, LOAD, gpu_layers=99, expert_stats=stats)


def bare() -> int:
    """Bytes of the GPU with all experts in RAM."""
    return planned(64 * MIB, "exps=CPU").devices[1].total_bytes


def layer_bytes() -> int:
    return tiny().by_role()[Role.ROUTED_EXPERT] // 3


def places(made: PlacementPlan, layer: int) -> set[tuple[tuple[int, int] | None, str]]:
    return {
        (part.experts, part.device)
        for part in made.assignments
        if part.tensor.startswith(f"blk.{layer}.") and "_exps" in part.tensor
    }


def test_a_model_that_fits_goes_to_the_gpu_whole() -> None:
    made = planned(64 * MIB)
    assert {p.device for p in made.assignments if p.tensor != "token_embd.weight"} == {"CUDA0"}


def test_whole_layers_fill_what_is_left_and_then_a_range_of_one() -> None:
    model, load = deepseek_v3(), Workload(context_tokens=4096, kernels="fast")

    def on_a_gpu(size: int, *rules: str) -> PlacementPlan:
        where = machine(size, ram=400 << 30)
        return plan(model, where, parse_rules(rules, where.device_names), load, gpu_layers=99)

    layer = model.by_role()[Role.ROUTED_EXPERT] // 58
    made = on_a_gpu(on_a_gpu(64 << 30, "exps=CPU").devices[1].total_bytes + layer * 5 // 2)
    assert [places(made, n) for n in (58, 59, 60)] == [
        {((0, 127), "CUDA0"), ((128, 255), "CPU")},
        {(None, "CUDA0")},
        {(None, "CUDA0")},
    ]
    assert all(places(made, n) == {(None, "CPU")} for n in range(3, 58))


def test_room_for_a_sliver_of_a_layer_is_left_alone() -> None:
    made = planned(bare() + layer_bytes() // (4 * EXPERTS))
    assert all(places(made, layer) == {(None, "CPU")} for layer in (1, 2, 3))


@pytest.mark.parametrize("rules", [("exps=CPU",), (r"blk\.[123]\..*exps=CPU",)])
def test_rules_keep_experts_in_ram(rules: tuple[str, ...]) -> None:
    made = planned(64 * MIB, *rules)
    assert all(places(made, layer) == {(None, "CPU")} for layer in (1, 2, 3))


def test_cpu_moe_keeps_all_experts_in_ram() -> None:
    made = plan(tiny(), machine(64 * MIB), (cpu_moe_rule(),), LOAD)
    assert all(places(made, layer) == {(None, "CPU")} for layer in (1, 2, 3))


def test_what_rules_leave_open_is_filled_where_the_gpu_s_own_kernels_take_it() -> None:
    beside_ram = planned(64 * MIB, "exps#4-7=CPU")
    assert places(beside_ram, 1) == {((0, 3), "CUDA0"), ((4, 7), "CPU")}
    beside_gpu = planned(64 * MIB, "exps#0-3=CUDA0")
    assert places(beside_gpu, 1) == {((0, 3), "CUDA0"), ((4, 7), "CPU")}
    one_matrix = planned(64 * MIB, "up_exps=CPU")
    assert places(one_matrix, 1) == {(None, "CPU")}


SIZES = [layer_bytes() * part // 5 for part in range(0, 16, 2)]
RULES = [(), (r"blk\.2\..*exps=CPU",), (r"blk\.2\.attn=CPU",)]


@pytest.mark.parametrize(("more", "rules"), list(product(SIZES, RULES)), ids=str)
def test_no_block_falls_back_to_the_reference_for_a_fill(more: int, rules: tuple[str, ...]) -> None:
    made = planned(bare() + more, *rules)
    tensors = {tensor.name: tensor for tensor in tiny().tensors}
    assert not reference_blocks(made.layers, made.assignments, tensors)
    assert all(use.total_bytes <= use.budget_bytes for use in made.devices)


def test_the_busiest_experts_of_all_layers_come_before_whole_layers() -> None:
    model, where = deepseek_v3(), machine(64 << 30, ram=400 << 30)
    low = {str(n): [900] * 16 + [1] * 240 for n in range(3, 32)}
    high = {str(n): [1] * 240 + [900] * 16 for n in range(32, 61)}
    stats = parse_stats({"version": 1, "layers": low | high}, model)
    load = Workload(context_tokens=4096, kernels="fast")
    made = plan(model, where, (), load, expert_stats=stats)
    for layer in range(3, 61):
        (home,) = (experts for experts, device in places(made, layer) if device == "CUDA0")
        if home is not None:
            assert home[0] == 0 if layer < 32 else home[1] == 255
            assert home[1] + 1 - home[0] >= 16
    assert sum(places(made, layer) == {(None, "CUDA0")} for layer in range(3, 61)) < 10
    even = plan(model, where, (), load)
    assert sum(places(even, layer) == {(None, "CPU")} for layer in range(3, 61)) > 40


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "no `layers`"),
        ({"layers": {}}, "version is None, not 1"),
        ({"version": 1, "layers": {"4": [1] * 8}}, "'4' is not a block"),
        ({"version": 1, "layers": {"x": [1] * 8}}, "'x' is not a block"),
        ({"version": 1, "layers": {"1": [1] * 7}}, "block 1 has 7 counts, the model 8 experts"),
        ({"version": 1, "layers": {"1": 3}}, "block 1 has no list"),
        ({"version": 1, "layers": {"1": [1] * 7 + [-1]}}, "expert 7: -1 is not a count"),
        ({"version": 1, "layers": {"1": [float("nan")] * 8}}, "expert 0: nan is not a count"),
        ({"version": 1, "layers": {"1": [True] * 8}}, "expert 0: True is not a count"),
    ],
)
def test_statistics_that_are_wrong_name_the_entry(value: object, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        parse_stats(value, tiny())


def test_experts_without_statistics_are_chosen_evenly() -> None:
    stats = parse_stats({"version": 1, "layers": {"1": [0] * 8}}, tiny())
    assert stats.share(1, 0, 3, 8) == 0.5
    assert stats.share(2, 0, 0, 8) == 0.125


def test_a_file_of_statistics_is_read_or_named(tmp_path) -> None:
    path = tmp_path / "stats.json"
    path.write_text(json.dumps({"version": 1, "layers": {"1": [99] + [1] * 7}}))
    assert read_expert_stats(path, tiny()).share(1, 0, 0, 8) > 0.9
    path.write_text("[" * 100_000)
    with pytest.raises(HybridError, match="cannot be read as statistics"):
        read_expert_stats(path, tiny())
    path.write_text(json.dumps({"version": 1, "layers": {"1": [1]}}))
    with pytest.raises(HybridError, match=r"stats\.json: these are no statistics"):
        read_expert_stats(path, tiny())


def test_a_plan_says_what_its_statistics_come_to() -> None:
    counts = {str(layer): [60, 10, 10, 4, 4, 4, 4, 4] for layer in (1, 2, 3)}
    stats = parse_stats({"version": 1, "layers": counts}, tiny())
    made = planned(64 * MIB, "exps#0-2=CUDA0", "exps=CPU", stats=stats)
    assert (
        "statistics: 80 % of choices fall on experts on GPUs, 38 % if all were chosen alike"
        in made.notes
    )
    assert not any("statistics" in note for note in planned(64 * MIB).notes)
