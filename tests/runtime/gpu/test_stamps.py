"""Stamped steps: the arithmetic of stamps, and engines on emulated GPUs that are listened to."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import hybrid
from hybrid.runtime.expert_usage import ExpertUsage
from hybrid.runtime.gpu import build
from hybrid.runtime.gpu.replay import EmulatedReplay, Launches
from hybrid.runtime.gpu.stamps import CLOSING, NO_LAYER, Ran, StampCost, Stamps
from tests.runtime.gpu.emulated import load_emulated
from tests.runtime.gpu.test_steps import TWO
from tests.runtime.listeners import Ear, assert_times_are_whole
from tools.make_model import make_model

GIB = 1 << 30
OPTIONS = {"context": 64, "ubatch": 16, "cache_format": "f32", "threads": 1}
IDS = [(7 * i * i + 3) % 320 for i in range(19)]
SPLIT = [r"blk\.[01]\..*attn=CUDA0", r"blk\.2\..*attn=CUDA1"]
PLACES: dict[str, dict[str, Any]] = {
    "experts in RAM": {"simulate": {"CUDA0": GIB}, "rules": ["exps=CPU"]},
    "all on the GPU": {"simulate": {"CUDA0": GIB}, "rules": [".*=CUDA0"]},
    "experts on both": {"simulate": {"CUDA0": GIB}, "rules": ["exps#0-3=CUDA0", "exps=CPU"]},
    "two GPUs and the CPU": {"simulate": TWO, "rules": [*SPLIT, "exps=CPU"]},
}


def stamped(
    us: Sequence[tuple[int, str, float]], cost_us: float = 1.0, computed_us: Sequence[float] = ()
) -> Any:
    """Spans of a chain of two blocks whose stamps stand so far apart: (block, what, us)."""
    stamps = Stamps(torch.device("cpu"), 0, 2, torch.zeros(2, 4, dtype=torch.int32))
    stamps.begin()
    for block, what, _ in us:
        stamps.mark(block, what)
    stamps.end()
    at = 5_000_000
    for number, (_, _, spent) in enumerate([(0, "", 0.0), *us]):
        at += round(1000 * spent)
        stamps._host[number] = at
    for number in range(1, CLOSING + 1):
        stamps._host[len(us) + number] = at + round(1000 * cost_us * number)
    return stamps.spans([each * 1e-6 for each in computed_us], Ran(0.0, 1.0))


def test_a_stamps_own_cost_is_taken_out_of_every_span():
    found = stamped([(NO_LAYER, "begin", 3), (0, "attention", 11), (0, "dense", 6)])
    assert found.parts == pytest.approx({"crossing": 2e-6, "attention": 10e-6, "dense": 5e-6})
    assert found.cost_s == pytest.approx((4 + CLOSING) * 1e-6)


def compared(pairs, stamps=100, of_nothing_s=1e-6, share=1.0):
    """Steps without stamps and with them, in turn: (launch, run) each, microseconds."""
    cost = StampCost(share)
    for plain, with_stamps in pairs:
        cost.plain(Ran(plain[0] * 1e-6, plain[1] * 1e-6))
        cost.stamped(Ran(with_stamps[0] * 1e-6, with_stamps[1] * 1e-6), stamps, of_nothing_s)
    return cost


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_stamp_costs_a_share_of_one_of_nothing(share):
    assert compared([((5, 700), (9, 900))] * 8, share=share).seconds == pytest.approx(share * 1e-6)


def test_stamps_cost_what_steps_take_longer_with_them():
    few = compared([((5, 700), (9, 740))] * 3)
    assert few.step_s == pytest.approx(100e-6)
    # The GPU's clock changes half way; one step is disturbed.
    enough = compared(
        [((5, 700), (9, 740))] * 4 + [((5, 70), (9, 110))] * 4 + [((5, 70), (9, 9e3))]
    )
    assert enough.step_s == pytest.approx(44e-6)


def test_a_stamped_step_with_none_before_it_is_compared_with_nothing():
    cost = StampCost(1.0)
    cost.plain(Ran(9e-6, 0.5))  # before the first of them alone
    for _ in range(8):
        cost.stamped(Ran(9e-6, 1.0), 100, 1e-6)
    assert cost.step_s == pytest.approx(100e-6)


def test_what_a_slower_launch_and_waiting_hide_is_no_cost_of_a_step():
    cost = compared([((5, 700), (25, 684))] * 16, stamps=40, of_nothing_s=0.5e-6)
    assert cost.step_s == pytest.approx(4e-6)


@pytest.mark.parametrize(("run_us", "step_us"), [(500, 0), (1070, 70), (100_000, 100)])
def test_an_uneven_step_is_not_taken_for_the_cost_of_stamps(run_us, step_us):
    cost = compared([((0, 1000), (0, run_us))] * 16)
    assert cost.step_s == pytest.approx(step_us * 1e-6)


def test_spans_are_told_by_block_and_dense_blocks_have_no_experts():
    ending = [(NO_LAYER, "head", 4), (NO_LAYER, "copied", 8)]
    blocks = [(0, "attention", 5), (0, "dense", 3), (1, "attention", 6), (1, "router", 2)]
    found = stamped([(NO_LAYER, "begin", 1), *blocks, (1, "experts", 9), *ending])
    assert found.attention_s.tolist() == pytest.approx([4e-6, 5e-6])
    assert found.experts_s.tolist() == pytest.approx([float("nan"), 9e-6], nan_ok=True)
    assert found.parts["experts"] == pytest.approx(9e-6)
    assert found.parts["head"] == pytest.approx(3e-6)
    assert found.parts["crossing"] == pytest.approx(7e-6)


@pytest.mark.parametrize(
    ("shared_us", "receive_us", "computed_us", "crossing_us"),
    [
        (0, 50, 40, 10),  # nothing hides the ways
        (20, 30, 40, 5),  # the way there is hidden
        (2, 48, 40, 8),  # a part of it
        (60, 3, 40, 3),  # the CPU was done long before
        (0, 30, 40, 0),  # clocks that disagree
    ],
)
def test_a_wait_is_told_from_a_crossing(shared_us, receive_us, computed_us, crossing_us):
    shared = [(1, "dense", shared_us)] if shared_us else []
    spans = [(NO_LAYER, "begin", 0), (1, "router", 2), *shared, (1, "receive", receive_us)]
    found = stamped(spans, cost_us=0.0, computed_us=[computed_us])
    assert found.parts["crossing"] == pytest.approx(crossing_us * 1e-6, abs=1e-12)
    assert found.parts["waiting"] == pytest.approx((receive_us - crossing_us) * 1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights that GPU kernels multiply without rounding."""
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


