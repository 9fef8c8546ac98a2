from dataclasses import replace
from time import process_time

import pytest

from placement.cost.expert_stats import parse_stats
from placement.cost.gpu import Moment, product_s
from placement.cost.pieces import speeds_of_threads
from placement.cost.predict import (
    GOALS,
    MOST_ERROR,
    Costs,
    decode_depths,
    expected_pace,
    limit_text,
    predict,
    prompt_cases,
)
from placement.cost.whole import PlanCost
from placement.cost.work import matrices
from placement.machines.calibration import Calibration
from placement.machines.estimates import host_estimate
from placement.machines.machine import CPU, Machine
from placement.machines.speeds import MachineSpeeds
from placement.plan import PlacementPlan
from placement.planner import plan
from placement.prediction import PARTS, Pace, Prediction
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.cost.cases import BESIDE_H200, SIXTEEN_CORES, lite, there
from tests.placement.models import GIB, deepseek_v3, machine, tiny

MODEL = lite()
LOAD = Workload(8192, 512, threads=16, kernels="fast")
MAPPED = replace(LOAD, mapped=True)
ONE, TWO, NONE = (there(BESIDE_H200, gpus) for gpus in (1, 2, 0))


def speeds(where: Machine) -> MachineSpeeds:
    assert where.speeds is not None
    return where.speeds


def placed(
    *rules: str, where: Machine = ONE, load: Workload = LOAD, gpu_layers: int | None = None
) -> PlacementPlan:
    parsed = parse_rules(rules, where.device_names)
    return plan(MODEL, where, parsed, load, gpu_layers=gpu_layers)


def predicted(*rules: str, where: Machine = ONE, load: Workload = LOAD) -> Prediction:
    return predict(placed(*rules, where=where, load=load), MODEL, where)


def seconds(*rules: str, depth: int = 4096, load: Workload = LOAD) -> dict[str, float]:
    return PlanCost(placed(*rules, load=load), MODEL, speeds(ONE)).decode(depth)


