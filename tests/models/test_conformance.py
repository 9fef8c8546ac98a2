"""Every stored model against the float64 logits of its own decoded weights."""

from pathlib import Path

import numpy as np
import pytest

from tests.models.running import ABSORBED, EXPANDED, logits_of
from tests.shared_folder import KIT

GOLDENS = sorted((KIT / "goldens").glob("*.npz"))
LARGEST, NMSE, DIVERGENCE, CLEAR_GAP = 1e-4, 1e-10, 1e-9, 1e-3


def golden(stem: str) -> tuple[Path, dict[str, np.ndarray]]:
    path = KIT / "models" / f"{stem}.gguf"
    if not path.exists():
        pytest.skip("../shared is not here")
    return path, dict(np.load(KIT / "goldens" / f"{stem}.npz"))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def assert_agree(found: np.ndarray, expected: np.ndarray, gap: np.ndarray | None = None) -> None:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    off, sure = found - expected, log_softmax(expected)
    assert np.abs(off).max() < LARGEST
    assert (off**2).sum() / (expected**2).sum() < NMSE
    assert (np.exp(sure) * (sure - log_softmax(found))).sum(-1).mean() < DIVERGENCE
    if gap is not None:
        clear = gap > CLEAR_GAP
        assert (found.argmax(-1) == expected.argmax(-1))[clear].all()


@pytest.mark.parametrize("stem", [path.stem for path in GOLDENS] or ["nothing"])
def test_model_agrees_with_its_float64_logits(stem: str) -> None:
    path, z = golden(stem)
    tokens, prompt = z["tokens"].tolist(), int(z["n_prompt"])
    steps = [prompt] + [1] * (len(tokens) - prompt)
    found = logits_of(path, tokens, steps, conventions="llama.cpp", absorb_up_to=8).numpy()
    assert_agree(found, z["logits_ref"], z["gap"])
    if "logits_ref_hf" in z:
        assert_agree(logits_of(path, tokens, steps).numpy(), z["logits_ref_hf"])


@pytest.mark.parametrize("form", [ABSORBED, EXPANDED], ids=["absorbed", "expanded"])
@pytest.mark.parametrize("stem", ["v2lite-legacy-F32", "v3-mla-Q8_0", "v3-ik-Q8_0", "v2-mla-Q8_0"])
def test_either_form_alone_agrees_with_the_float64_logits(stem: str, form: int) -> None:
    path, z = golden(stem)
    tokens = z["tokens"].tolist()
    found = logits_of(path, tokens, [33, 5, 2], conventions="llama.cpp", absorb_up_to=form)
    assert_agree(found.numpy(), z["logits_ref"], z["gap"])


@pytest.mark.parametrize("stem", ["kimi-mla-F32", "v2g-mla-Q8_0"])
def test_conventions_change_what_differs_between_the_projects(stem: str) -> None:
    path, z = golden(stem)
    tokens = z["tokens"].tolist()
    trained = logits_of(path, tokens, [40]).numpy()
    assert np.abs(trained - z["logits_ref"]).max() > 0.1
