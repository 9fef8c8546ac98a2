import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.errors import DoesNotFit, PlacementError, RuleError
from placement.inventory import ModelInventory, Role
from placement.machines.machine import UNLOADED, DeviceKind, Machine
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.planner import plan
from placement.rules import OWN_GPU, Rule, cpu_moe_rule, n_cpu_moe_rules, parse_rules
from placement.workload import Workload, cache_bytes
from tests.placement.models import GIB, MIB, deepseek_v3, machine, tiny
from tools.model_shapes import V3

LOAD = Workload(context_tokens=256, ubatch_tokens=16, attention_work_bytes=MIB)
BIG_LOAD = Workload(context_tokens=4096)


def planned(
    inventory: ModelInventory, where: Machine, *texts: str, **options: Any
) -> PlacementPlan:
    return plan(inventory, where, parse_rules(texts, where.device_names), LOAD, **options)


def devices_of(made: PlacementPlan, name: str) -> list[tuple[tuple[int, int] | None, str]]:
    return [(part.experts, part.device) for part in made.assignments if part.tensor == name]


def device_of(made: PlacementPlan, name: str) -> str:
    ((_, device),) = devices_of(made, name)
    return device


def test_a_cache_in_ram_counts_on_the_cpu_and_leaves_gpus_room_for_more_layers() -> None:
    where, long = machine(12 * GIB, ram=450 * GIB), Workload(context_tokens=32768)
    at_home = plan(deepseek_v3(), where, (), long)
    in_ram = plan(deepseek_v3(), where, (), replace(long, cache_in_ram=True))
    assert in_ram.layers.count("CUDA0") > at_home.layers.count("CUDA0") > 0
    host, gpu = in_ram.devices
    assert (host.cache_bytes, gpu.cache_bytes) == (cache_bytes(V3, long, 61), 0)
    assert sum(use.cache_bytes for use in at_home.devices) == host.cache_bytes


def test_without_a_gpu_everything_is_on_the_cpu_and_a_note_says_so() -> None:
    made = planned(tiny(), machine())
    assert {part.device for part in made.assignments} == {"CPU"}
    assert made.layers == ("CPU",) * 4
    assert made.notes == ("no GPU: everything on the CPU",)


def test_roles_decide_where_rules_are_silent() -> None:
    made = planned(tiny(mtp=True), machine(GIB))
    assert made.layers == ("CUDA0",) * 4
    assert device_of(made, "blk.2.attn_q.weight") == "CUDA0"
    assert device_of(made, "blk.2.ffn_gate_inp.weight") == "CUDA0"
    assert device_of(made, "blk.2.ffn_up_shexp.weight") == "CUDA0"
    assert device_of(made, "blk.2.ffn_up_exps.weight") == "CUDA0"
    assert device_of(made, "token_embd.weight") == "CPU"
    assert device_of(made, "output.weight") == "CUDA0"
    assert device_of(made, "output_norm.weight") == "CUDA0"
    assert device_of(made, "blk.4.nextn.eh_proj.weight") == UNLOADED


def test_every_assignment_has_a_reason() -> None:
    made = planned(tiny(mtp=True), machine(GIB), "blk.2.*exps=CPU")
    reasons = {part.tensor: part.reason for part in made.assignments}
    assert reasons["blk.3.attn_q.weight"] == "attention of layer 3, by layer over the GPUs"
    assert reasons["blk.3.ffn_up_exps.weight"] == "experts fill what is left of CUDA0"
    assert reasons["blk.2.ffn_up_exps.weight"] == "rule 1: blk.2.*exps=CPU"
    assert reasons["blk.4.nextn.eh_proj.weight"] == "next-token prediction is not loaded"
    assert all(reasons.values())


def test_tied_embedding_is_placed_like_the_head() -> None:
    made = planned(tiny(tied=True), machine(GIB, GIB), r"blk\.0\.attn=CUDA0", r"attn=CUDA1")
    assert device_of(made, "token_embd.weight") == "CUDA1"


def test_layers_are_spread_in_order_and_by_budget() -> None:
    made = plan(deepseek_v3(), machine(12 * GIB, 6 * GIB, ram=400 * GIB), (), BIG_LOAD)
    assert list(made.layers) == sorted(made.layers)
    first, second = made.layers.count("CUDA0"), made.layers.count("CUDA1")
    assert first + second == 61
    assert first > second > 0
    assert device_of(made, "output.weight") == "CUDA1"


