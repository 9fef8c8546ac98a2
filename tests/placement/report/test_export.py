import re
import shlex
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.errors import DoesNotFit, PlacementError
from placement.inventory import ModelInventory
from placement.machines.machine import UNLOADED, Machine
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.report.export import PROGRAMS, export, layers_in_ram
from placement.rules import parse_rules
from placement.tensor_names import number_pattern
from placement.workload import Workload
from tests.placement.models import GIB, MIB, deepseek_v3, machine, tiny
from tests.placement.report import foreign_rules

LOAD = Workload(context_tokens=256, ubatch_tokens=16, attention_work_bytes=MIB)
V3_LOAD = Workload(context_tokens=4096)
RULE_SETS = (
    (),
    ("exps=CPU",),
    (r"blk\.(3|4)\..*_exps=CUDA0,blk\.2[0-9]\..*_exps=CUDA1,exps=CPU",),
    ("exps=GPU",),
    ("output=CPU",),
    ("token_embd=CUDA1",),
    ("attn_q=CUDA1,ffn_norm=CPU",),
    (r"blk\.1\.attn=CPU",),
    (r"blk\.([1-2])\.=CUDA1",),
    (r"blk\.3\.=CUDA0",),
    (".*=CUDA1",),
    (".*=CPU",),
)


def made(inventory: ModelInventory, where: Machine, *texts: str, **options: int) -> PlacementPlan:
    load = LOAD if len(inventory.tensors) < 200 else V3_LOAD
    return plan(inventory, where, parse_rules(texts, where.device_names), load, **options)


