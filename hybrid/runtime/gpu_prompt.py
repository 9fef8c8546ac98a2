"""A block over the tokens of a prompt on a GPU: tensor cores on weights decoded to bfloat16.

    x = norm(h) ─ products ─► queries, cache rows ─► keys and values of some heads ─► attention
    h += output              h += feed-forward, expert by expert

A weight is decoded a piece at a time into one buffer that all products share. Keys and values
are unfolded for as many heads at once as the attention work buffer holds (-amb), the whole context
of each. The residual stream, norms, router and rotation are float32, products take bfloat16 and
sum in float32 (DESIGN: products with attn_k_b overflow float16).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import LayerCache, Step
from hybrid.runtime.gpu_weights import GpuWeights, HeadMatrices, ResidentWeights
from kernels.attention import expanded_prompt
from kernels.dequantize.gpu import decode_into
from kernels.expert_ffn import expert_rows
from kernels.planar import PlanarTensor
from kernels.rms_norm import rms_norm
from kernels.rope import rope
from kernels.router import choose_experts

TYPE = torch.bfloat16
ROWS_AT_ONCE = 4096  # of the cache, read as float32 before they become bfloat16


@dataclass(frozen=True, slots=True)
class Turn:
    """How a model's heads are rotated: frequency [rope / 2] float64 on the GPU."""

    frequency: Tensor
    amplitude: float