def heard(path: Path, options: dict[str, Any]) -> tuple[list[int], list[int], Ear, ExpertUsage]:
    """Greedy tokens without and with a listener, and what it heard."""
    engine, ear = load_emulated(path, **OPTIONS, **options), Ear()
    alone = [token.id for token in engine.generate(IDS, max_tokens=5, temperature=0)]
    engine.forget()
    engine.listen(ear)
    tokens = [token.id for token in engine.generate(IDS, max_tokens=5, temperature=0)]
    return alone, tokens, ear, engine.expert_usage


@pytest.fixture(scope="module", params=PLACES)
def run(request, model, interpreter):
    return request.param, *interpreter.submit(heard, model, PLACES[request.param]).result()


def test_tokens_are_the_same_with_and_without_stamps(run):
    _, alone, tokens, _, _ = run
    assert tokens == alone


def test_stamped_parts_sum_to_the_step_on_every_gpu(run):
    name, _, _, ear, _ = run
    assert_times_are_whole(ear)
    steps = [times for _, prompt, times in ear.times if not prompt]
    assert steps
    seen = dict.fromkeys(PLACES[name]["simulate"], 0.0)
    for times in steps:
        assert set(times.parts) == {"CPU", *PLACES[name]["simulate"]}
        for device in PLACES[name]["simulate"]:
            parts = Counter(times.parts[device])  # a part that took no time is left out
            known = parts["attention"] + parts["experts"] + parts["crossing"]
            seen[device] = max(seen[device], known / (known + parts["other"]))
        assert all(layer.attention_s > 0 for layer in times.layers)
        assert [layer.experts_s is None for layer in times.layers] == [True, False, False]
    assert min(seen.values()) > 5 / 6, "the stamps see less than the host does, in every step"


def test_the_cpu_computes_and_waits_while_a_gpu_runs_the_step(run):
    name, _, _, ear, _ = run
    for _, prompt, times in ear.times:
        parts = times.parts["CPU"]
        assert parts["waiting"] > 0
        assert ("experts" in parts) == (name != "all on the GPU")
        assert ("sampling" in parts) == (not prompt)


def test_prompts_and_stamped_tokens_count_their_choices(run):
    _, _, _, ear, usage = run
    steps = len([prompt for _, prompt, _ in ear.times if not prompt])
    assert usage.counted_tokens == 16 + steps  # three tokens of the prompt were a step
    assert {layer: sum(counts) for layer, counts in usage.layers.items()} == {
        1: 3 * usage.counted_tokens,
        2: 3 * usage.counted_tokens,
    }


class RehearsedReplay(EmulatedReplay):
    """Runs its launches when it is made, as a graph is tried before it is captured."""

    made = 0

    def __init__(self, launches: Launches) -> None:
        super().__init__(launches)
        self.start()
        self.wait()
        RehearsedReplay.made += 1


def loaded_with_rehearsals(path: Path) -> tuple[int, ExpertUsage]:
    """Replays that were tried, and what a loaded engine has counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "EmulatedReplay", RehearsedReplay)
        engine = load_emulated(path, **OPTIONS, **PLACES["all on the GPU"])
    return RehearsedReplay.made, engine.expert_usage


def test_steps_that_are_tried_while_loading_count_no_choices(model, interpreter):
    tried, usage = interpreter.submit(loaded_with_rehearsals, model).result()
    assert tried == 5  # four sizes, and the step with stamps
    assert usage.counted_tokens == 0
    assert {sum(counts) for counts in usage.layers.values()} == {0}


def test_the_cpu_counts_the_choices_of_a_prompt_alike(run, model):
    engine = hybrid.load(model, devices=("none",), kernels="exact", **OPTIONS)
    engine.listen(Ear())
    engine.fill(IDS[:16])
    _, _, _, _, usage = run
    for layer, counts in engine.expert_usage.layers.items():
        assert all(a <= b for a, b in zip(counts, usage.layers[layer], strict=True))
