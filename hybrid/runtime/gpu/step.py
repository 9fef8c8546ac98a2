"""The launches of one decode step through a block on a GPU, in order, and the buffers they share.

    matvec   x = norm(h) -> queries, latent and rotated key          (twice with a query latent)
    prepare  cache row, absorbed queries
    split    attention over the cached rows, cut into splits
    unfold   splits merged, heads' values
    matvec   h += output
    route    experts and shares; posts them to the CPU where it has experts
    hidden   gate and up of the experts here and the shared one
    down     h += their output
    receive  h += the CPU's

After the last block: head (with the output norm), argmax, both to where the CPU reads them. Every
buffer is fixed at load and every length is read from device memory, so that the launches can
be captured once as a CUDA graph and replayed while the context grows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hybrid.runtime.gpu.weights import GpuWeights, HeadMatrices
from kernels.attention.gpu_plan import (
    SPLIT_GRANULE,
    Splits,
    partial_in,
    split_buffers,
    splits_of,
)
from kernels.expert_ffn.gpu import Halves, Routed, expert_down, expert_hidden
from kernels.latent_block import CacheMemory, LatentShape
from kernels.latent_block.gpu import (
    Angles,
    HeadRows,
    NewRows,
    Queries,
    SplitResults,
    UnfoldScratch,
    prepare,
    unfold,
    unfold_scratch,
)
from kernels.linear.gpu import Product, matvec
from kernels.mailbox import Mailbox, receive
from kernels.planar import PlanarTensor
from kernels.router.gpu import route
from kernels.step import ArgmaxScratch, Greatest, StepInput, argmax, argmax_scratch

MOST_TOKENS = 8  # of a step; more are a prompt
# Told what has ended, and with a router which experts it chose.
Mark = Callable[..., None]
FLOAT_CACHES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """Activations of a step of b tokens on one GPU, shared by its blocks; float32 unless said.

    input         h [b, width], positions and seen [b] int32, rows [b] int64
    query_low     [b, query_latent]; query [b, heads, nope + rope]; compressed [b, latent + rope]
    absorbed      [b, heads, latent + rope]; values [b, heads, value]
    partial, statistics, splits   of `absorbed_split`, partial as room for any type of cache
    logits        [b, experts]; chosen [b, used] int32; share [b, used]
    routed        [b * used * feed_forward], shared [b * widest feed-forward]: hidden values
    counter       [1] int32, zero between launches
    """

    input: StepInput
    query_low: Tensor
    query: Tensor
    compressed: Tensor
    absorbed: Tensor
    values: Tensor
    partial: Tensor
    statistics: Tensor
    splits: Splits
    unfolding: UnfoldScratch
    logits: Tensor
    chosen: Tensor
    share: Tensor
    routed: Tensor
    shared: Tensor
    counter: Tensor


@dataclass(frozen=True, slots=True)
class Lengths:
    """What a model's experts and feed-forwards ask of the buffers; zero without experts."""

    experts: int
    used: int
    expert_length: int
    widest_length: int


def step_buffers(
    input_: StepInput, shape: LatentShape, lengths: Lengths, value: HeadMatrices
) -> StepBuffers:
    """For steps of as many tokens as `input_` has, on its device."""
    device, tokens = input_.hidden.device, len(input_.hidden)
    splits = splits_of(device, shape.heads, tokens)
    partial, statistics = split_buffers(tokens, shape.heads, shape.latent, splits, device)
    row = shape.latent + shape.rope

    def floats(*sizes: int) -> Tensor:
        return torch.zeros(tokens, *sizes, device=device)

    return StepBuffers(
        input=input_,
        query_low=floats(max(shape.query_latent, 1)),
        query=floats(shape.heads, shape.nope + shape.rope),
        compressed=floats(row),
        absorbed=floats(shape.heads, row),
        values=floats(shape.heads, shape.value),
        partial=partial,
        statistics=statistics,
        splits=splits,
        unfolding=unfold_scratch(tokens, _head_rows(value)),
        logits=floats(max(lengths.experts, 1)),
        chosen=torch.zeros(tokens, max(lengths.used, 1), dtype=torch.int32, device=device),
        share=floats(max(lengths.used, 1)),
        routed=floats(max(lengths.used * lengths.expert_length, 1)),
        shared=floats(max(lengths.widest_length, 1)),
        counter=torch.zeros(1, dtype=torch.int32, device=device),
    )


