"""Wherever the plan puts things, the tokens are the same: the demo model under many placements."""

import json

import numpy as np
import pytest

import hybrid
from hybrid.runtime.options import CpuMoe
from placement.errors import DoesNotFit
from placement.plan_json import to_json

MIB = 1 << 20
PROMPT = "It was a dark and stormy night, and the old man said to his daughter"
TWO_GPUS = {"CUDA0": 64 * MIB, "CUDA1": 48 * MIB}
SHARED = {"simulate": TWO_GPUS, "shares": (1.0, 1.0)}

PLACEMENTS = {
    "all on the CPU": {"devices": ("none",)},
    "all on one GPU": {"simulate": {"CUDA0": 64 * MIB}, "rules": [".*=CUDA0"]},
    "experts in RAM": {"simulate": {"CUDA0": 64 * MIB}, "rules": ["exps=CPU"]},
    "layers over two GPUs": {**SHARED, "rules": ["exps=GPU"]},
    "two GPUs and the CPU": {**SHARED, "rules": ["exps=CPU"]},
    "an expert range on a GPU": {**SHARED, "rules": ["exps#0-6=CUDA1", "exps=CPU"]},
    "ranges that differ by matrix": {
        **SHARED,
        "rules": ["gate_exps#0-6=CUDA1,down_exps#3-11=CUDA0", "exps=CPU"],
    },
    "gate and up apart": {**SHARED, "rules": ["gate_exps=CUDA1", "up_exps=CUDA0"]},
    "every second op away": {
        **SHARED,
        "rules": [
            "attn_(q_b|k_b|output|norm)=CUDA1",
            "ffn_gate_inp=CPU",
            "shexp=CUDA1",
            "exp_probs=CUDA1",
        ],
    },
    "head and embedding away": {
        **SHARED,
        "rules": ["^token_embd=CUDA1", "^output_norm=CPU", "^output=CUDA0"],
    },
    "experts of the first two blocks in RAM": {**SHARED, "rules": [CpuMoe(layers=2)]},
    "two layers offloaded": {"simulate": {"CUDA0": 64 * MIB}, "gpu_layers": 2},
    "cache in RAM": {**SHARED, "rules": ["exps=CPU"], "cache_in_ram": True},
    "cache in RAM, two layers offloaded": {
        "simulate": {"CUDA0": 64 * MIB},
        "gpu_layers": 2,
        "cache_in_ram": True,
    },
    "memory-mapped": {"devices": ("none",), "mmap": True},
    "micro-batches of one": {"devices": ("none",), "ubatch": 1},
    "micro-batches of seven": {"devices": ("none",), "ubatch": 7},
}


def load(**options):
    return hybrid.load("demo", **{"context": 256, "kernels": "exact"} | options)


def greedy(engine, count: int = 24) -> list[int]:
    return [token.id for token in engine.generate(PROMPT, max_tokens=count, temperature=0)]


@pytest.fixture(scope="module")
def expected() -> list[int]:
    ids = greedy(load(devices=("none",), ubatch=512))
    assert len(ids) == 24
    return ids


@pytest.mark.parametrize("options", PLACEMENTS.values(), ids=PLACEMENTS.keys())
def test_greedy_tokens_do_not_depend_on_the_placement(options, expected):
    engine = load(**options)
    assert greedy(engine) == expected
    for name, memory in engine.memories.items():
        use = next(use for use in engine.plan.devices if use.name == name)
        mapped = options.get("mmap") and name == "CPU"
        assert memory.used.get("weights", 0) == (0 if mapped else use.weights_bytes)
        assert memory.used.get("cache", 0) == use.cache_bytes


def test_time_and_bytes_are_charged_to_the_devices_of_the_plan():
    engine = load(**SHARED, rules=["exps=CPU"])
    steps = [token.stats for token in engine.generate(PROMPT, max_tokens=6, temperature=0)]
    assert set(steps[-1].device_seconds) == {"CPU", "CUDA0", "CUDA1"}
    shares = [sum(step.device_seconds.values()) / step.seconds for step in steps]
    assert max(shares) <= 1
    assert max(shares) > 0.8, "no step's time is nearly all the devices'"


