"""From logits to one token id: greedy, or temperature after top-k, top-p, min-p (llama.cpp's
order)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.errors import UsageError


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How a token is drawn. The defaults are llama.cpp's.

    temperature   0 takes the most probable token
    top_k         keep the k most probable, 0 keeps all
    top_p         keep the smallest set whose probability reaches p, 1 keeps all
    min_p         drop tokens below min_p times the best one's probability, 0 drops none
    seed          None draws a fresh one
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, value, good in (
            ("temperature", self.temperature, 0 <= self.temperature < float("inf")),
            ("top-k", self.top_k, self.top_k >= 0),
            ("top-p", self.top_p, 0 < self.top_p <= 1),
            ("min-p", self.min_p, 0 <= self.min_p <= 1),
        ):
            if not good:
                raise UsageError(
                    f"{name} {value} is out of range",
                    remedy="temperature >= 0, top-k >= 0, 0 < top-p <= 1, 0 <= min-p <= 1",
                )


class Sampler:
    """Draws token ids; the same seed and logits give the same ids."""

    def __init__(self, options: SamplingOptions) -> None:
        self.options = options
        self._random = torch.Generator()
        self.seed = self._random.seed() if options.seed is None else options.seed
        self._random.manual_seed(self.seed)

    def sample(self, logits: Tensor) -> int:
        """logits [vocabulary] float32 on the CPU -> one id."""
        if self.options.temperature == 0:
            return int(logits.argmax())
        kept, ids = self._kept(logits)
        probability = torch.softmax(kept / self.options.temperature, dim=-1)
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
