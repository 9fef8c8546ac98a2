"""A block's weights as a GPU takes them: every matrix planar (`kernels.planar`), vectors float32.

What is read from the file are blocks; `finish` lays them out anew in the very memory they were read
into, so a weight is on the GPU once and takes the bytes that the plan says.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.models.parts import Experts
from hybrid.runtime.crossing import CrossedOp
from hybrid.runtime.experts import CpuExperts, GpuExperts, ShardedExperts, SplitExperts
from hybrid.runtime.ops import HeadLinearOp, NormOp, RouterOp
from hybrid.runtime.plain_block import NotPlain, PlainBlock, values
from kernels.blocks import BlockTensor
from kernels.latent_block import LatentShape
from kernels.planar import PlanarTensor, planar_in_place
from kernels.router import RouterRules


@dataclass(frozen=True, slots=True)
class ExpertPlaces:
    """The routed experts of a layer as its home sees them.

    resident   those in the home's own memory
    in_ram     the op over those in RAM, behind its crossing
    """

    resident: GpuExperts | None
    in_ram: CrossedOp | None


@dataclass(frozen=True, slots=True)
class ResidentWeights:
    """Experts first .. first+count-1: gate, up [count, feed_forward, width], down [count, width,
    feed_forward].
    """

    gate: PlanarTensor
    up: PlanarTensor
    down: PlanarTensor
    first: int


@dataclass(frozen=True, slots=True)
class HeadMatrices:
    """One matrix per head: rows first .. first+rows-1 of every head's in `whole`."""

    whole: PlanarTensor
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class RouterWeights:
    gate: PlanarTensor
    bias: Tensor | None
    rules: RouterRules


@dataclass(frozen=True, slots=True)
class GpuWeights:
    """Names and shapes as in `kernels.latent_block.LatentWeights`."""

    shape: LatentShape
    attention_norm: Tensor
    query_norm: Tensor | None
    latent_norm: Tensor
    feed_forward_norm: Tensor
    query_down: PlanarTensor | None
    query: PlanarTensor
    compress: PlanarTensor
    key: HeadMatrices
    key_transposed: bool
    value_up: HeadMatrices
    output: PlanarTensor
    dense: tuple[PlanarTensor, PlanarTensor, PlanarTensor] | None
    router: RouterWeights | None
    resident: ResidentWeights | None


def expert_places(experts: Experts | None) -> ExpertPlaces:
    """Raises NotPlain for experts on another GPU, matrices of one expert apart, or several ranges
    of one kind.
    """
    ranges = experts.ranges if isinstance(experts, SplitExperts) else [experts]
    resident = [part for part in ranges if isinstance(part, GpuExperts)]
    in_ram = [part for part in ranges if isinstance(part, CrossedOp) and _is_cpu(part.op)]
    present = [part for part in ranges if part is not None]
    if len(resident) > 1 or len(in_ram) > 1 or len(resident) + len(in_ram) < len(present):
        raise NotPlain
    return ExpertPlaces(*(found[0] if found else None for found in (resident, in_ram)))


def planar_weights(block: PlainBlock, resident: GpuExperts | None) -> GpuWeights:
    """Lay a block's matrices out anew, in place; its operations must not be called afterwards."""
    once = _Once()
    dense = block.dense
    return GpuWeights(
        shape=block.shape,
        attention_norm=_vector(block.attention_norm),
        query_norm=_vector(block.query_norm) if block.query_norm else None,
        latent_norm=_vector(block.latent_norm),
        feed_forward_norm=_vector(block.feed_forward_norm),
        query_down=once(block.query_down) if block.query_down else None,
        query=once(block.query),
        compress=once(block.compress),
        key=_heads(block.key, once),
        key_transposed=block.key_transposed,
        value_up=_heads(block.value_up, once),
        output=once(block.output),
        dense=(once(dense.gate), once(dense.up), once(dense.down)) if dense else None,
        router=_router(block.router, once) if block.router else None,
        resident=_resident(resident) if resident else None,
    )


class _Once:
    """Planar tensors by address: attn_kv_b is asked for twice, as keys and as values."""

    def __init__(self) -> None:
        self._made: dict[int, PlanarTensor] = {}

    def __call__(self, weight: BlockTensor) -> PlanarTensor:
        address = weight.blocks.data_ptr()
        if address not in self._made:
            self._made[address] = planar_in_place(weight)
        return self._made[address]


def _heads(op: HeadLinearOp, once: Callable[[BlockTensor], PlanarTensor]) -> HeadMatrices:
    first, end, _ = (op.rows or slice(None)).indices(op.whole.shape[1])
    return HeadMatrices(once(op.whole), first, end - first)


def _router(router: RouterOp, once: Callable[[BlockTensor], PlanarTensor]) -> RouterWeights:
    bias = None if router.bias is None else router.bias().clone()
    return RouterWeights(once(router.gate), bias, router.rules)


def _resident(experts: GpuExperts) -> ResidentWeights:
    weights = experts.weights
    gate, up = weights.gate, weights.up
    if not gate.blocks.is_contiguous():  # halves of ffn_gate_up_exps
        raise NotPlain
    return ResidentWeights(
        planar_in_place(gate), planar_in_place(up), planar_in_place(weights.down), weights.first
    )


def _vector(op: NormOp) -> Tensor:
    return values(op).to(torch.float32).contiguous()


def _is_cpu(op: object) -> bool:
    return isinstance(op, (CpuExperts, ShardedExperts))