def test_layers_without_room_stay_on_the_cpu_first_ones_first() -> None:
    made = plan(deepseek_v3(), machine(8 * GIB, ram=400 * GIB), (), BIG_LOAD)
    on_cpu = made.layers.count("CPU")
    assert 0 < on_cpu < 61
    assert made.layers == ("CPU",) * on_cpu + ("CUDA0",) * (61 - on_cpu)
    assert any("the GPUs have no room" in part.reason for part in made.assignments)


@pytest.mark.parametrize(
    ("gpu_layers", "on_gpu", "head"),
    [(0, 0, "CPU"), (1, 0, "CUDA0"), (2, 1, "CUDA0"), (5, 4, "CUDA0"), (99, 4, "CUDA0")],
)
def test_ngl_counts_the_head_first_and_the_last_blocks(
    gpu_layers: int, on_gpu: int, head: str
) -> None:
    made = planned(tiny(), machine(GIB), gpu_layers=gpu_layers)
    assert made.layers == ("CPU",) * (4 - on_gpu) + ("CUDA0",) * on_gpu
    assert device_of(made, "output.weight") == head


def test_negative_ngl_is_an_error() -> None:
    with pytest.raises(PlacementError, match="-ngl -2 is negative"):
        planned(tiny(), machine(GIB), gpu_layers=-2)


def test_expert_ranges_split_a_tensor_and_the_rest_falls_through() -> None:
    made = planned(tiny(), machine(GIB, GIB), "exps#0-1=CUDA0", "up_exps#1-4=CUDA1")
    assert devices_of(made, "blk.1.ffn_up_exps.weight") == [
        ((0, 1), "CUDA0"),
        ((2, 4), "CUDA1"),
        ((5, 7), "CPU"),
    ]
    assert devices_of(made, "blk.1.ffn_gate_exps.weight") == [((0, 1), "CUDA0"), ((2, 7), "CPU")]


def test_range_that_covers_all_experts_is_a_whole_tensor() -> None:
    made = planned(tiny(), machine(GIB), "exps#0-7=CUDA0")
    assert devices_of(made, "blk.1.ffn_up_exps.weight") == [(None, "CUDA0")]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("exps#0-8=CUDA0", r"experts 0-8 of blk\.1\.ffn_gate_exps\.weight, which has 8"),
        ("attn_q#0=CUDA0", r"of blk\.0\.attn_q\.weight, which has none"),
    ],
)
def test_range_that_a_tensor_lacks_names_the_tensor(rule: str, words: str) -> None:
    with pytest.raises(RuleError, match=words):
        planned(tiny(), machine(GIB), rule)


def test_a_rule_that_cannot_be_obeyed_is_printed_as_it_was_typed() -> None:
    typed = r"blk\.[0-1]\.attn_q\.#0=CUDA0"
    with pytest.raises(RuleError) as raised:
        planned(tiny(), machine(GIB), typed)
    assert str(raised.value).startswith(f"rule 1 ('{typed}') asks for ")


def test_range_of_a_rule_that_gets_nothing_is_not_looked_at() -> None:
    made = planned(tiny(), machine(GIB), "exps=CPU", "exps#0-99=CUDA0")
    assert any("rule 2 (exps#0-99=CUDA0) has no effect" in note for note in made.notes)


def test_rules_override_any_role() -> None:
    made = planned(tiny(), machine(GIB, GIB), "token_embd=CUDA1,output.weight=CPU,2.attn_q=CPU")
    assert device_of(made, "token_embd.weight") == "CUDA1"
    assert device_of(made, "output.weight") == "CPU"
    assert device_of(made, "blk.2.attn_q.weight") == "CPU"


def test_a_layer_moves_only_when_all_of_its_attention_does() -> None:
    some = planned(tiny(), machine(GIB), r"blk\.1\.attn_q=CPU")
    assert some.layers[1] == "CUDA0"
    moved = planned(tiny(), machine(GIB), r"blk\.1\.attn=CPU")
    assert moved.layers[1] == "CPU"
    assert device_of(moved, "blk.1.ffn_up_shexp.weight") == "CPU"


def test_own_gpu_follows_the_layer() -> None:
    where = machine(GIB, GIB)
    made = plan(tiny(), where, n_cpu_moe_rules(2, 4, has_gpu=True), LOAD)
    assert device_of(made, "blk.1.ffn_up_exps.weight") == "CPU"
    for layer in (2, 3):
        assert device_of(made, f"blk.{layer}.ffn_up_exps.weight") == made.layers[layer]
        assert made.layers[layer].startswith("CUDA")


