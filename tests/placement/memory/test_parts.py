from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placement.errors import DoesNotFit
from placement.inventory import ModelInventory
from placement.machines.machine import CPU, UNLOADED, Device, DeviceKind, Machine
from placement.memory import overheads
from placement.memory.gpu_scratch import gpu_bytes, gpu_parts
from placement.memory.needs import device_needs
from placement.memory.overheads import MIB, Held, most_host_overheads
from placement.memory.parts import (
    CATEGORIES,
    Part,
    category_bytes,
    device_parts,
    pinned_bytes,
)
from placement.plan import PlacementPlan
from placement.plan_check import check_plan
from placement.plan_json import from_json, to_json
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Hosted, Workload, cache_bytes
from tests.placement.models import GIB, TINY, deepseek_v3, machine, tiny
from tools.model_shapes import V3

FAST = Workload(context_tokens=8192, ubatch_tokens=2048, kernels="fast", threads=16)
SMALL = Workload(context_tokens=256, ubatch_tokens=16, attention_work_bytes=MIB, kernels="fast")


def real(*gpu_bytes: int, ram: int, capability: str = "9.0", cpus: int = 16) -> Machine:
    gpus = (
        Device(f"CUDA{i}", DeviceKind.GPU, size, size, compute_capability=capability)
        for i, size in enumerate(gpu_bytes)
    )
    return Machine((Device(CPU, DeviceKind.CPU, ram, ram), *gpus), usable_cpus=cpus)


def parts_of(
    inventory: ModelInventory, where: Machine, load: Workload, *rules: str
) -> tuple[PlacementPlan, dict[str, tuple[Part, ...]]]:
    made = plan(inventory, where, parse_rules(rules, where.device_names), load)
    return made, device_parts(made, inventory, where)


def named(parts: tuple[Part, ...], category: str) -> dict[str, int]:
    return {part.what: part.nbytes for part in parts if part.category == category}


@settings(max_examples=60, deadline=None)
@given(
    rules=st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(["exps", "up_exps", "exps#0-3", "attn", "token_embd", "output"]),
            st.sampled_from(["CPU", "CUDA0", "CUDA1", "GPU"]),
        ),
        max_size=3,
    ),
    simulated=st.booleans(),
    in_ram=st.booleans(),
    sequences=st.integers(1, 3),
)
def test_parts_sum_to_what_devices_say(
    rules: list[str], simulated: bool, in_ram: bool, sequences: int
) -> None:
    where = machine(GIB, GIB) if simulated else real(2 * GIB, 2 * GIB, ram=8 * GIB)
    load = replace(SMALL, cache_in_ram=in_ram, sequences=sequences)
    try:
        made, parts = parts_of(tiny(mtp=True), where, load, *rules)
    except DoesNotFit:
        return
    for use in made.devices:
        sums = category_bytes(parts[use.name])
        assert tuple(sums) == CATEGORIES
        expected = (use.weights_bytes, use.cache_bytes, use.compute_bytes, use.other_bytes)
        assert tuple(sums.values()) == expected
        assert all(part.nbytes > 0 for part in parts[use.name])


def test_weights_are_listed_by_role_and_what_stays_is_named() -> None:
    made, parts = parts_of(tiny(mtp=True), machine(GIB), SMALL, "exps=CPU")
    inventory = tiny(mtp=True)
    by_role = {role.value.replace("_", " "): n for role, n in inventory.by_role().items()}
    assert named(parts[CPU], "weights") == {
        "routed expert": by_role["routed expert"],
        "embedding": by_role["embedding"],
    }
    assert named(parts[UNLOADED], "in the file") == {"mtp": by_role["mtp"]}
    assert UNLOADED not in device_parts(*_without_mtp())


def _without_mtp() -> tuple[PlacementPlan, ModelInventory, Machine]:
    where = machine(GIB)
    return plan(tiny(), where, (), SMALL), tiny(), where


def test_a_gpu_of_a_large_model_has_every_kind_of_part() -> None:
    _, parts = parts_of(deepseek_v3(), real(80 * GIB, ram=450 * GIB), FAST, "exps=CPU")
    gpu = parts["CUDA0"]
    assert set(named(gpu, "compute")) == {
        "buffers of decode steps",
        "residual stream",
        "decoded weights",
        "slots of streamed experts",
        "activations of a prompt's block",
    }
    assert named(gpu, "other") == {
        "CUDA context": overheads.CONTEXT_BYTES,
        "workspace of products": 32 * MIB,
        "segments of torch's pool": 20 * MIB,
    }
    assert named(gpu, "cache") == {
        "f16 rows of 61 layers for 8192 tokens": cache_bytes(V3, FAST, 61)
    }