@pytest.mark.parametrize("goal", ["decode", "prompt"])
@pytest.mark.parametrize(
    ("where", "rules", "gpu_layers"),
    [
        (ONE, ["exps=CUDA0"], None),
        (ONE, ["exps=CPU"], None),
        (ONE, [r"blk\.[1-9]\..*exps=CUDA0", "exps#0-15=CUDA0", "exps=CPU"], None),
        (ONE, ["exps=CPU"], 12),
        (TWO, ["exps=CPU"], None),
        (TWO, [r"^output\.=CUDA0", "exps=CPU"], 20),
        (NONE, [], None),
    ],
)
def test_the_pieces_of_a_plan_add_up_to_the_plan(
    goal: str, where: Machine, rules: list[str], gpu_layers: int | None
) -> None:
    made = placed(*rules, where=where, gpu_layers=gpu_layers)
    costs = Costs(MODEL, where, LOAD)
    whole = PlanCost(made, MODEL, speeds(where))
    homes = [*made.layers, whole.head_home]
    pieces = costs.head(whole.head_home, goal) + costs.host(goal)
    for layer, there_ in enumerate(whole.placed):
        pieces += costs.block(layer, there_.home, goal)
        pieces += costs.experts(layer, there_.home, there_.in_ram, goal)
        pieces += costs.handover(homes[layer], homes[layer + 1], goal)
    half = LOAD.context_tokens // 2
    of_plan = whole.decode(half) if goal == "decode" else whole.prompt(512, half // 2, 512)
    tokens = 1 if goal == "decode" else 512
    assert pieces == pytest.approx(sum(of_plan.values()) / tokens, rel=1e-9)


def test_balanced_is_the_mean_of_both_each_by_what_it_takes_on_the_first_gpu() -> None:
    costs = Costs(MODEL, TWO, LOAD)

    def whole(goal: str, home: str) -> float:
        blocks = range(MODEL.shape.layers)
        alone = sum(costs.block(i, home, goal) + costs.experts(i, home, 1.0, goal) for i in blocks)
        return alone + costs.head(home, goal) + costs.host(goal)

    assert whole("balanced", "CUDA0") == pytest.approx(whole("decode", "CUDA0"))
    shares = [whole(goal, CPU) / whole(goal, "CUDA0") for goal in GOALS]
    assert shares[2] == pytest.approx((shares[0] + shares[1]) / 2)


def test_parts_add_up_to_the_speed_and_are_known_by_name() -> None:
    found = predicted("exps=CPU")
    for pace in (*found.decode, *found.prompt):
        assert 1 / sum(pace.seconds.values()) == pytest.approx(pace.tokens_per_s)
        assert set(pace.seconds) <= set(PARTS)
        assert min(pace.seconds.values()) > 0


def test_a_plan_brings_its_prediction() -> None:
    made = placed("exps=CPU")
    assert made.prediction == predict(made, MODEL, ONE)


@pytest.mark.parametrize(
    ("context", "ubatch", "depths", "cases"),
    [
        (1, 512, (0,), ((1, 0),)),
        (512, 512, (0, 511), ((512, 0),)),
        (8192, 512, (0, 4096, 8191), ((512, 0), (512, 4096), (512, 7680))),
        (4097, 512, (0, 4096), ((512, 0), (512, 3585))),
    ],
)
def test_depths_go_as_far_as_the_context(
    context: int, ubatch: int, depths: tuple[int, ...], cases: tuple[tuple[int, int], ...]
) -> None:
    load = replace(LOAD, context_tokens=context, ubatch_tokens=ubatch)
    assert decode_depths(load) == depths
    assert prompt_cases(load) == cases


def test_experts_of_one_block_are_cheaper_on_the_gpu_than_in_ram_and_between_in_between() -> None:
    costs = Costs(MODEL, ONE, LOAD)
    at = [costs.experts(5, "CUDA0", share, "decode") for share in (0.0, 0.25, 0.5, 1.0)]
    assert at == sorted(at)
    assert at[0] < at[1] / 3
    assert costs.experts(0, "CUDA0", 1.0, "decode") == 0  # a dense block


def test_a_crossing_is_paid_for_any_share_in_ram_and_shared_experts_run_beside_the_cpus() -> None:
    gpu = speeds(ONE).gpus["CUDA0"]
    shared = sum(
        t.nbytes for t in MODEL.tensors if t.name.startswith("blk.5.ffn_") and "sh" in t.name
    )
    beside = shared / (gpu.copy_gb_s * 1e9 * gpu.product_share)
    little = Costs(MODEL, ONE, LOAD).experts(5, "CUDA0", 1e-9, "decode")
    expected = gpu.crossing_us * 1e-6 + BESIDE_H200.job_us * 1e-6 - beside
    assert little == pytest.approx(expected, rel=1e-6)


def test_one_sequence_is_decoded_however_many_are_planned() -> None:
    several = replace(LOAD, sequences=8)
    alone, among = (predicted("exps=CPU", load=load).decode[-1] for load in (LOAD, several))
    assert among.tokens_per_s == pytest.approx(alone.tokens_per_s)


def test_ranges_count_by_how_often_they_are_chosen() -> None:
    made = placed("exps#0-15=CUDA0", "exps=CPU")
    evenly = PlanCost(made, MODEL, speeds(ONE))
    assert {p.in_ram for p in evenly.placed[1:]} == {0.75}
    counts = {"version": 1, "layers": {"5": [3] * 16 + [1] * 48}}
    usage = parse_stats(counts, MODEL)
    hot = PlanCost(made, MODEL, speeds(ONE), usage)
    assert [hot.placed[i].in_ram for i in (4, 5, 6)] == [0.75, 0.5, 0.75]
    assert sum(hot.decode(0).values()) < sum(evenly.decode(0).values())


def test_a_deep_cache_is_paid_for_and_more_dearly_over_the_bus() -> None:
    at_home, in_ram = (seconds("exps=CPU", load=replace(LOAD, cache_in_ram=x)) for x in (0, 1))
    row = 576 * 2
    assert at_home.get("PCIe", 0) == 0
    assert in_ram["PCIe"] == pytest.approx(27 * 4097 * row / 55e9)
    assert seconds("exps=CPU", depth=0)["GPU attention"] < at_home["GPU attention"] / 10


def test_many_heads_are_held_up_by_arithmetic_and_few_by_the_cache() -> None:
    wide, where = deepseek_v3(), there(BESIDE_H200, 8)
    made = plan(wide, where, parse_rules(["exps=CPU"], where.device_names), LOAD)
    deep = PlanCost(made, wide, speeds(where))
    more = deep.decode(8000)["GPU attention"] - deep.decode(6000)["GPU attention"]
    flops = 61 * 2000 * 2 * 128 * (576 + 512)
    read = 61 * 2000 * 576 * 2
    assert more >= flops / 430e12
    assert more > read / (4235e9 * 0.61)


def test_a_prompt_streams_experts_from_so_many_tokens_on_and_has_the_cpu_compute_before() -> None:
    """6 of 64 experts: 32 tokens an expert are 342 in all."""
    load = replace(placed("exps=CPU").workload, stream_tokens=32)
    made = PlanCost(replace(placed("exps=CPU"), workload=load), MODEL, speeds(ONE))
    short, long = made.prompt(341, 0, 512), made.prompt(342, 0, 512)
    assert short["CPU experts"] > 0
    assert long.get("CPU experts", 0) == 0
    arriving = sum(t.nbytes for t in MODEL.tensors if t.experts) / 55e9
    launches = 26 * 2450e-6
    assert long["PCIe"] == pytest.approx(arriving - launches)


def test_a_prompt_in_larger_micro_batches_is_faster_as_long_as_launches_bind() -> None:
    made = PlanCost(placed("exps=CUDA0"), MODEL, speeds(ONE))
    by_512, by_2048 = (sum(made.prompt(4096, 0, ubatch).values()) for ubatch in (512, 2048))
    assert by_512 / by_2048 == pytest.approx(4, rel=0.05)


def test_two_gpus_pay_a_handover_and_one_does_not() -> None:
    alone, two = (
        predicted("exps=GPU"),
        predicted("exps=GPU", r"blk\.0\.attn=CUDA0", "attn=CUDA1", where=TWO),
    )
    assert "PCIe" not in alone.decode[0].seconds
    assert two.decode[0].seconds["PCIe"] == pytest.approx(40e-6)
    assert two.decode[0].tokens_per_s < alone.decode[0].tokens_per_s


@pytest.mark.parametrize(
    ("rules", "further"),
    [
        (("exps=GPU",), 0),
        ((r"blk\.[0-9]\.=CUDA0", "blk=CUDA1"), 1),
        ((r"blk\.[0-9]\.=CPU", "blk=CUDA1"), 0),
        ((r"blk\.5\.=CPU", "blk=CUDA0"), 1),
        ((r"blk\.5\.=CUDA1", "blk=CUDA0"), 2),
        (("output=CUDA1", "blk=CUDA0"), 0),
    ],
    ids=["one GPU", "two", "the CPU first", "the CPU between", "there and back", "the head alone"],
)
def test_a_token_takes_more_of_the_host_for_each_graph_but_the_first(
    rules: tuple[str, ...], further: int
) -> None:
    host_us = BESIDE_H200.token_us
    found = predicted(*rules, where=TWO)
    us = 1e6 * found.decode[0].seconds["host"]
    assert us == pytest.approx(host_us + further * 0.2 * host_us)
    prompt = found.prompt[0]
    assert 1e6 * prompt.seconds["host"] * prompt.tokens == pytest.approx(host_us)


@pytest.mark.parametrize(
    ("of_all", "at_half"), [(0.44, 0.44 * 160 / 120), (0.9, 0.95), (0.97, 0.97)]
)
def test_fewer_threads_reach_in_products_what_all_do_as_far_as_they_read(
    of_all: float, at_half: float
) -> None:
    host = replace(
        SIXTEEN_CORES,
        read_gb_s=160.0,
        product_share=of_all,
        by_threads=((8, 120.0), (16, 160.0)),
    )
    fewer = speeds_of_threads(MachineSpeeds(host, {}, "measured", 0.15), 8).host
    assert fewer.read_gb_s == pytest.approx(120.0)
    assert fewer.product_share == pytest.approx(at_half)


def test_fewer_threads_read_and_compute_less() -> None:
    known = replace(SIXTEEN_CORES, by_threads=((1, 16.0), (4, 54.0), (16, 146.0)))
    where = there(known, 0)
    at = {n: predicted(where=where, load=replace(LOAD, threads=n)) for n in (1, 2, 4, 16, 32)}
    decode = {n: found.decode[0].tokens_per_s for n, found in at.items()}
    assert decode[16] == decode[32]
    assert decode[1] < decode[2] < decode[4] < decode[16]
    assert decode[4] / decode[16] == pytest.approx(
        54 / 146, rel=0.25
    )  # the host's own time is the same


def cores(count: int) -> Machine:
    return replace(machine(), physical_cores=count)


def test_estimates_count_the_threads_too() -> None:
    decode, prompt = [], []
    for threads in (1, 4, 16):
        found = predicted(load=replace(LOAD, threads=threads), where=cores(16))
        decode.append(found.decode[0].tokens_per_s)
        prompt.append(found.prompt[0].tokens_per_s)
    assert decode[0] < decode[1] < decode[2]
    assert prompt[1] / prompt[0] == pytest.approx(4, rel=0.1)


def test_more_threads_than_the_ram_can_serve_read_no_faster() -> None:
    by_threads = dict(host_estimate(cores(64)).by_threads)
    assert by_threads[1] == 10.0
    assert len(set(by_threads.values())) == 2


def test_a_model_that_caches_may_hold_is_predicted_with_the_widest_error() -> None:
    small = predict(plan(tiny(), NONE, (), Workload(256, 16)), tiny(), NONE)
    assert small.error == MOST_ERROR
    assert small.source.endswith("a model so small may lie in caches, which no formula counts")
    assert predicted(where=NONE).error < MOST_ERROR


def test_what_runs_taught_multiplies_the_seconds_of_their_kind() -> None:
    calibration = Calibration({"decode_mixed": (1.25, 1.25, 1.25), "decode_cpu": (3.0,) * 3})
    known = replace(speeds(ONE), calibration=calibration)
    taught = replace(ONE, speeds=known)
    before, after = (predicted("exps=CPU", where=where) for where in (ONE, taught))
    assert before.decode[0].tokens_per_s / after.decode[0].tokens_per_s == pytest.approx(1.25)
    assert before.prompt == after.prompt
    assert after.source == f"{before.source}, corrected by 3 runs"


def test_a_disc_is_as_slow_whatever_runs_taught() -> None:
    known = replace(speeds(NONE), calibration=Calibration({"decode_cpu": (2.0,) * 3}))
    short = replace(NONE, devices=(replace(NONE.host, free_bytes=3 * GIB),))
    paces = [
        predicted(where=where, load=MAPPED).decode[0].seconds
        for where in (short, replace(short, speeds=known))
    ]
    assert paces[0]["disc"] == paces[1]["disc"] > 0
    assert 2 * paces[0]["CPU experts"] == pytest.approx(paces[1]["CPU experts"])


def test_runs_that_agree_make_no_disc_surer() -> None:
    agreed = {"decode_cpu": (1.0, 1.02, 1.01), "prompt_cpu": (1.0, 1.02, 1.01)}
    known = replace(speeds(NONE), calibration=Calibration(agreed))
    short = replace(NONE, devices=(replace(NONE.host, free_bytes=3 * GIB),), speeds=known)
    found = predicted(where=short, load=MAPPED)
    share = found.decode[0].seconds["disc"] * found.decode[0].tokens_per_s
    assert share > 0.5
    assert found.error == pytest.approx(0.05 + 0.5 * share)
    assert predicted(where=replace(NONE, speeds=known)).error == pytest.approx(0.05)


def test_a_run_from_disc_or_of_a_model_in_caches_teaches_nothing() -> None:
    short = replace(NONE, devices=(replace(NONE.host, free_bytes=3 * GIB),))
    from_disc = placed(where=short, load=MAPPED)
    assert expected_pace(from_disc, MODEL, short, 0)[1] == ""
    small = plan(tiny(), NONE, (), Workload(256, 16))
    assert expected_pace(small, tiny(), NONE, 0)[1] == ""
    assert expected_pace(placed(where=NONE), MODEL, NONE, 0)[1] == "decode_cpu"


@pytest.mark.parametrize(
    ("rules", "where", "kernels", "kind"),
    [
        (["exps=CUDA0"], ONE, "fast", "decode_gpu"),
        (["exps=CPU"], ONE, "fast", "decode_mixed"),
        ([], NONE, "fast", "decode_cpu"),
        (["attn_output=CPU"], ONE, "fast", "decode_reference"),
        (["exps=CUDA0"], ONE, "exact", "decode_reference"),
    ],
)
def test_a_run_is_of_the_kind_of_its_plan(
    rules: list[str], where: Machine, kernels: str, kind: str
) -> None:
    made = placed(*rules, where=where, load=replace(LOAD, kernels=kernels))
    assert PlanCost(made, MODEL, speeds(where)).kind("decode") == kind


def test_a_run_is_expected_as_it_was_predicted() -> None:
    made = placed("exps=CPU")
    assert made.prediction is not None
    decode, kind = expected_pace(made, MODEL, ONE, 4096)
    assert (decode, kind) == (made.prediction.decode[1], "decode_mixed")
    prompt, kind = expected_pace(made, MODEL, ONE, 4096, 512)
    assert (prompt, kind) == (made.prediction.prompt[1], "prompt_mixed")
    assert expected_pace(made, MODEL, ONE, 0, 700)[0].tokens == 700


def test_a_block_in_ram_with_an_operation_on_a_gpu_falls_back_too() -> None:
    made = placed("exps=CUDA0", gpu_layers=0)
    cost = PlanCost(made, MODEL, speeds(ONE))
    assert cost.kind("decode") == "decode_reference"
    assert sum(cost.decode(0).values()) > 26 * 6e-3


def test_formats_that_nobody_measured_make_a_prediction_less_sure() -> None:
    tensors = tuple(replace(t, format="IQ3_S") if t.experts else t for t in MODEL.tensors)
    other = replace(MODEL, tensors=tensors)
    made = plan(other, NONE, [], LOAD)
    assert made.prediction is not None
    assert made.prediction.error == pytest.approx(
        predicted(where=NONE).error + 0.2 * 0.39, abs=0.01
    )


def test_a_format_that_takes_arithmetic_is_slower_on_fast_memory_alone() -> None:
    heavy = matrices([replace(t, format="Q2_K") for t in MODEL.tensors])
    plain = matrices(MODEL.tensors)
    fast = speeds(ONE).gpus["CUDA0"]
    slow = replace(fast, copy_gb_s=800.0)
    assert product_s(heavy, fast) == pytest.approx(plain.nbytes / 2170e9)
    assert product_s(plain, fast) == pytest.approx(plain.nbytes / (4235e9 * 0.7))
    assert product_s(heavy, slow) == pytest.approx(product_s(plain, slow))


def test_a_machine_that_nobody_described_is_predicted_all_the_same() -> None:
    made = plan(MODEL, machine(24 << 30), [], LOAD)
    assert made.prediction is not None
    assert made.prediction.source == "estimated"
    assert made.prediction.error >= 0.4


def test_the_middle_of_a_prompt_sees_half_of_it() -> None:
    assert Moment(0, 1).scores == 1
    assert Moment(10, 1).scores == 11
    assert Moment(0, 4).scores == 1 + 2 + 3 + 4


def test_a_large_model_is_predicted_in_milliseconds() -> None:
    model, where = deepseek_v3(), there(BESIDE_H200, 16)
    made = plan(model, where, parse_rules(["exps=CPU"], where.device_names), LOAD)

    def taken() -> float:
        started = process_time()
        predict(made, model, where)
        return process_time() - started

    assert min(taken() for _ in range(5)) < 0.02


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0076, "7.6 of 7.6"), (0.0000312, "0.0312 of 0.0312"), (1.742, "1742 of 1742")],
)
def test_the_limit_is_told_in_plain_figures_of_depth_0(seconds: float, told: str) -> None:
    pace = Pace(0, 1, 1 / seconds, {"GPU products": seconds})
    assert limit_text(pace, waits_for_cores=False) == (
        f"reading weights from GPU memory: {told} ms a token at depth 0 (100%)"
    )
