"""A block over the tokens of a prompt on a GPU: tensor cores on weights decoded to bfloat16.

    x = norm(h) ─ products ─► queries, cache rows ─► keys and values of some heads ─► attention
    h += output              h += feed-forward, routed experts some at a time

A weight is decoded a piece at a time into one buffer that all products share. Keys and values
are unfolded for as many heads at once as the attention work buffer holds (-amb), the whole context
of each. The residual stream, norms, router and rotation are float32, products take bfloat16 and
sum in float32 (products with attn_k_b overflow float16). `placement.memory.gpu_scratch` bounds
what this takes of the GPU's memory.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import LayerCache, Step
from hybrid.runtime.cache import FloatCache, QuantisedCache
from hybrid.runtime.gpu.expert_stream import ExpertSource
from hybrid.runtime.gpu.prompt_experts import (
    ALIGNED_VALUES,
    ExpertPass,
    Routing,
    resident_source,
)
from hybrid.runtime.gpu.prompt_watch import UNWATCHED, Unwatched
from hybrid.runtime.gpu.weights import GpuWeights, HeadMatrices, RouterWeights
from kernels.attention import reference
from kernels.dequantize.gpu import decode_into
from kernels.planar import PlanarTensor
from kernels.rms_norm import rms_norm
from kernels.router import RouterRules, choose_experts
from placement.memory.gpu_scratch import streams_experts
from placement.workload import STREAM_TOKENS


class Turn:
    """How a model's heads are rotated; blocks share one, so that a pass has its angles once.

    frequency   [rope / 2] float64 on the GPU
    amplitude   multiplies what is rotated
    """

    def __init__(self, frequency: Tensor, amplitude: float) -> None:
        self._frequency = frequency
        self._amplitude = amplitude
        self._last: tuple[Step, Tensor] | None = None

    def rotated(self, x: Tensor, step: Step) -> Tensor:
        """x [T, ..., rope] of any float type -> float32, pairs turned by their positions' angles.

        As `kernels.rope`: angles are reduced in float64.
        """
        pairs = torch.view_as_complex(x.float().contiguous().view(*x.shape[:-1], -1, 2))
        turns = self._turns(step).view(len(x), *[1] * (x.ndim - 2), -1)
        return torch.view_as_real(pairs * turns).flatten(-2)

    def _turns(self, step: Step) -> Tensor:
        """[T, rope / 2] complex64."""
        if self._last is None or self._last[0] != step:
            self._last = None
            angle = step.positions(self._frequency.device).double()[:, None] * self._frequency
            size = torch.full_like(angle, self._amplitude)
            self._last = (step, torch.polar(size, angle).to(torch.complex64))
        return self._last[1]


@dataclass(frozen=True, slots=True)
class PromptPass:
    """One block, h [T, D] float32 -> [T, D], in place.

    decoded         [values], room for pieces of decoded weights: gate and up of an expert, a head's
                    matrices or more. Its dtype is that of all products: bfloat16
    work_bytes      bound on keys and values at once, unless one head needs more
    away            the routed experts in RAM computed there, or None
    stream          the same experts brought here for long prompts, for all where `away` is None;
                    or None
    implementation  "triton" or "reference"; None: "triton" on a GPU, else "reference"
    stream_tokens   `Workload.stream_tokens`: prompts are long from so many an expert on
    watch           hears of the block's parts
    """

    weights: GpuWeights
    turn: Turn
    decoded: Tensor
    work_bytes: int
    away: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    stream: ExpertSource | None = None
    implementation: str | None = None
    stream_tokens: int = STREAM_TOKENS
    watch: Unwatched = UNWATCHED

    def __call__(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        with torch.cuda.device(h.device) if h.is_cuda else nullcontext():
            self._attend_and_feed(h, step, cache)
        return h

    def _attend_and_feed(self, h: Tensor, step: Step, cache: LayerCache) -> None:
        w = self.weights
        self.watch.began()
        h += self._product(
            self._attention(self._queries_and_rows(h, step, cache), step, cache), w.output
        )
        self.watch.attended()
        x32 = rms_norm(h, w.feed_forward_norm, w.shape.epsilon)
        x = x32.to(self.decoded.dtype)
        if w.router is not None:
            self._experts(h, x32, x, w.router)
        del x32
        if w.dense is not None:
            h += self._gated(x, *w.dense)
        self.watch.fed("dense" if w.router is None else "experts")

    def _queries_and_rows(self, h: Tensor, step: Step, cache: LayerCache) -> Tensor:
        """Writes the cache rows; queries [T, H, nope + rope], rotated."""
        w, shape = self.weights, self.weights.shape
        x = rms_norm(h, w.attention_norm, shape.epsilon).to(self.decoded.dtype)
        row = self._product(x, w.compress).float()
        latent, k_rope = row[:, : shape.latent], row[:, shape.latent :]
        latent = rms_norm(latent.contiguous(), w.latent_norm, shape.epsilon)
        cache.write(step.start, torch.cat((latent, self.turn.rotated(k_rope, step)), dim=-1))
        if w.query_down is not None and w.query_norm is not None:
            low = self._product(x, w.query_down).float()
            x = rms_norm(low, w.query_norm, shape.epsilon).to(self.decoded.dtype)
        q = self._product(x, w.query).view(len(x), shape.heads, -1)
        del x
        q[..., shape.nope :] = self.turn.rotated(q[..., shape.nope :], step)
        return q

    def _attention(self, q: Tensor, step: Step, cache: LayerCache) -> Tensor:
        """The heads' values [T, H * value]."""
        shape = self.weights.shape
        assert isinstance(cache, FloatCache | QuantisedCache), "the loader made it"
        rows = cache.read_as(step.end, q.dtype)
        latent, k_rope = rows[:, : shape.latent], rows[:, shape.latent :]
        out = torch.empty(len(q), shape.heads, shape.value, dtype=q.dtype, device=q.device)
        at_once = self._heads_at_once(step.end)
        for first in range(0, shape.heads, at_once):
            heads = slice(first, min(first + at_once, shape.heads))
            k_nope, value = self._unfolded(latent, heads)
            self._attend(q[:, heads], k_nope, k_rope, value, step.start, out[:, heads])
            del k_nope, value  # before the next heads' are made
        return out.flatten(1)

    def _heads_at_once(self, rows: int) -> int:
        w, shape = self.weights, self.weights.shape
        by_work = self.work_bytes // (self.decoded.itemsize * rows * (shape.nope + shape.value))
        widest = max(each.whole.rows * each.whole.columns for each in (w.key, w.value_up))
        by_decoded = self.decoded.numel() // (widest // shape.heads)
        return max(1, min(by_work, by_decoded))

    def _attend(
        self, q: Tensor, k_nope: Tensor, k_rope: Tensor, value: Tensor, start: int, out: Tensor
    ) -> None:
        scale = self.weights.shape.score_scale
        if self.implementation == "triton" or (self.implementation is None and q.is_cuda):
            from kernels.attention.gpu_prompt import expanded_prompt  # noqa: PLC0415

            expanded_prompt(q, k_nope, k_rope, value, scale, start, out)
            return
        keys = (k_nope.float(), k_rope.float(), value.float())
        out.copy_(reference.expanded_attention(q.float(), *keys, scale, start))

    def _unfolded(self, latent: Tensor, heads: slice) -> tuple[Tensor, Tensor]:
        """Keys without position and values of some heads, [S, h, nope] and [S, h, value]."""
        w = self.weights
        if w.key.whole is w.value_up.whole:  # a head's key rows and value rows side by side
            both = self._unfolded_by(latent, self._matrices(w.key.whole, heads))
            return _some_of(both, w.key), _some_of(both, w.value_up)
        key = self._rows_of(w.key, heads)
        key = key.transpose(1, 2).contiguous() if w.key_transposed else key
        k_nope = self._unfolded_by(latent, key)
        return k_nope, self._unfolded_by(latent, self._rows_of(w.value_up, heads))

    def _unfolded_by(self, latent: Tensor, matrices: Tensor) -> Tensor:
        """latent [S, latent] by [h, rows, latent] -> [S, h, rows]."""
        count, rows, columns = matrices.shape
        out = torch.mm(latent, matrices.view(count * rows, columns).t())
        return out.view(len(latent), count, rows)

    def _rows_of(self, source: HeadMatrices, heads: slice) -> Tensor:
        found = self._matrices(source.whole, heads)
        return found[:, source.first : source.first + source.rows].contiguous()

    def _matrices(self, whole: PlanarTensor, heads: slice) -> Tensor:
        some = whole[heads]
        out = self.decoded[: some.rows * some.columns].view(some.shape)
        decode_into(some, out)
        return out

    def _product(self, x: Tensor, weight: PlanarTensor) -> Tensor:
        """x Wᵀ: [T, rows]."""
        rows, columns = weight.shape
        out = torch.empty(len(x), rows, dtype=x.dtype, device=x.device)
        at_once = max(1, self.decoded.numel() // columns)
        for begin in range(0, rows, at_once):
            some = weight[begin : begin + at_once]
            piece = self.decoded[: some.rows * columns].view(some.shape)
            decode_into(some, piece)
            torch.mm(x, piece.t(), out=out[:, begin : begin + some.rows])
        return out

    def _gated(self, x: Tensor, gate: PlanarTensor, up: PlanarTensor, down: PlanarTensor) -> Tensor:
        hidden = self._product(x, gate)
        torch.nn.functional.silu(hidden, inplace=True)
        hidden *= self._product(x, up)
        return self._product(hidden, down)

    def _experts(self, h: Tensor, x32: Tensor, x: Tensor, router: RouterWeights) -> None:
        logits = torch.mm(x32, _float_rows(router.gate).t())
        chooser = "cuda" if h.is_cuda else None  # one launch for the reference's twenty
        chosen, share = choose_experts(logits, router.bias, router.rules, implementation=chooser)
        routing = Routing(chosen.contiguous(), share.contiguous())
        del logits
        self.watch.chose(routing.chosen)
        experts = ExpertPass(self.decoded, self.implementation)
        most_values = self.decoded.numel() - ALIGNED_VALUES
        if self.weights.resident is not None:
            experts.add(h, x, routing, resident_source(self.weights.resident, most_values))
        if self.stream is not None and self._streams(len(x), router.rules):
            experts.add(h, x, routing, self.stream)
        elif self.away is not None:
            h += self.watch.away(self.away, x32, routing.chosen, routing.share)

    def _streams(self, tokens: int, rules: RouterRules) -> bool:
        enough = streams_experts(tokens, rules.used, rules.experts, self.stream_tokens)
        return enough or self.away is None


def _some_of(both: Tensor, source: HeadMatrices) -> Tensor:
    return both[..., source.first : source.first + source.rows]


def _float_rows(weight: PlanarTensor) -> Tensor:
    """Exact; of F32 the weight itself."""
    if weight.format.name == "F32" and weight.rows == weight.total_rows:
        return weight.data.view(torch.float32).view(weight.shape)
    out = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    decode_into(weight, out)
    return out