def devices_there(
    planned: PlacementPlan, inventory: ModelInventory, program: str
) -> dict[str, tuple[str, str]]:
    """Tensor -> (device here, device there)."""
    words = shlex.split(export(planned, inventory, program, "model.gguf").text())
    line = foreign_rules.read(words, len(planned.layers), program)
    gpus = [use.name for use in planned.devices if use.name != "CPU"]
    return {
        part.tensor: (part.device, foreign_rules.device_of(part.tensor, line, program, gpus))
        for part in planned.assignments
        if part.device != UNLOADED
    }


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("rules", RULE_SETS, ids=" ".join)
def test_the_other_program_puts_every_tensor_where_the_plan_has_it(
    program: str, rules: tuple[str, ...]
) -> None:
    for inventory, where in (
        (tiny(mtp=True), machine(GIB, GIB)),
        (deepseek_v3(), machine(400 * GIB, 400 * GIB, ram=400 * GIB)),
    ):
        there = devices_there(made(inventory, where, *rules), inventory, program)
        assert {name: pair for name, pair in there.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("gpu_layers", range(7))
def test_blocks_left_on_the_cpu_are_there_too(program: str, gpu_layers: int) -> None:
    inventory = tiny()
    for where in (machine(GIB), machine(GIB, GIB, GIB)):
        planned = made(inventory, where, "exps=CPU", gpu_layers=gpu_layers)
        there = devices_there(planned, inventory, program)
        assert all(here == far for here, far in there.values())


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_large_model_over_sixteen_gpus_needs_one_rule(program: str) -> None:
    inventory, where = deepseek_v3(), machine(*[24 * GIB] * 16, ram=400 * GIB)
    planned = made(inventory, where, "exps=CPU")
    command = export(planned, inventory, program, "r1.gguf")
    assert command.words.count("-ot") == 1
    assert command.notes == ()
    assert r"^blk\.([3-9]|[1-5][0-9]|60)\.(" in command.text()
    there = devices_there(planned, inventory, program)
    assert all(here == far for here, far in there.values())


@settings(max_examples=150, deadline=None)
@given(
    rules=st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(["exps", "up_exps", r"blk\.[12]\.", "attn", "ffn", ".", "output"]),
            st.sampled_from(["CPU", "CUDA0", "CUDA1", "GPU"]),
        ),
        max_size=4,
    ),
    sizes=st.tuples(st.integers(600, 4000), st.integers(600, 4000)),
    gpu_layers=st.none() | st.integers(0, 6),
    program=st.sampled_from(PROGRAMS),
)
def test_any_plan_is_the_same_there(
    rules: list[str], sizes: tuple[int, int], gpu_layers: int | None, program: str
) -> None:
    inventory, where = tiny(mtp=True), machine(*(size << 10 for size in sizes))
    try:
        planned = made(inventory, where, *rules, gpu_layers=gpu_layers)
    except DoesNotFit:
        return
    there = devices_there(planned, inventory, program)
    assert {name: pair for name, pair in there.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("program", PROGRAMS)
def test_ranges_of_experts_are_refused_with_a_word(program: str) -> None:
    inventory = tiny()
    planned = made(inventory, machine(GIB), "exps#0-3=CUDA0")
    with pytest.raises(PlacementError, match=r"cannot place experts 0-3 of blk\.1\.ffn") as raised:
        export(planned, inventory, program, "model.gguf", lambda: ["-cmoe"])
    assert raised.value.remedies == ("rule 1 without its '#' moves whole tensors",)


def test_the_number_for_ncmoe_counts_layers_with_experts_in_ram() -> None:
    inventory = tiny()
    assert layers_in_ram(made(inventory, machine(GIB), "exps#0-3=CUDA0"), inventory) == 4
    one = made(inventory, machine(GIB), r"blk\.3\..*_exps#0-3=CPU", "exps=GPU")
    assert layers_in_ram(one, inventory) == 2  # block 0 is dense


def test_sizes_are_said_as_each_program_counts_them() -> None:
    inventory = tiny()
    load = Workload(
        256, 64, "q8_0", 512 * MIB, threads=12, cache_in_ram=True, sequences=4, kernels="fast"
    )
    planned = plan(inventory, machine(GIB), (), load)
    ours = export(planned, inventory, "llama.cpp", "a b.gguf").text()
    assert "-m 'a b.gguf' -ngl 5" in ours
    assert "-c 1024 -np 4 -b 2048 -ub 64 -ctk q8_0 -t 12 -nkvo -fa on -fit off" in ours
    ik = export(planned, inventory, "ik", "a.gguf").text()
    assert ik.endswith("-c 1024 -np 4 -b 2048 -ub 64 -ctk q8_0 -t 12 -nkvo -mla 3 -amb 512")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("nodes", "policy", "said"),
    [
        (2, "interleave", ("--numa", "distribute")),
        (1, "interleave", None),
        (0, "interleave", None),
        (2, "off", None),
        (2, "local", None),
    ],
)
def test_pages_over_several_nodes_ask_for_threads_over_them(
    program: str, nodes: int, policy: str, said: tuple[str, str] | None
) -> None:
    inventory = tiny()
    planned = plan(inventory, machine(GIB), (), replace(LOAD, numa_policy=policy))
    words = export(planned, inventory, program, "m.gguf", memory_nodes=nodes).words
    at = words.index("--numa") if "--numa" in words else None
    assert (None if at is None else words[at : at + 2]) == said


def test_a_cache_that_cannot_follow_its_block_is_told() -> None:
    inventory = tiny()
    planned = made(inventory, machine(GIB, GIB), r"blk\.2\.=CPU", gpu_layers=99)
    (note,) = export(planned, inventory, "llama.cpp", "m.gguf").notes
    assert "the cache of layer 2 will not be where the plan has it" in note


@given(st.sets(st.integers(0, 130), min_size=1, max_size=131))
def test_a_pattern_of_numbers_matches_exactly_these(numbers: set[int]) -> None:
    pattern = re.compile(f"({number_pattern(numbers)})")
    assert {n for n in range(300) if pattern.fullmatch(str(n))} == numbers


def test_patterns_have_neither_commas_nor_equals_signs_that_would_cut_them() -> None:
    inventory = deepseek_v3()
    where = machine(400 * GIB, 400 * GIB, ram=400 * GIB)
    planned = made(inventory, where, r"blk\.([3-9]|2[1-5])\..*(up|gate)_exps=CUDA1,attn_q=CPU")
    words = export(planned, inventory, "ik", "m").words
    rules = [value for flag, value in zip(words, words[1:], strict=False) if flag == "-ot"]
    assert len(rules) > 1
    assert all(rule.count("=") == 1 and "," not in rule for rule in rules)
