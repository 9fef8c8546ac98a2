"""From logits to one token id: greedy, or temperature after top-k, top-p, min-p (llama.cpp's
order)."""

import secrets

import torch
from torch import Tensor

from hybrid.errors import UnsupportedModel
from hybrid.runtime.options import SamplingOptions

__all__ = ["Sampler", "SamplingOptions"]

# Below this every draw is the best token already; float32 would divide by nothing.
LEAST_TEMPERATURE = 1e-30


class Sampler:
    """Draws token ids; the same seed and logits give the same ids."""

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._random = torch.Generator()
        self.seed = secrets.randbits(32) if options.seed is None else int(options.seed)
        self._random.manual_seed(self.seed)

    def sample(self, logits: Tensor) -> int:
        """logits [vocabulary] float32 on the CPU -> one id.

        Raises UnsupportedModel when logits are not finite.
        """
        if not bool(torch.isfinite(logits).all()):
            raise UnsupportedModel(
                "the model's logits are not finite numbers",
                f"{int((~torch.isfinite(logits)).sum())} of {len(logits)}",
                remedy="fetch the file again, or use another conversion of the model",
            )
        if self.options.temperature == 0:
            return int(logits.argmax())
        kept, ids = self._kept(logits)
        below_best = kept - kept[0]  # at most 0, so that no temperature can overflow
        temperature = max(self.options.temperature, LEAST_TEMPERATURE)
        probability = torch.softmax(below_best / temperature, dim=-1)
        return int(ids[torch.multinomial(probability, 1, generator=self._random)])

    def _kept(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and ids that survive top-k, top-p and min-p, most probable first."""
        options = self.options
        count = min(options.top_k or len(logits), len(logits))
        kept, ids = torch.topk(logits, count)
        probability = torch.softmax(kept, dim=-1)
        before = probability.cumsum(-1) - probability
        keep = before < options.top_p
        keep &= probability >= options.min_p * probability[0]
        keep[0] = True
        return kept[keep], ids[keep]
