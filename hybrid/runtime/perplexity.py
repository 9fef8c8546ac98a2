"""How well a model foretells a text: exp of the mean negative log likelihood of its tokens.

    BOS t0 t1 ... t(N-2) | BOS t(N-1) ... | ... | BOS the rest
        every token but the BOS is scored, once, from those before it in its window

llama.cpp scores the second half of each window alone: the two programs' figures differ.

No logits are kept: each micro-batch's rows are folded into sums.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybrid.errors import TokenizerError, UnsupportedModel, UsageError
from hybrid.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

    from hybrid.runtime.engine import Engine

ROWS_AT_ONCE = 64  # 64 rows of 130 000 float64 logits are 66 MB


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over what was scored so far.

    squared   of the squares of each token's negative log likelihood
    """

    tokens: int = 0
    negative_log_likelihood: float = 0.0
    squared: float = 0.0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            self.tokens + other.tokens,
            self.negative_log_likelihood + other.negative_log_likelihood,
            self.squared + other.squared,
        )

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.negative_log_likelihood / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.mean, 700.0))  # a float ends at exp(709)

    @property
    def perplexity_error(self) -> float | None:
        """perplexity * standard error of the mean, as llama.cpp has it; None below two tokens."""
        if self.tokens < 2:
            return None
        variance = max(self.squared / self.tokens - self.mean**2, 0.0)
        return min(self.perplexity * math.sqrt(variance / (self.tokens - 1)), sys.float_info.max)


def text_windows(tokenizer: Tokenizer, text: str, size: int) -> list[list[int]]:
    """Windows of `size` ids, each BOS and the text's next size - 1 tokens; the last may be shorter.

    Raises UsageError for a text without tokens or a size without room for one, TokenizerError for
    a vocabulary without BOS.
    """
    if tokenizer.bos_id is None:
        raise TokenizerError(
            "the vocabulary has no begin-of-text token",
            remedy="perplexity needs a model whose windows can start with one",
        )
    if size < 2:
        raise UsageError(
            f"a window of {size} tokens has room for the begin-of-text token only",
            remedy="a context of 512, or any number above 1: -c 512",
        )
    ids = tokenizer.encode(text, add_special=False, parse_special=False)
    if not ids:
        raise empty_text()
    step = size - 1
    return [[tokenizer.bos_id, *ids[at : at + step]] for at in range(0, len(ids), step)]


def empty_text() -> UsageError:
    """The error for a text without tokens."""
    return UsageError("the text is empty", remedy="give a text with at least one letter: -f FILE")


def score_windows(engine: "Engine", windows: Sequence[Sequence[int]]) -> Iterator[Score]:
    """The sums after each window. Raises UnsupportedModel when logits are not finite."""
    total = Score()
    for window in windows:
        found = _window_score(engine, window)
        if not math.isfinite(found.negative_log_likelihood):
            raise UnsupportedModel(
                "the model's logits are not finite numbers",
                f"after {total.tokens} tokens",
                remedy="fetch the file again, or use another conversion of the model",
            )
        total += found
        yield total


def _window_score(engine: "Engine", window: Sequence[int]) -> Score:
    """Of all ids of the window but the first."""
    total, position = Score(), 1
    for rows in engine.passes(window):
        targets = window[position : position + len(rows)]  # one fewer in the window's last pass
        for first in range(0, len(targets), ROWS_AT_ONCE):
            part = targets[first : first + ROWS_AT_ONCE]
            total += _rows_score(rows[first : first + len(part)], part)
        position += len(rows)
    return total


def _rows_score(rows: "Tensor", targets: Sequence[int]) -> Score:
    """Of logsumexp(row) - row[target]; rows [n, vocabulary] float32, summed in float64."""
    rows = rows.double()
    hit = rows[list(range(len(targets))), list(targets)]
    losses = rows.logsumexp(-1) - hit
    return Score(len(targets), float(losses.sum()), float(losses.square().sum()))