def test_ram_counts_program_driver_pinned_buffers_and_page_tables() -> None:
    made, parts = parts_of(deepseek_v3(), real(80 * GIB, ram=450 * GIB), FAST, "exps=CPU")
    other = named(parts[CPU], "other")
    host = made.devices[0]
    placed = host.weights_bytes + host.cache_bytes + host.compute_bytes
    assert other["page tables"] == placed // 512
    assert other["pinned buffers of loading"] == 128 * MIB  # 8 readers, two of 8 MiB
    program = overheads.PROGRAM_BYTES + 1024 * V3.vocabulary
    assert other["the program and its vocabulary"] == program
    drivers = overheads.LIBRARIES_BYTES + overheads.DRIVER_BYTES
    assert other["CUDA's libraries and the driver's side of contexts"] == drivers
    logits = 4 * 15 * V3.vocabulary
    assert logits < other["mailboxes and rows of decode steps, pinned"] < 3 * logits
    assert host.total_bytes == placed + sum(other.values())


def test_a_machine_without_a_gpu_pins_nothing() -> None:
    _, parts = parts_of(tiny(), real(ram=4 * GIB), SMALL)
    assert set(named(parts[CPU], "other")) == {"the program and its vocabulary", "page tables"}


@pytest.mark.parametrize("gpus", [0, 1])
def test_torchs_cuda_build_takes_ram_without_a_gpu_too(gpus: int) -> None:
    here = real(*[2 * GIB] * gpus, ram=4 * GIB)
    host = replace(here.host, cuda_torch=True)
    _, parts = parts_of(tiny(), replace(here, devices=(host, *here.gpus)), SMALL)
    libraries = named(parts[CPU], "other").get("libraries of torch's CUDA build")
    assert libraries == (None if gpus else overheads.CUDA_BUILD_BYTES)
    known = replace(host, process_bytes=500 * MIB)  # they are in it
    _, parts = parts_of(tiny(), replace(here, devices=(known, *here.gpus)), SMALL)
    assert "libraries of torch's CUDA build" not in named(parts[CPU], "other")


def test_simulated_gpus_and_empty_ones_have_no_context() -> None:
    _, parts = parts_of(tiny(), machine(GIB), SMALL)
    assert named(parts["CUDA0"], "other") == {}
    made, parts = parts_of(tiny(), real(2 * GIB, ram=4 * GIB), SMALL, ".*=CPU")
    assert parts["CUDA0"] == ()
    assert made.devices[1].total_bytes == 0


@pytest.mark.parametrize(
    ("capability", "nbytes"), [("8.6", 8320 * 1024), ("9.0", 32 * MIB), ("12.0", 32 * MIB)]
)
def test_the_workspace_of_products_is_that_of_the_gpus_kind(capability: str, nbytes: int) -> None:
    where = real(4 * GIB, ram=4 * GIB, capability=capability)
    _, parts = parts_of(tiny(), where, SMALL)
    assert named(parts["CUDA0"], "other")["workspace of products"] == nbytes


def test_what_a_machine_says_takes_the_place_of_the_table() -> None:
    where = real(4 * GIB, ram=4 * GIB)
    host, gpu = (replace(device, process_bytes=77 * MIB) for device in where.devices)
    _, parts = parts_of(tiny(), replace(where, devices=(host, gpu)), SMALL)
    assert named(parts["CUDA0"], "other")["CUDA context"] == 77 * MIB
    assert named(parts[CPU], "other")["the program and its vocabulary"] == 77 * MIB


def test_buffers_of_loading_count_only_beyond_the_scratch_they_are_taken_from() -> None:
    gpu = Device("CUDA0", DeviceKind.GPU, GIB, GIB)
    hosted = Hosted(layers=1, homes=1)
    load = replace(SMALL)
    for scratch, beyond in ((10 * MIB, 54 * MIB), (64 * MIB, 0), (90 * MIB, 0)):
        found = dict(overheads.gpu_overheads(Held(gpu, 1, scratch, hosted), load, readers=8))
        assert found["buffers of loading"] == beyond


def test_the_pinned_share_is_what_gpus_reach() -> None:
    where = real(80 * GIB, ram=450 * GIB)
    made, parts = parts_of(deepseek_v3(), where, FAST, "exps=CPU")
    other = named(parts[CPU], "other")
    buffers = other["pinned buffers of loading"]
    buffers += other["mailboxes and rows of decode steps, pinned"]
    assert pinned_bytes(made, parts) == made.devices[0].weights_bytes + buffers
    on_gpu, parts = parts_of(tiny(), real(4 * GIB, ram=4 * GIB), SMALL, "exps=CUDA0")
    assert pinned_bytes(on_gpu, parts) < made.devices[0].weights_bytes
    mapped = replace(SMALL, cache_in_ram=True)
    in_ram, more = parts_of(tiny(), real(4 * GIB, ram=4 * GIB), mapped, "exps=CUDA0")
    cache = in_ram.devices[0].cache_bytes
    assert pinned_bytes(in_ram, more) - pinned_bytes(on_gpu, parts) == cache > 0
    for simulated in (machine(GIB), machine()):
        assert pinned_bytes(*parts_of(tiny(), simulated, SMALL)) == 0


