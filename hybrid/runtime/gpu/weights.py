"""A block's weights as a GPU takes them: every matrix planar (`kernels.planar`), vectors float32.

They are views of the memory that the plan reserved, made before anything is read: `Planes` says to
the reader which bytes of the file are to be laid out so. A weight takes the bytes of its blocks.
"""

from dataclasses import dataclass, field

from torch import Tensor

from hybrid.models.parts import Experts
from hybrid.runtime.crossing import CrossedOp
from hybrid.runtime.experts import GpuExperts, SplitExperts, expert_parts
from hybrid.runtime.ops import HeadLinearOp, NormOp, RouterOp, VectorOp
from hybrid.runtime.plain_block import NotPlain, PlainBlock, values
from kernels.blocks import BlockTensor
from kernels.latent_block import LatentShape
from kernels.planar import PlanarTensor
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
    in_ram = [part for part in ranges if isinstance(part, CrossedOp) and expert_parts(part.op)]
    present = [part for part in ranges if part is not None]
    if len(resident) > 1 or len(in_ram) > 1 or len(resident) + len(in_ram) < len(present):
        raise NotPlain
    return ExpertPlaces(resident[0] if resident else None, in_ram[0] if in_ram else None)


@dataclass(frozen=True, slots=True)
class Planes:
    """Matrices to be laid out in planes.

    made   by the address of their memory
    """

    made: dict[int, PlanarTensor] = field(default_factory=dict)

    def __call__(self, weight: BlockTensor) -> PlanarTensor:
        """`weight` as planes over its own memory; the same object when asked again, as attn_kv_b
        is.

        Raises NotPlain for strided blocks: the halves of ffn_gate_up_exps.
        """
        if not weight.blocks.is_contiguous():
            raise NotPlain
        address = weight.blocks.data_ptr()
        if address not in self.made:
            rows = weight.blocks.shape[:-1].numel()
            planes = PlanarTensor(weight.blocks.view(-1), weight.format, weight.shape, rows)
            self.made[address] = planes
        return self.made[address]


def planar_weights(block: PlainBlock, resident: GpuExperts | None, planes: Planes) -> GpuWeights:
    """A block's weights as the GPU will read them; its operations must not be called afterwards.

    planes   of this block alone: void when NotPlain is raised, for what cannot be so
    """
    dense = block.dense
    return GpuWeights(
        shape=block.shape,
        attention_norm=vector(block.attention_norm),
        query_norm=vector(block.query_norm) if block.query_norm else None,
        latent_norm=vector(block.latent_norm),
        feed_forward_norm=vector(block.feed_forward_norm),
        query_down=planes(block.query_down) if block.query_down else None,
        query=planes(block.query),
        compress=planes(block.compress),
        key=_heads(block.key, planes),
        key_transposed=block.key_transposed,
        value_up=_heads(block.value_up, planes),
        output=planes(block.output),
        dense=(planes(dense.gate), planes(dense.up), planes(dense.down)) if dense else None,
        router=_router(block.router, planes) if block.router else None,
        resident=_resident(resident, planes) if resident else None,
    )


def vector(op: object) -> Tensor:
    """A norm's weights or a bias: a view of bytes that may still be read.

    Raises NotPlain where the file has them in another format than F32.
    """
    if not isinstance(op, (NormOp, VectorOp)) or op.weight.format.name != "F32":
        raise NotPlain
    return values(op)


def _heads(op: HeadLinearOp, planes: Planes) -> HeadMatrices:
    first, end, _ = (op.rows or slice(None)).indices(op.whole.shape[1])
    return HeadMatrices(planes(op.whole), first, end - first)


def _router(router: RouterOp, planes: Planes) -> RouterWeights:
    bias = None if router.bias is None else vector(router.bias)
    return RouterWeights(planes(router.gate), bias, router.rules)


def _resident(experts: GpuExperts, planes: Planes) -> ResidentWeights:
    weights = experts.weights
    return ResidentWeights(
        planes(weights.gate), planes(weights.up), planes(weights.down), weights.first
    )