@dataclass(frozen=True, slots=True)
class BlockStep:
    """One block of a step.

    mailbox     where its experts in RAM are called, None where it has none
    frequency   [rope / 2] float64 on the GPU
    """

    weights: GpuWeights
    cache: CacheMemory
    frequency: Tensor
    amplitude: float
    mailbox: Mailbox | None

    def launch(self, buffers: StepBuffers, mark: Mark = lambda *_: None) -> None:
        self._attention(buffers)
        mark("attention")
        self._feed_forward(buffers, mark)

    def _attention(self, b: StepBuffers) -> None:
        w, shape, tokens = self.weights, self.weights.shape, len(b.compressed)
        h = b.input.hidden
        self._projections(b)
        angles = Angles(b.input.positions, self.frequency, self.amplitude)
        fresh = NewRows(b.compressed, w.latent_norm, shape.epsilon, self.cache, b.input.rows)
        queries = Queries(b.query, _head_rows(w.key), w.key_transposed, b.absorbed)
        prepare(queries, fresh, angles)
        cache = self._typed_cache()
        partial, seen, scale = partial_in(b.partial, cache.dtype), b.input.seen, shape.score_scale
        absorbed_split(b.absorbed, cache, seen, partial, b.statistics, scale, splits=b.splits)
        results = SplitResults(partial, b.statistics, seen, b.splits.min_tokens, SPLIT_GRANULE)
        unfold(results, _head_rows(w.value_up), b.values, b.unfolding)
        matvec(b.values.flatten(1), [Product(w.output, h, add=True)], tokens)

    def _projections(self, b: StepBuffers) -> None:
        w, tokens, epsilon = self.weights, len(b.compressed), self.weights.shape.epsilon
        h, query = b.input.hidden, b.query.flatten(1)
        compress = Product(w.compress, b.compressed)
        if w.query_down is None:
            products = [Product(w.query, query), compress]
            matvec(h, products, tokens, w.attention_norm, epsilon)
            return
        products = [Product(w.query_down, b.query_low), compress]
        matvec(h, products, tokens, w.attention_norm, epsilon)
        matvec(b.query_low, [Product(w.query, query)], tokens, w.query_norm, epsilon)

    def _feed_forward(self, b: StepBuffers, mark: Mark) -> None:
        w, tokens, epsilon = self.weights, len(b.compressed), self.weights.shape.epsilon
        h = b.input.hidden
        if w.router is not None:
            route(
                h,
                w.feed_forward_norm,
                epsilon,
                w.router.gate,
                w.router.bias,
                w.router.rules,
                b.logits,
                b.counter,
                b.chosen,
                b.share,
                tokens,
                self.mailbox,
            )
            mark("router", b.chosen)
        routing, routed, shared = self._halves(b)
        if routed is not None or shared is not None:
            expert_hidden(h, tokens, routing, routed, shared, w.feed_forward_norm, epsilon)
            expert_down(h, tokens, routing, routed, shared)
            mark("dense" if routed is None else "experts")
        if self.mailbox is not None:
            receive(self.mailbox, h)
            mark("receive")

    def _halves(self, b: StepBuffers) -> tuple[Routed | None, Halves | None, Halves | None]:
        w, tokens = self.weights, len(b.compressed)
        routing = routed = shared = None
        if w.resident is not None:
            length, used = w.resident.gate.shape[-2], b.chosen.shape[1]
            hidden = b.routed.view(-1)[: tokens * used * length].view(tokens, used, length)
            routing = Routed(b.chosen, b.share, w.resident.first)
            routed = Halves(w.resident.gate, w.resident.up, hidden, w.resident.down)
        if w.dense is not None:
            gate, up, down = w.dense
            length = gate.shape[-2]
            hidden = b.shared.view(-1)[: tokens * length].view(tokens, length)
            shared = Halves(gate, up, hidden, down)
        return routing, routed, shared

    def _typed_cache(self) -> Tensor:
        dtype = FLOAT_CACHES.get(self.cache.format.name)
        return self.cache.rows if dtype is None else self.cache.rows.view(dtype)


@dataclass(frozen=True, slots=True)
class Head:
    """Output norm [width] float32 and head [vocabulary, width]."""

    norm: Tensor
    epsilon: float
    weight: PlanarTensor


@dataclass(frozen=True, slots=True)
class HeadStep:
    """The head of a step, its results in pinned host memory.

    logits    [b, vocabulary] on the GPU, and the same as the CPU gets it
    greatest  [b] index and value of each token's greatest logit, likewise
    """

    head: Head
    logits: Tensor
    host_logits: Tensor
    greatest: Greatest
    host_greatest: Greatest
    scratch: ArgmaxScratch

    def launch(self, h: Tensor, mark: Mark = lambda *_: None) -> None:
        products = [Product(self.head.weight, self.logits)]
        matvec(h, products, len(self.logits), self.head.norm, self.head.epsilon)
        argmax(self.logits, self.greatest, self.scratch, self.host_greatest, implementation="gpu")
        mark("head")
        self.host_logits.copy_(self.logits, non_blocking=True)
        mark("copied")


def head_step(head: Head, tokens: int) -> HeadStep:
    device, vocabulary = head.weight.device, head.weight.rows
    pinned = device.type == "cuda"

    def greatest(place: torch.device, *, pin_memory: bool = False) -> Greatest:
        return Greatest(
            torch.zeros(tokens, dtype=torch.int32, device=place, pin_memory=pin_memory),
            torch.zeros(tokens, device=place, pin_memory=pin_memory),
        )

    return HeadStep(
        head=head,
        logits=torch.zeros(tokens, vocabulary, device=device),
        host_logits=torch.zeros(tokens, vocabulary, pin_memory=pinned),
        greatest=greatest(device),
        host_greatest=greatest(torch.device("cpu"), pin_memory=pinned),
        scratch=argmax_scratch(tokens, vocabulary, device),
    )


def absorbed_split(*given: Any, **options: Any) -> None:
    """`kernels.attention.gpu.absorbed_split`; machines without a GPU may have no Triton."""
    from kernels.attention import gpu  # noqa: PLC0415

    gpu.absorbed_split(*given, **options)


def _head_rows(source: HeadMatrices) -> HeadRows:
    return HeadRows(source.whole, source.first, source.rows)