def test_sequences_take_as_many_caches() -> None:
    one, _ = parts_of(tiny(), machine(GIB), SMALL)
    four, parts = parts_of(tiny(), machine(GIB), replace(SMALL, sequences=4))
    assert four.devices[1].cache_bytes == 4 * one.devices[1].cache_bytes
    assert "f16 rows of 4 layers for 4 x 256 tokens" in named(parts["CUDA0"], "cache")


def test_streaming_slots_are_listed_only_where_prompts_are_long_enough() -> None:
    hosted = Hosted(layers=1, homes=1, away_experts=256, away_expert_bytes=25 * MIB)
    long = dict(gpu_parts(V3, FAST, hosted))
    short = dict(gpu_parts(V3, replace(FAST, ubatch_tokens=512), hosted))
    assert long["slots of streamed experts"] >= 3 * 128 * MIB
    assert short["slots of streamed experts"] == 0


@settings(max_examples=80, deadline=None)
@given(
    ubatch=st.integers(1, 4096),
    kernels=st.sampled_from(["fast", "exact"]),
    head=st.booleans(),
    plain=st.booleans(),
    homes=st.integers(0, 2),
)
def test_parts_of_scratch_sum_to_it(
    ubatch: int, kernels: str, head: bool, plain: bool, homes: int
) -> None:
    load = replace(FAST, ubatch_tokens=ubatch, kernels=kernels)
    hosted = Hosted(layers=1, head=head, plain=plain, homes=homes, matrix_values=1 << 20)
    parts = gpu_parts(V3, load, hosted)
    assert sum(nbytes for _, nbytes in parts) == gpu_bytes(V3, load, hosted)
    assert all(nbytes >= 0 for _, nbytes in parts)


def test_a_plan_file_from_before_overheads_is_read_and_obeyed() -> None:
    inventory, where = tiny(), real(4 * GIB, ram=4 * GIB)
    made, _ = parts_of(inventory, where, SMALL)
    saved = to_json(made)
    del saved["workload"]["sequences"]
    for use in saved["devices"]:
        use["total_bytes"] -= use["other_bytes"]
        use["other_bytes"] = 0
    old = from_json(saved)
    check_plan(old, inventory, where)
    for name, parts in device_parts(old, inventory, where).items():
        assert named(parts, "other") == {}, name


def test_what_a_plan_reserves_beyond_its_need_is_said() -> None:
    inventory, where = tiny(), machine(GIB)
    made, _ = parts_of(inventory, where, SMALL)
    host, gpu = made.devices
    roomy = replace(made, devices=(host, replace(gpu, compute_bytes=gpu.compute_bytes + 5)))
    parts = device_parts(roomy, inventory, where)["CUDA0"]
    assert named(parts, "compute")["more in the plan than is needed"] == 5


def test_a_plan_that_just_fits_a_gpu_counts_its_context() -> None:
    inventory = tiny()
    made, _ = parts_of(inventory, real(4 * GIB, ram=4 * GIB), SMALL)
    needed = made.devices[1].total_bytes
    assert needed > overheads.CONTEXT_BYTES
    budgets = {"CUDA0": needed}
    where = real(4 * GIB, ram=4 * GIB)
    again = plan(inventory, where, (), SMALL, budgets=budgets)
    assert again.layers == made.layers
    less = plan(inventory, where, (), SMALL, budgets={"CUDA0": overheads.CONTEXT_BYTES})
    assert set(less.layers) == {CPU}


def test_the_most_overheads_are_never_less_than_a_plans() -> None:
    where = real(80 * GIB, 80 * GIB, ram=450 * GIB)
    made, _ = parts_of(deepseek_v3(), where, FAST, "exps=CPU")
    host = made.devices[0]
    assert host.other_bytes <= most_host_overheads(where, V3, FAST, host.total_bytes)


def test_needs_without_a_machine_leave_overheads_out() -> None:
    made, _ = parts_of(tiny(), real(4 * GIB, ram=4 * GIB), SMALL)
    names = [use.name for use in made.devices]
    needs = device_needs(tiny(), SMALL, made.layers, made.assignments, names)
    assert all(need.other_bytes == 0 for need in needs.values())
    assert needs["CUDA0"].compute_bytes == made.devices[1].compute_bytes
    assert TINY.layers == made.layers.count("CUDA0")