def test_notes_name_dead_and_shadowed_rules() -> None:
    made = planned(tiny(), machine(GIB), "exps=CPU", "up_exps=CUDA0", "fnn_up_exps=CPU", "EXPS=CPU")
    assert (
        "rule 2 (up_exps=CUDA0) has no effect: rule 1 (exps=CPU) took all 3 tensors"
        in made.notes[0]
    )
    assert "rule 3 (fnn_up_exps=CPU) matches no tensor; did you mean ffn_up_exps?" in made.notes[1]
    assert "small letters" in made.notes[2]


def test_notes_name_layers_whose_gate_and_up_are_apart() -> None:
    made = planned(tiny(), machine(GIB), "gate_exps=CUDA0")
    assert any("ffn_exps" in note and "layers 1-3" in note for note in made.notes)
    assert not planned(tiny(), machine(GIB), "exps=CUDA0").notes


def test_a_gpu_too_small_for_a_block_is_noted() -> None:
    made = planned(tiny(), machine(GIB, 300 << 10))
    assert made.devices[2].total_bytes == 0
    (note,) = made.notes
    assert note.startswith("CUDA1 holds nothing: one block's scratch needs ")
    assert " of its 300.0 KiB" in note
    assert not planned(tiny(), machine(GIB)).notes


def test_a_gpu_that_would_only_slow_the_others_is_left_out_and_a_note_says_so() -> None:
    made = planned(tiny(), machine(GIB, GIB))
    assert set(made.layers) == {"CUDA0"}
    (note,) = made.notes
    assert note.startswith("CUDA1 has no blocks: with some on CUDA1 each token would take ")
    assert note.endswith(" longer; -ts 1,1 shares them out")
    shared = plan(tiny(), machine(GIB, GIB), (), LOAD, shares=(1, 1))
    assert shared.layers == ("CUDA0",) * 2 + ("CUDA1",) * 2
    assert not shared.notes


def test_ngl_without_a_gpu_is_noted() -> None:
    assert "-ngl 5 has no effect" in planned(tiny(), machine(), gpu_layers=5).notes[0]


def error_of(where: Machine, *rules: Rule, load: Workload = BIG_LOAD, **options: int) -> DoesNotFit:
    with pytest.raises(DoesNotFit) as error:
        plan(deepseek_v3(), where, rules, load, **options)
    return error.value


def test_shortfall_names_device_bytes_and_remedies_that_fit() -> None:
    where = machine(24 * GIB, 24 * GIB, ram=400 * GIB)
    error = error_of(where, *n_cpu_moe_rules(50, 61, has_gpu=True))
    assert "does not fit on CUDA0 and CUDA1" in error.cause
    assert "budget 24.0 GiB" in error.details[0]
    assert any(text.startswith("--n-cpu-moe 55 in place of 50 (") for text in error.remedies)
    plan(deepseek_v3(), where, n_cpu_moe_rules(55, 61, has_gpu=True), BIG_LOAD)
    error_of(where, *n_cpu_moe_rules(54, 61, has_gpu=True))


def test_shortfall_by_context_names_the_largest_that_fits() -> None:
    where = machine(24 * GIB, ram=400 * GIB)
    long = Workload(context_tokens=163840)
    remedies = error_of(where, load=long, gpu_layers=99).remedies
    context = int(next(r for r in remedies if r.startswith("-c ")).split()[1])
    plan(deepseek_v3(), where, (), Workload(context), gpu_layers=99)
    error_of(where, load=Workload(context + 256), gpu_layers=99)
    assert any(remedy.startswith("-ngl ") for remedy in remedies)
    assert any(remedy.startswith("-ctk q8_0") for remedy in remedies)


def test_shortfall_offers_the_other_place_of_the_cache_where_that_fits() -> None:
    where = machine(24 * GIB, ram=400 * GIB)
    long = Workload(context_tokens=163840, attention_work_bytes=MIB)
    remedies = error_of(where, load=long, gpu_layers=99).remedies
    assert any(remedy.startswith("-nkvo (") for remedy in remedies)
    plan(deepseek_v3(), where, (), replace(long, cache_in_ram=True), gpu_layers=99)
    low = machine(80 * GIB, ram=349 * GIB)
    remedies = error_of(low, cpu_moe_rule(), load=replace(long, cache_in_ram=True)).remedies
    assert any(remedy.startswith("-kvo (") for remedy in remedies)
    plan(deepseek_v3(), low, (cpu_moe_rule(),), long)


def test_shortfall_of_ram_offers_a_gpu_with_room() -> None:
    error = error_of(machine(80 * GIB, ram=320 * GIB), cpu_moe_rule())
    (remedy,) = (text for text in error.remedies if "_exps=CUDA0" in text)
    where = machine(80 * GIB, ram=320 * GIB)
    rules = (*parse_rules([remedy.split("'")[1]], where.device_names), cpu_moe_rule())
    repaired = plan(deepseek_v3(), where, rules, BIG_LOAD)
    assert any(a.device == "CUDA0" and "_exps" in a.tensor for a in repaired.assignments)


