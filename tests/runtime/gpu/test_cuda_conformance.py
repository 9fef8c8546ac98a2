"""The conformance kit's models through CUDA, in its rows for float32, half floats, bfloat16 and
8-bit activations.

    steps     all tokens by decode steps: float32 activations where weights are floats
    prompts   the prompt by prompt passes, whose products take bfloat16
"""

import numpy as np
import pytest

from tests.runtime.gpu.placements import ignored_warnings
from tests.shared_folder import KIT, SHARED
from tools.conformance import models
from tools.conformance.models import BFLOAT, DEEP, EIGHT_BIT, EXACT, limits_by_format
from tools.conformance.rows import Limits, compare_logits

pytestmark = [pytest.mark.gpu, ignored_warnings]

# Every layout and routing of the kit; its other formats differ in the products' codes alone.
FORMATS = ("-F32", "-F16", "-BF16", "-Q8_0", "-Q8_0-gateup", "-Q8_0-split-00001-of-00004")
STEMS = [
    path.stem for path in sorted((KIT / "models").glob("*.gguf")) if path.stem.endswith(FORMATS)
]
assert STEMS or not SHARED.is_dir(), f"no models of the kit in {KIT}"
PLACES = {"on the GPU": [".*=CUDA0"], "experts in RAM": ["exps=CPU"]}
STEP = 8


@pytest.mark.parametrize("rules", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("ubatch", [STEP, 512], ids=["steps", "prompts"])
@pytest.mark.parametrize("stem", STEMS or ["nothing"])
def test_models_of_the_kit_agree_with_their_references(
    stem: str, ubatch: int, rules: list[str]
) -> None:
    limits = limits_by_format(stem)
    if ubatch > STEP and limits is not EIGHT_BIT:
        limits = BFLOAT
    check(stem, limits, kernels="fast", ubatch=ubatch, rules=rules)


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem.endswith("-F32")] or ["nothing"])
def test_exact_kernels_on_a_gpu_agree_in_float32(stem: str) -> None:
    check(stem, EXACT, kernels="exact", ubatch=512, rules=[".*=CUDA0"])


def check(stem: str, limits: Limits, *, kernels: str, ubatch: int, rules: list[str]) -> None:
    path = KIT / "models" / f"{stem}.gguf"
    if not path.is_file():
        pytest.skip("../shared/conformance is not here")
    with np.load(KIT / "goldens" / f"{models.first_part(stem)}.npz") as arrays:
        stored = dict(arrays)
    placed = {"devices": ("CUDA0",), "ubatch": ubatch, "rules": rules}
    logits = models.run(path, stored, "llama.cpp", kernels, **placed)
    within = DEEP[limits] if "lite27" in stem else limits
    row = compare_logits(stem, logits, stored["logits_ref"], within, stored["gap"])
    assert row.passed, row
