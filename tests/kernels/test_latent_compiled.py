"""What the kernels of `latent_block` and `step` need of GPUs that are not here."""

import pytest

from tests.kernels.aot import CAPABILITIES, MOST_SHARED_BYTES, cuda_resources

KERNELS = {
    "latent_block/prepare.cu": [
        "prepare<Q8_0, true, 1, 256>",
        "prepare<Whole<BF16>, true, 8, 256>",
        "prepare<Q4_K, false, 8, 256>",
    ],
    "latent_block/unfold.cu": [
        "unfold<Q8_0, FloatPart, 1, 256, 4>",
        "unfold<Q8_0, HalfPart, 1, 256, 4>",
        "unfold<Whole<BF16>, FloatPart, 8, 256, 4>",
        "unfold<Whole<BF16>, BfloatPart, 8, 256, 4>",
    ],
    "step/gpu.cu": ["begin_step<256, 2>", "argmax<256, 16>"],
}


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
@pytest.mark.parametrize("path", KERNELS)
def test_nothing_lies_in_slow_local_memory(path, capability):
    for name, needs in cuda_resources(path, KERNELS[path], capability).items():
        assert (needs.spill_bytes, needs.stack_bytes) == (0, 0), name
        assert needs.registers <= 128, name  # two blocks of a multiprocessor
        assert needs.static_shared_bytes < MOST_SHARED_BYTES[capability], name
