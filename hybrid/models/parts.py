"""What a model is built from, handed in by the loader; nothing here says where anything runs.

A model file asks `Parts` for its operations by tensor name and wires them up. Whether a linear
runs on a GPU, on the CPU, or across a crossing is the loader's business (`hybrid.runtime.loader`),
decided by the placement plan.

Shapes: T tokens, D embedding length, H heads, E experts, K experts used.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from kernels.router import RouterRules


@dataclass(frozen=True, slots=True)
class Step:
    """One forward pass: `tokens` tokens at positions start .. start+tokens-1 of one sequence."""

    start: int
    tokens: int

    @property
    def end(self) -> int:
        return self.start + self.tokens

    def positions(self, device: torch.device) -> Tensor:
        """[T] int64."""
        return torch.arange(self.start, self.end, device=device)


class Embedding(Protocol):
    def __call__(self, ids: Tensor) -> Tensor:
        """ids [T] int64 -> [T, D] float32."""
        ...


class Linear(Protocol):
    def __call__(self, x: Tensor) -> Tensor:
        """x [T, columns] float32 -> [T, rows] float32, y = x Wᵀ."""
        ...


class Norm(Protocol):
    def __call__(self, x: Tensor) -> Tensor:
        """x [T, width] float32 -> the same shape, root-mean-square normalised and scaled."""
        ...


class HeadLinear(Protocol):
    """A weight [H, rows, columns], one matrix per head."""

    def __call__(self, x: Tensor, heads: slice, *, transposed: bool = False) -> Tensor:
        """y[t, h] = W[h] x[t, h], or W[h]ᵀ x[t, h].

        x         [T, h, columns] float32, or [T, h, rows] when transposed; h = 1 gives every head
                  the same input
        heads     which heads
        returns   [T, len(heads), rows], or [T, len(heads), columns] when transposed
        """
        ...


class Router(Protocol):
    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, D] -> chosen [T, K] int64, share [T, K] float32."""
        ...


class Experts(Protocol):
    """The routed experts of one layer, wherever they are."""

    def __call__(self, x: Tensor, chosen: Tensor, share: Tensor) -> Tensor:
        """Σ_k share[t, k] · expert chosen[t, k] (x[t]).

        x        [T, D] float32
        chosen   [T, K] int64
        share    [T, K] float32, used as given
        returns  [T, D] float32
        """
        ...


class LayerCache(Protocol):
    """Rows of one layer's cache: latent (normalised), then rotated key; width values together."""

    def write(self, start: int, rows: Tensor) -> None:
        """Store rows [T, width] float32 at positions start ... start+T-1."""
        ...

    def read(self, end: int) -> Tensor:
        """Rows 0 .. end-1 as [end, width] float32, decoded from the cache's format."""
        ...


class Block(Protocol):
    """One transformer block."""

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        """h [T, D] float32 -> [T, D] float32."""
        ...


class Ending(Protocol):
    """Output norm and head: from a pass's last block to its logits."""

    def __call__(self, h: Tensor, rows: int) -> Tensor:
        """h [T, D] float32 -> [rows, vocabulary] float32, of the last `rows` tokens."""
        ...

    def greatest(self) -> tuple[int, float] | None:
        """Id and logit of the likeliest token after the last pass; None where nobody looked."""
        ...


class Parts(Protocol):
    """Operations of one model file by tensor name. Every method raises UnsupportedModel when the
    tensor is missing or its shape differs from the shape asked for."""

    def has(self, name: str) -> bool: ...

    def embedding(self, name: str, vocabulary: int, width: int) -> Embedding: ...

    def linear(self, name: str, rows: int, columns: int) -> Linear: ...

    def norm(self, name: str, width: int, epsilon: float) -> Norm: ...

    def head_linear(
        self, name: str, shape: tuple[int, int, int], rows: slice | None = None
    ) -> HeadLinear:
        """shape [H, rows, columns] of the whole tensor (a 2-D tensor [H*rows, columns] is viewed
        so); `rows` cuts every head's matrix, as the key and value halves of attn_kv_b."""
        ...

    def router(self, gate: str, bias: str | None, width: int, rules: RouterRules) -> Router: ...

    def experts(self, layer: int, count: int, width: int, feed_forward: int) -> Experts:
        """From blk.N.ffn_{gate,up,down}_exps, or ffn_gate_up_exps in the place of gate and up."""
        ...

    def place(self, layer: int, block: Block) -> Block:
        """The block as the model should call it, activations brought to the layer's home first."""
        ...

    def ending(self, norm: Norm, head: Linear) -> Ending:
        """Output norm and head as the model should call them."""
        ...