def test_shortfall_that_nothing_repairs_says_the_bytes() -> None:
    error = error_of(machine(ram=100 * GIB))
    assert "more free RAM" in error.remedies[-1]


def test_shortfall_by_rule_offers_to_drop_it() -> None:
    where = machine(24 * GIB, ram=400 * GIB)
    error = error_of(where, *parse_rules(["exps=CUDA0"], where.device_names))
    assert any("drop rule 1 (exps=CUDA0), which puts 342" in text for text in error.remedies)
    assert any(text.startswith("--simulate CUDA0=") for text in error.remedies)


def test_budget_below_the_free_bytes_is_offered_to_be_raised() -> None:
    where = machine(40 * GIB, ram=400 * GIB, kind=DeviceKind.GPU)
    error = error_of(where, budgets={"CUDA0": GIB}, gpu_layers=99)
    assert any(text.startswith("--vram CUDA0=") for text in error.remedies)


CPU_LIMIT_S = 1.0  # a third of it where nothing else runs; tools.bench.plan_time gives the figures


def quickest(
    inventory: ModelInventory, where: Machine, rules: tuple[Rule, ...]
) -> tuple[PlacementPlan, float]:
    """Least CPU time of three: others on the machine only take time."""
    took = []
    for _ in range(3):
        start = time.process_time()
        made = plan(inventory, where, rules, BIG_LOAD)
        took.append(time.process_time() - start)
    return made, min(took)


def test_deepseek_v3_on_sixteen_gpus_plans_within_a_second() -> None:
    inventory, where = deepseek_v3(), machine(*[24 * GIB] * 16, ram=400 * GIB)
    rules = parse_rules([r"blk\.(3|4)\..*exps=CUDA5,exps=CPU"], where.device_names)
    made, took_s = quickest(inventory, where, rules)
    assert took_s < CPU_LIMIT_S
    assert made.layers[3:5] == ("CUDA5",) * 2
    made, took_s = quickest(inventory, where, ())
    assert took_s < CPU_LIMIT_S
    assert len(set(made.layers)) == 16


RULES = st.lists(
    st.builds(
        "{}{}={}".format,
        st.sampled_from(["exps", "up_exps", r"blk\.[12]\..*_exps", "attn", "ffn", ".", "dead"]),
        st.sampled_from(["", "#0-3", "#2", "#1-7"]),
        st.sampled_from(["CPU", "CUDA0", "CUDA1", "GPU"]),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(
    texts=RULES,
    sizes=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    ram=st.integers(300, 4000),
    gpu_layers=st.none() | st.integers(0, 6),
    tied=st.booleans(),
    cache_in_ram=st.booleans(),
)
def test_any_plan_covers_the_model_within_budgets(
    texts: list[str],
    sizes: tuple[int, int],
    ram: int,
    gpu_layers: int | None,
    tied: bool,
    cache_in_ram: bool,
) -> None:
    inventory = tiny(tied=tied, mtp=True)
    where = machine(*(size << 10 for size in sizes), ram=ram << 10)
    rules = parse_rules(texts, where.device_names)
    load = replace(LOAD, cache_in_ram=cache_in_ram)
    try:
        made = plan(inventory, where, rules, load, gpu_layers=gpu_layers)
    except (DoesNotFit, RuleError):
        return
    assert sum(part.nbytes for part in made.assignments) == inventory.nbytes
    assert all(use.total_bytes <= use.budget_bytes for use in made.devices)
    check_plan(made, inventory, where)
    assert plan(inventory, where, rules, load, gpu_layers=gpu_layers) == made
    assert_first_match_wins(inventory, rules, made)


def assert_first_match_wins(
    inventory: ModelInventory, rules: tuple[Rule, ...], made: PlacementPlan
) -> None:
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    for part in made.assignments:
        tensor = tensors[part.tensor]
        if tensor.role is Role.MTP:
            continue
        first, last = part.experts or (0, max(tensor.experts, 1) - 1)
        for expert in range(first, last + 1):
            matching = (
                index
                for index, rule in enumerate(rules)
                if rule.matches(tensor)
                and (rule.experts is None or rule.experts[0] <= expert <= rule.experts[1])
            )
            index = next(matching, None)
            if index is None:
                assert part.rule is None or ";" in part.reason
                continue
            assert rules[index].device in (part.device, OWN_GPU)
            # touching ranges are one assignment, with the reasons of all their rules
            assert f"rule {index + 1}: " in part.reason
