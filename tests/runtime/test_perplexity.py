"""How a text is cut into windows, and what the scores are held against."""

import math

import numpy as np
import pytest
import torch

import hybrid
from hybrid.errors import UnsupportedModel, UsageError
from hybrid.gguf.reader import GgufFile
from hybrid.runtime.perplexity import Score, score_windows, text_windows
from hybrid.runtime.prepare import model_path
from hybrid.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    with GgufFile.open(model_path("demo")) as file:
        return Tokenizer.from_gguf(file)


def test_windows_start_with_bos_and_hold_every_token_once(tokenizer):
    text = "The quick brown fox jumps over the lazy dog, and then again. " * 5
    ids = tokenizer.encode(text, add_special=False)
    windows = text_windows(tokenizer, text, 8)
    assert all(window[0] == tokenizer.bos_id for window in windows)
    assert all(len(window) == 8 for window in windows[:-1])
    assert [token for window in windows for token in window[1:]] == ids


@pytest.mark.parametrize(("extra", "lengths"), [(-1, [5]), (0, [6]), (1, [6, 2]), (5, [6, 6])])
def test_a_last_window_is_kept_when_it_has_a_token(tokenizer, extra, lengths):
    text = tokenizer.decode([*range(300, 305 + extra)])
    ids = tokenizer.encode(text, add_special=False)
    windows = text_windows(tokenizer, text, len(ids) - extra + 1)
    assert [len(window) for window in windows][: len(lengths) - 1] == lengths[:-1]
    assert sum(len(window) - 1 for window in windows) == len(ids)
    assert len(windows) == len(lengths)


def test_texts_of_special_tokens_are_plain_text(tokenizer):
    bos = tokenizer.token_text(tokenizer.bos_id)
    [window] = text_windows(tokenizer, f"a {bos} b", 64)
    assert tokenizer.bos_id not in window[1:]


def test_the_heldout_text_has_the_published_count_of_tokens(tokenizer, shared):
    text = (shared / "models" / "heldout.txt").read_bytes().decode()
    windows = text_windows(tokenizer, text, 1024)
    assert sum(len(window) - 1 for window in windows) == 55_661
    assert len(windows) == 55


def test_a_window_needs_room_and_a_text_needs_tokens(tokenizer):
    with pytest.raises(UsageError, match="room"):
        text_windows(tokenizer, "text", 1)
    with pytest.raises(UsageError, match="empty"):
        text_windows(tokenizer, "", 8)


def test_a_hopeless_score_is_still_a_number():
    assert Score(1, 1e6).perplexity > 1e300


@pytest.fixture(scope="module")
def engine():
    return hybrid.load("demo", devices=("none",), context=64, ubatch=24)


def test_the_score_is_that_of_the_whole_logits(engine):
    [window] = text_windows(engine.tokenizer, "Once upon a time there was a king who", 64)
    [score] = score_windows(engine, [window])
    logits = engine.logits(window).astype(np.float64)
    chosen = logits[np.arange(len(window) - 1), window[1:]]
    expected = (np.log(np.exp(logits[:-1]).sum(-1)) - chosen).sum()
    assert score.tokens == len(window) - 1
    assert math.isclose(score.negative_log_likelihood, expected, rel_tol=1e-6)
    losses = np.log(np.exp(logits[:-1]).sum(-1)) - chosen
    assert math.isclose(score.squared, (losses**2).sum(), rel_tol=1e-6)


class Overflowing:
    """An engine whose logits are finite in the first window only."""

    def __init__(self):
        self.windows = 0

    def passes(self, window):
        self.windows += 1
        yield torch.full((len(window), 8), 0.0 if self.windows == 1 else math.nan)


def test_logits_that_are_not_finite_end_the_count_where_they_appear():
    scores = score_windows(Overflowing(), [[0, 1, 2], [0, 3]])
    assert next(scores) == Score(
        2, pytest.approx(2 * math.log(8)), pytest.approx(2 * math.log(8) ** 2)
    )
    with pytest.raises(UnsupportedModel) as error:
        next(scores)
    assert "not finite numbers\n  after 2 tokens" in str(error.value)


def test_perplexity_is_the_exponential_of_the_mean():
    assert Score(4, 8.0).perplexity == math.exp(2.0)


def test_the_standard_error_is_that_of_the_mean_times_the_perplexity():
    losses = np.array([1.0, 2.0, 4.0, 2.5])
    score = Score(4, float(losses.sum()), float((losses**2).sum()))
    of_mean = losses.std(ddof=1) / math.sqrt(4)
    assert score.perplexity_error == pytest.approx(math.exp(losses.mean()) * of_mean)
    assert Score(1, 2.0, 4.0).perplexity_error is None
    assert Score(2, 4.0, 8.0).perplexity_error == 0.0
    assert math.isfinite(Score(2, 2e6, 4e12).perplexity_error)


def test_perplexity_of_held_out_text_is_that_of_the_stored_logits(shared):
    models = shared / "models"
    if not models.is_dir():
        pytest.skip("../shared/models is not here")
    with np.load(models / "goldens.npz") as stored:
        ids, logits = stored["ids"].tolist(), stored["logits_f32"].astype(np.float64)
    engine = hybrid.load(models / "tiny-tales-bf16.gguf", devices=("none",), context=512)
    text = (models / "heldout.txt").read_text(encoding="utf-8")
    window = text_windows(engine.tokenizer, text, len(ids))[0]
    assert window == ids
    [score] = score_windows(engine, [window])
    losses = np.log(np.exp(logits[:-1]).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]
    assert abs(score.perplexity / math.exp(losses.mean()) - 1) < 0.003


@pytest.mark.parametrize("form", ["q8_0", "q4_k_m"])
def test_quantised_files_lose_what_the_stored_logits_lose(form, shared):
    """At 96 positions, few enough for llama.cpp's 8-bit activations to be worth 2 %; over the
    whole text they are worth 0.1 %.
    """
    models = shared / "models"
    if not models.is_dir():
        pytest.skip("../shared/models is not here")
    with np.load(models / "goldens.npz") as stored:
        ids, expected = stored["ids"].tolist(), stored[f"logits_{form}"].astype(np.float64)
    engine = hybrid.load(models / f"tiny-tales-{form}.gguf", devices=("none",), context=512)
    got = engine.logits(ids)[::4].astype(np.float64)
    targets = ids[1::4]

    def mean_loss(logits: np.ndarray) -> float:
        rows = logits[: len(targets)]
        chosen = rows[np.arange(len(targets)), targets]
        return float((np.log(np.exp(rows).sum(-1)) - chosen).mean())

    assert abs(math.exp(mean_loss(got) - mean_loss(expected)) - 1) < 0.02
