"""From logits to one token id: greedy, or temperature after top-k, top-p, min-p (llama.cpp's
order)."""

import secrets
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hybrid.errors import UnsupportedModel, UsageError
from hybrid.runtime.options import SamplingOptions

__all__ = ["Sampler", "SamplingOptions", "sampling_options"]

# Below this every draw is the best token already; float32 would divide by nothing.
LEAST_TEMPERATURE = 1e-30
COLUMN_ROWS = 64  # of the table whose columns' maxima bound the k greatest logits from below


def sampling_options(given: SamplingOptions | None, fields: Mapping[str, Any]) -> SamplingOptions:
    """The options given, or those of the fields. Raises UsageError for both at once."""
    if given is not None and fields:
        raise UsageError(
            f"sampling and {', '.join(fields)} are given at once",
            remedy="one of them: sampling=SamplingOptions(...), or its fields",
        )
    return given or SamplingOptions.from_keywords(**fields)


class Sampler:
    """Draws token ids; the same seed and logits give the same ids."""

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._random = torch.Generator()
        self.seed = secrets.randbits(32) if options.seed is None else int(options.seed)
        self._random.manual_seed(self.seed)

    def sample(self, logits: Tensor, best: tuple[int, float] | None = None) -> int:
        """logits [vocabulary] float32 on the CPU -> one id.

        best   id and value of the greatest, where they are known: greedy sampling looks no further

        Raises UnsupportedModel when logits are not finite.
        """
        if self.options.temperature == 0 and best is not None and isfinite(best[1]):
            return best[0]
        values = logits.numpy()
        # NaN makes both NaN: sooner done than asking every number.
        if not (isfinite(values.min()) and isfinite(values.max())):
            raise UnsupportedModel(
                "the model's logits are not finite numbers",
                f"{int((~torch.isfinite(logits)).sum())} of {len(logits)}",
                remedy="fetch the file again, or use another conversion of the model",
            )
        if self.options.temperature == 0:
            return int(values.argmax())
        kept, ids = self._kept(logits)
        below_best = kept - kept[0]  # at most 0, so that no temperature can overflow
        temperature = max(self.options.temperature, LEAST_TEMPERATURE)
        probability = torch.softmax(below_best / temperature, dim=-1)
        return int(ids[torch.multinomial(probability, 1, generator=self._random)])

    def _kept(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and ids that survive top-k, top-p and min-p, most probable first."""
        options = self.options
        count = min(options.top_k or len(logits), len(logits))
        kept, ids = _greatest(logits, count)
        probability = torch.softmax(kept, dim=-1)
        before = probability.cumsum(-1) - probability
        keep = before < options.top_p
        keep &= probability >= options.min_p * probability[0]
        keep[0] = True
        return kept[keep], ids[keep]


def _greatest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` greatest logits and their ids, in order.

    Of a table's columns at least `count` hold one as great as the count-th greatest maximum of a
    column, so only logits from there on are looked at: sooner done than topk over all of them.
    """
    columns = len(logits) // COLUMN_ROWS
    if columns <= count:
        kept, ids = torch.topk(logits, count)
        return kept, ids
    values = logits.numpy()
    maxima = values[: COLUMN_ROWS * columns].reshape(COLUMN_ROWS, columns).max(0)
    candidates = torch.from_numpy(np.flatnonzero(values >= np.partition(maxima, -count)[-count]))
    kept, places = torch.topk(logits[candidates], count)
    return kept, candidates[places]