@dataclass(frozen=True, slots=True)
class PromptPass:
    """One block, h [T, D] float32 -> [T, D], in place.

    decoded      [values] bfloat16: room for a piece of a decoded weight
    work_bytes   bound on keys and values at once, unless one head needs more
    away         the routed experts in RAM, or None
    """

    weights: GpuWeights
    turn: Turn
    decoded: Tensor
    work_bytes: int
    away: Callable[[Tensor, Tensor, Tensor], Tensor] | None

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        w, epsilon = self.weights, self.weights.shape.epsilon
        x = rms_norm(h, w.attention_norm, epsilon).to(TYPE)
        h += self._product(self._attention(x, step, cache), w.output)
        x32 = rms_norm(h, w.feed_forward_norm, epsilon)
        x = x32.to(TYPE)
        if w.router is not None:
            self._experts(h, x32, x)
        if w.dense is not None:
            h += self._gated(x, *w.dense)
        return h

    def _attention(self, x: Tensor, step: Step, cache: LayerCache) -> Tensor:
        """x [T, D] -> the heads' values [T, H * value] bfloat16."""
        shape = self.weights.shape
        cache.write(step.start, self._cache_rows(x, step))
        q = self._query(x).view(len(x), shape.heads, -1)
        q[..., shape.nope :] = self._rotated(q[..., shape.nope :].float(), step)
        rows = self._read(cache, step.end)
        latent, k_rope = rows[:, : shape.latent], rows[:, shape.latent :]
        out = torch.empty(len(x), shape.heads, shape.value, dtype=TYPE, device=x.device)
        head_bytes = TYPE.itemsize * step.end * (shape.nope + shape.value)
        group = max(1, self.work_bytes // head_bytes)
        for first in range(0, shape.heads, group):
            heads = slice(first, min(first + group, shape.heads))
            k_nope, value = self._unfolded(latent, heads)
            expanded_prompt(
                q[:, heads], k_nope, k_rope, value, shape.score_scale, step.start, out[:, heads]
            )
        return out.flatten(1)

    def _cache_rows(self, x: Tensor, step: Step) -> Tensor:
        w = self.weights
        latent, k_rope = self._product(x, w.compress).float().split(
            [w.shape.latent, w.shape.rope], dim=-1
        )
        latent = rms_norm(latent.contiguous(), w.latent_norm, w.shape.epsilon)
        return torch.cat((latent, self._rotated(k_rope, step)), dim=-1)

    def _query(self, x: Tensor) -> Tensor:
        w = self.weights
        if w.query_down is not None and w.query_norm is not None:
            low = self._product(x, w.query_down).float()
            x = rms_norm(low, w.query_norm, w.shape.epsilon).to(TYPE)
        return self._product(x, w.query)

    def _rotated(self, x: Tensor, step: Step) -> Tensor:
        return rope(x, step.positions(x.device), self.turn.frequency, self.turn.amplitude)

    def _read(self, cache: LayerCache, end: int) -> Tensor:
        """All rows so far as bfloat16."""
        return cache.read_as(TYPE, end, ROWS_AT_ONCE)

    def _unfolded(self, latent: Tensor, heads: slice) -> tuple[Tensor, Tensor]:
        """Keys without position and values of some heads, [S, h, nope] and [S, h, value]."""
        w, count = self.weights, heads.stop - heads.start
        key = self._matrices(w.key, heads)
        key = key.transpose(1, 2) if w.key_transposed else key  # [h, nope, latent]
        k_nope = torch.mm(latent, key.reshape(-1, w.shape.latent).t())
        value = self._matrices(w.value_up, heads).reshape(-1, w.shape.latent)
        values = torch.mm(latent, value.t())
        return k_nope.view(len(latent), count, -1), values.view(len(latent), count, -1)

    def _matrices(self, source: HeadMatrices, heads: slice) -> Tensor:
        """[h, rows, columns] of some heads, a new tensor."""
        _, stride, columns = source.whole.shape
        count = heads.stop - heads.start
        out = torch.empty(count, source.rows, columns, dtype=TYPE, device=self.decoded.device)
        for index in range(count):
            first = (heads.start + index) * stride + source.first
            decode_rows(source.whole, first, out[index])
        return out

    def _product(self, x: Tensor, weight: PlanarTensor, first: int = 0) -> Tensor:
        """x Wᵀ of a matrix, or of the one whose rows begin at `first`: [T, rows] bfloat16."""
        rows, columns = weight.shape[-2:]
        at_once = max(1, self.decoded.numel() // columns)
        if rows <= at_once:
            return torch.mm(x, self._decoded(weight, first, rows).t())
        out = torch.empty(len(x), rows, dtype=TYPE, device=x.device)
        for begin in range(0, rows, at_once):
            count = min(at_once, rows - begin)
            out[:, begin : begin + count] = torch.mm(
                x, self._decoded(weight, first + begin, count).t()
            )
        return out

    def _decoded(self, weight: PlanarTensor, first: int, rows: int) -> Tensor:
        columns = weight.shape[-1]
        piece = self.decoded[: rows * columns].view(rows, columns)
        decode_rows(weight, first, piece)
        return piece

    def _gated(
        self, x: Tensor, gate: PlanarTensor, up: PlanarTensor, down: PlanarTensor, expert: int = 0
    ) -> Tensor:
        length, width = gate.shape[-2], down.shape[-2]
        hidden = torch.nn.functional.silu(self._product(x, gate, expert * length))
        hidden *= self._product(x, up, expert * length)
        return self._product(hidden, down, expert * width)

    def _experts(self, h: Tensor, x32: Tensor, x: Tensor) -> None:
        router, resident = self.weights.router, self.weights.resident
        assert router is not None, "asked by a layer that has one"
        logits = torch.mm(x32, _float_rows(router.gate).t())
        chosen, share = choose_experts(logits, router.bias, router.rules)
        if self.away is not None:
            h += self.away(x32, chosen, share)
        if resident is not None:
            self._resident(h, x, resident, chosen, share)

    def _resident(
        self, h: Tensor, x: Tensor, weights: ResidentWeights, chosen: Tensor, share: Tensor
    ) -> None:
        matrices = (weights.gate, weights.up, weights.down)
        for rows in expert_rows(chosen, weights.first, weights.gate.shape[0]):
            y = self._gated(x[rows.tokens], *matrices, rows.expert)
            h.index_add_(0, rows.tokens, y * share[rows.tokens, rows.slots, None])


def _float_rows(weight: PlanarTensor) -> Tensor:
    out = torch.empty(weight.shape, dtype=torch.float32, device=weight.data.device)
    decode_rows(weight, 0, out)
    return out
