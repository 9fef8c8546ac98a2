"""From a pass's last block to logits: the output norm, then the head, of the rows wanted."""

from dataclasses import dataclass

from torch import Tensor

from hybrid.models.parts import Linear, Norm


@dataclass(frozen=True, slots=True)
class NormedHead:
    """h [T, D] -> [rows, vocabulary], of the last `rows` tokens."""

    norm: Norm
    head: Linear

    def __call__(self, h: Tensor, rows: int) -> Tensor:
        return self.head(self.norm(h[len(h) - rows :]))

    def greatest(self) -> tuple[int, float] | None:
        return None