# Of one decode step: 256 values of width, 4 experts chosen of 16.
WIDTH, CHOSEN, SHARES = 256 * 4, 4 * 8, 4 * 4
CROSSINGS = {
    "all on the CPU": ({"devices": ("none",)}, 0),
    "embedding to the first GPU, one hop, nothing else": (
        {**SHARED, "rules": ["exps=GPU"]},
        WIDTH + WIDTH,
    ),
    "four layers of experts in RAM": (
        {"simulate": {"CUDA0": 64 * MIB}, "rules": ["exps=CPU"]},
        WIDTH + 4 * (WIDTH + CHOSEN + SHARES + WIDTH),
    ),
    "a router's bias away from its gate": (
        {"simulate": {"CUDA0": 64 * MIB}, "rules": [r"blk\.2\.exp_probs=CPU,exps=GPU"]},
        WIDTH + 16 * 4,
    ),
}


@pytest.mark.parametrize(("options", "crossed"), CROSSINGS.values(), ids=CROSSINGS.keys())
def test_exactly_the_activations_that_change_devices_cross(options, crossed):
    """Simulated GPUs share a torch device: a move that is left out shows only in these bytes."""
    *_, last = load(**options).generate(PROMPT, max_tokens=3, temperature=0)
    assert last.stats.crossing_bytes == crossed


def test_a_saved_plan_gives_the_same_run(tmp_path, expected):
    options = PLACEMENTS["an expert range on a GPU"]
    first = load(**options)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(to_json(first.plan)))
    second = hybrid.load("demo", simulate=TWO_GPUS, plan=path, kernels="exact")
    assert second.plan == first.plan
    assert greedy(second) == expected


def test_a_cache_filled_in_two_chunks_equals_one():
    engine = load(devices=("none",), cache_format="f32")
    ids = engine.encode(PROMPT)
    whole = engine.logits(ids)
    first = engine.logits(ids[:5])
    second = engine.extend(ids[5:])
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-4)


@pytest.mark.parametrize(
    ("cache_format", "allowed"), [("f16", 0.005), ("bf16", 0.05), ("q8_0", 0.05)]
)
def test_cache_formats_change_logits_by_no_more_than_their_rounding(cache_format, allowed):
    exact = load(devices=("none",), cache_format="f32")
    ids = exact.encode(PROMPT)
    other = load(devices=("none",), cache_format=cache_format)
    assert 0 < np.abs(other.logits(ids) - exact.logits(ids)).mean() < allowed


def test_a_gpu_too_small_for_its_rules_is_found_before_loading():
    with pytest.raises(DoesNotFit) as error:
        load(simulate={"CUDA0": 4 * MIB}, rules=[".*=CUDA0"])
    assert "CUDA0" in str(error.value)
    assert "try" in str(error.value)


def divergence(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean KL divergence of the two distributions a token, in nats."""
    found, expected = (log_softmax(logits.astype(np.float64)) for logits in (found, expected))
    return float((np.exp(expected) * (expected - found)).sum(-1).mean())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@pytest.mark.parametrize("name", ["all on the CPU", "experts in RAM", "two GPUs and the CPU"])
def test_fast_kernels_change_logits_by_no_more_than_eight_bit_activations(name):
    exact, fast = load(**PLACEMENTS[name]), load(**PLACEMENTS[name], kernels="fast")
    ids = exact.encode(PROMPT)
    wanted, found = exact.logits(ids), fast.logits(ids)
    assert 0 < divergence(found, wanted) < 2e-3
    one_by_one = np.concatenate([fast.logits(ids[:1]), *(fast.extend([i]) for i in ids[1:])])
    assert 0 < divergence(one_by_one, wanted) < 2e-3


def test_where_no_product_is_on_the_cpu_fast_kernels_change_nothing():
    options = PLACEMENTS["all on one GPU"]
    exact, fast = load(**options), load(**options, kernels="fast")
    ids = exact.encode(PROMPT)
    np.testing.assert_array_equal(fast.logits(ids), exact.logits(ids))
