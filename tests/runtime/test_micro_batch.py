"""The micro-batch that nobody asked for: long where GPUs compute it and decoding hardly pays."""

import re

import pytest

from hybrid.runtime.options import CpuMoe, LoadOptions
from hybrid.runtime.prepare import GPU_UBATCH, USUAL_UBATCH, new_plan
from placement.errors import DoesNotFit
from placement.machines.machine import DeviceKind
from placement.plan import PlacementPlan
from placement.units import rate
from tests.placement.models import GIB, deepseek_v3, machine

RAM = 800 * GIB


def planned(gpu: int, kind: DeviceKind = DeviceKind.GPU, **options: object) -> PlacementPlan:
    where = machine(gpu, ram=RAM, kind=kind) if gpu else machine(ram=RAM)
    return new_plan(LoadOptions(**options), deepseek_v3(), where, 16)  # type: ignore[arg-type]


def test_gpus_read_prompts_in_long_micro_batches() -> None:
    found = planned(80 * GIB, rules=("exps=CPU",))
    assert found.workload.ubatch_tokens == GPU_UBATCH
    short = planned(80 * GIB, rules=("exps=CPU",), ubatch=USUAL_UBATCH)
    assert found.layers == short.layers
    assert found.prediction is not None
    assert short.prediction is not None
    assert found.prediction.prompt[0].tokens_per_s > short.prediction.prompt[0].tokens_per_s


def test_what_the_user_asks_for_is_obeyed() -> None:
    assert planned(80 * GIB, rules=("exps=CPU",), ubatch=512).workload.ubatch_tokens == 512


def test_a_long_micro_batch_is_no_longer_than_the_context() -> None:
    found = planned(80 * GIB, rules=("exps=CPU",), context=1024)
    assert found.workload.ubatch_tokens == 1024


def gains(gpu: int) -> tuple[float, float]:
    """Of the long one over the usual one: prompts, decoding."""
    pair = [planned(gpu, ubatch=tokens).prediction for tokens in (GPU_UBATCH, USUAL_UBATCH)]
    long, usual = (found for found in pair if found is not None)
    return (
        long.prompt[0].tokens_per_s / usual.prompt[0].tokens_per_s,
        long.decode[0].tokens_per_s / usual.decode[0].tokens_per_s,
    )


def test_experts_make_room_for_it_where_decoding_hardly_pays_for_faster_prompts() -> None:
    filled = planned(80 * GIB)  # experts take what is left of the GPU
    prompts, decoding = gains(80 * GIB)
    assert filled.workload.ubatch_tokens == GPU_UBATCH
    assert filled.assignments != planned(80 * GIB, ubatch=USUAL_UBATCH).assignments
    assert prompts > 3
    assert 0.99 < decoding < 1


@pytest.mark.parametrize("size", [14, 16])
def test_nothing_makes_room_for_it_where_decoding_pays_or_prompts_gain_nothing(size: int) -> None:
    prompts, decoding = gains(size * GIB)
    assert prompts < 1 if size == 14 else decoding < 0.97 and prompts > 2
    found = planned(size * GIB)
    assert found.workload.ubatch_tokens == USUAL_UBATCH
    assert found.assignments == planned(size * GIB, ubatch=USUAL_UBATCH).assignments


def test_a_remedy_tells_the_speed_that_the_plan_with_it_has() -> None:
    with pytest.raises(DoesNotFit) as raised:
        planned(24 * GIB, rules=(CpuMoe(layers=50),), gpu_layers=99)
    (text,) = (r for r in raised.value.remedies if r.startswith("--n-cpu-moe "))
    found = planned(24 * GIB, rules=(CpuMoe(layers=int(text.split()[1])),), gpu_layers=99)
    assert found.workload.ubatch_tokens == GPU_UBATCH
    assert found.prediction is not None
    (told,) = re.findall(r"prompts ([0-9.]+)\)", text)
    assert told == rate(found.prediction.prompt[0].tokens_per_s)


@pytest.mark.parametrize("goal", ["prompt", "balanced"])
def test_where_prompts_matter_experts_make_room_for_it(goal: str) -> None:
    found = planned(80 * GIB, optimize=goal)
    usual = planned(80 * GIB, optimize=goal, ubatch=USUAL_UBATCH)
    assert found.workload.ubatch_tokens == GPU_UBATCH
    assert found.prediction is not None
    assert usual.prediction is not None
    assert found.prediction.prompt[0].tokens_per_s > 2 * usual.prediction.prompt[0].tokens_per_s
    assert found.prediction.decode[0].tokens_per_s > 0.9 * usual.prediction.decode[0].tokens_per_s


def test_a_gpu_that_is_full_with_the_usual_one_keeps_it() -> None:
    rules = ("exps=CPU",)
    usual = planned(80 * GIB, rules=rules, ubatch=USUAL_UBATCH, gpu_layers=99)
    needs = next(use.total_bytes for use in usual.devices if use.name == "CUDA0")
    budgets = {"CUDA0": needs + (64 << 20)}
    found = planned(80 * GIB, rules=rules, gpu_layers=99, budgets=budgets)
    assert found.workload.ubatch_tokens == USUAL_UBATCH


@pytest.mark.parametrize("kind", [DeviceKind.SIMULATED_GPU, None])
def test_what_the_cpu_computes_is_read_in_the_usual_ones(kind: DeviceKind | None) -> None:
    found = planned(80 * GIB, kind) if kind else planned(0)
    assert found.workload.ubatch_tokens == USUAL_UBATCH
