"""Decode steps of GPU blocks through the loader and the engine, on emulated GPUs."""

import numpy as np
import pytest

import hybrid
from tests.runtime.gpu.emulated import emulated_logits
from tools.make_model import make_model

GIB = 1 << 30
ONE, TWO = {"CUDA0": GIB}, {"CUDA0": GIB, "CUDA1": GIB}
PASSES = [[0, 5, 17, 33, 9, 21, 40], [3], [11], [7, 300]]
ON_GPU = ["GpuBlock"] * 3
ENDS_ON_GPU = [*ON_GPU, "GpuHead"]

PLACEMENTS = {
    "all on the GPU": ({"simulate": ONE, "rules": [".*=CUDA0"]}, ENDS_ON_GPU),
    "experts in RAM": ({"simulate": ONE, "rules": ["exps=CPU"]}, ENDS_ON_GPU),
    "experts of the second block in RAM": (
        {"simulate": ONE, "rules": [r"blk\.1\..*exps=CPU", "exps=GPU"]},
        ENDS_ON_GPU,
    ),
    "experts in RAM on both sides of those on the GPU": (
        {"simulate": ONE, "rules": ["exps#2-5=CUDA0", "exps=CPU"]},
        ["GpuBlock", "PlacedBlock", "PlacedBlock", "NormedHead"],
    ),
    "the first experts on the GPU": (
        {"simulate": ONE, "rules": ["exps#0-3=CUDA0", "exps=CPU"]},
        ENDS_ON_GPU,
    ),
    "layers over two GPUs": (
        {
            "simulate": TWO,
            "rules": [r"blk\.[01]\..*attn=CUDA0", r"blk\.2\..*attn=CUDA1", "exps=GPU"],
        },
        ENDS_ON_GPU,
    ),
    "two GPUs and the CPU": (
        {
            "simulate": TWO,
            "rules": [r"blk\.[01]\..*attn=CUDA0", r"blk\.2\..*attn=CUDA1", "exps=CPU"],
        },
        ENDS_ON_GPU,
    ),
    "layers in turn on two GPUs": (
        {
            "simulate": TWO,
            "rules": [r"blk\.[02].*attn=CUDA0", r"blk\.1.*attn=CUDA1", "output=CUDA0", "exps=CPU"],
        },
        ENDS_ON_GPU,
    ),
    "blocks out of turn": (
        {
            "simulate": ONE,
            "rules": [r"blk\.2\..*_exps=CPU", r"blk\.[02]\..*=CUDA0", ".*=CPU"],
        },
        ["GpuBlock", "PlacedBlock", "GpuBlock", "NormedHead"],
    ),
    "the head in RAM": (
        {"simulate": ONE, "rules": ["^output=CPU", "exps=CPU"]},
        [*ON_GPU, "NormedHead"],
    ),
    "the last block alone on the GPU": (
        {"simulate": ONE, "gpu_layers": 2, "rules": ["exps=CPU"]},
        ["PlacedBlock", "PlacedBlock", "GpuBlock", "GpuHead"],
    ),
    "an operation of the second block away": (
        {"simulate": ONE, "rules": [r"blk\.1\.attn_output=CPU", "exps=CPU"]},
        ["GpuBlock", "PlacedBlock", "GpuBlock", "GpuHead"],
    ),
}
MODELS = {
    "v3": {},
    "keys and values in one matrix": {"layout": "legacy"},
    "without a query latent": {"query_latent": 0, "heads": 3},
    "softmax routing": {"gating": 1, "bias": False, "normalise": False, "groups": None},
    "a tied head": {"tied": True},
    "gate and up in one matrix": {"merged": True},
}


def exact(path, **options):
    engine = hybrid.load(path, devices=("none",), context=64, kernels="exact", **options)
    return engine.logits([token for ids in PASSES for token in ids])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights that GPU kernels multiply without rounding."""
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_placement_computes_what_the_reference_does(name, model, interpreter):
    options, kinds = PLACEMENTS[name]
    options = {"context": 64, "ubatch": 8, "cache_format": "f32", **options}
    found, logits = interpreter.submit(emulated_logits, model, PASSES, options).result()
    assert found == kinds
    np.testing.assert_allclose(logits, exact(model, cache_format="f32"), atol=2e-3)


@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_computes_what_the_reference_does(name, tmp_path, interpreter):
    path = make_model(tmp_path / "model.gguf", type="F32", **MODELS[name])
    options = {"context": 64, "ubatch": 8, "cache_format": "f32", "simulate": ONE}
    options["rules"] = ["exps#0-3=CUDA0", "exps=CPU"]
    _, logits = interpreter.submit(emulated_logits, path, PASSES, options).result()
    np.testing.assert_allclose(logits, exact(path, cache_format="f32"), atol=2e-3)


@pytest.mark.parametrize("cache_format", ["f16", "q8_0"])
def test_caches_of_other_formats_round_no_more_than_the_references(
    cache_format, model, interpreter
):
    options = {"context": 64, "ubatch": 8, "cache_format": cache_format, "simulate": ONE}
    _, logits = interpreter.submit(emulated_logits, model, PASSES, options).result()
    wanted, unrounded = (exact(model, cache_format=name) for name in (cache_format, "f32"))
    rounding = np.abs(wanted - unrounded).mean()
    assert 0 < rounding < 0.1
    assert np.abs(logits - wanted).mean() < rounding


@pytest.mark.parametrize("format_name", ["Q8_0", "Q5_1"])
def test_quantised_weights_are_multiplied_with_rounded_activations(
    format_name, tmp_path, interpreter
):
    path = make_model(tmp_path / "model.gguf", type=format_name)
    options = {"context": 64, "ubatch": 8, "simulate": ONE, "rules": ["exps#0-3=CUDA0", "exps=CPU"]}
    _, logits = interpreter.submit(emulated_logits, path, PASSES, options).result()
    on_cpu = hybrid.load(path, devices=("none",), context=64)  # rounds activations likewise
    rounded = on_cpu.logits([token for ids in PASSES for token in ids])
    wanted = exact(path)
    assert divergence(logits, wanted) < 2 * divergence(rounded, wanted) + 1e-4


def divergence(found: np.ndarray, wanted: np.ndarray) -> float:
    """Median over tokens of the KL divergence, in nats: a router's tie may fall either way."""
    found, wanted = (
        rows - np.log(np.exp(rows.astype(np.float64)).sum(-1, keepdims=True))
        for rows in (found, wanted)
    )
    return float(np.median((np.exp(wanted) * (wanted - found)).sum(-1)))
