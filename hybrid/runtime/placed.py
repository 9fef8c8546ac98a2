"""`PlacedParts`: hands a model its operations, each on the device where the plan put its weight.

    weight at the layer's home     -> the op itself
    weight somewhere else          -> the op behind a crossing
    experts in several places      -> split by range, scattered by matrix

The model asks by tensor name and cannot tell the difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from hybrid.errors import UnsupportedModel
from hybrid.models.ending import NormedHead
from hybrid.models.parts import (
    Block,
    Embedding,
    Ending,
    Experts,
    HeadLinear,
    Linear,
    Norm,
    Router,
)
from hybrid.runtime.crossing import CrossedOp, Crossing, Place, PlacedBlock
from hybrid.runtime.experts import (
    CpuExperts,
    ExpertWeights,
    GpuExperts,
    ScatteredExperts,
    ShardedExperts,
    SplitExperts,
)
from hybrid.runtime.gpu.blocks import GpuBlocks
from hybrid.runtime.loader import AnyShard, Shard, Weights
from hybrid.runtime.native_block import NativeBlocks
from hybrid.runtime.ops import (
    EmbeddingOp,
    HeadLinearOp,
    LinearOp,
    NormOp,
    RouterOp,
    VectorOp,
)
from hybrid.runtime.shards import NodeParts, halves
from hybrid.runtime.stats import Meter
from hybrid.runtime.timed_ops import TimedBlocks
from kernels.blocks import BlockTensor
from kernels.router import RouterRules
from placement.machines.machine import CPU

Op = TypeVar("Op", bound=Callable[..., Any])


class PlacedParts:
    """`hybrid.models.parts.Parts` over loaded weights.

    source   the file's name, for errors
    places   device name -> place
    homes    place of each trunk block
    native   makes one call of blocks that are wholly on the CPU
    gpu      makes graphs of blocks that are wholly on a GPU
    timed    watches all others
    """

    def __init__(
        self,
        source: str,
        weights: Weights,
        places: dict[str, Place],
        homes: Sequence[Place],
        meter: Meter,
        native: NativeBlocks,
        gpu: GpuBlocks,
        timed: TimedBlocks,
    ) -> None:
        self._source = source
        self._weights = weights
        self._places = places
        self._homes = homes
        self._meter = meter
        self._native = native
        self._gpu = gpu
        self._timed = timed
        self._embedding: BlockTensor | None = None
        self._rows_at = homes[0]

    def has(self, name: str) -> bool:
        return name in self._weights

    def embedding(self, name: str, vocabulary: int, width: int) -> Embedding:
        """Rows stay where they are looked up: the first block brings them to its home."""
        shard = self._whole(name, (vocabulary, width))
        self._embedding = shard.weight
        self._rows_at = self._places[shard.device]
        return EmbeddingOp(shard.weight)

    def linear(self, name: str, rows: int, columns: int) -> Linear:
        shard = self._whole(name, (rows, columns))
        return self._reached(
            LinearOp(shard.weight, self._native.products(shard.device)), shard, self._home(name)
        )

    def norm(self, name: str, width: int, epsilon: float) -> Norm:
        shard = self._whole(name, (width,))
        return self._reached(NormOp(shard.weight, epsilon), shard, self._home(name))

    def head_linear(
        self, name: str, shape: tuple[int, int, int], rows: slice | None = None
    ) -> HeadLinear:
        heads, per_head, columns = shape
        shard = self._whole(name, shape, (heads * per_head, columns))
        blocks = shard.weight.blocks.view(heads, per_head, -1)
        whole = BlockTensor(blocks, shard.weight.format, columns)
        return self._reached(HeadLinearOp(whole, rows), shard, self._home(name))

    def router(self, gate: str, bias: str | None, width: int, rules: RouterRules) -> Router:
        shard = self._whole(gate, (rules.experts, width))
        vector = None
        if bias is not None:
            # 1.5 KB for 384 experts; it comes to the gate when a rule keeps it elsewhere.
            bias_shard = self._whole(bias, (rules.experts,))
            at_gate = self._places[shard.device]
            vector = self._reached(VectorOp(bias_shard.weight), bias_shard, at_gate)
        return self._reached(RouterOp(shard.weight, vector, rules), shard, self._home(gate))

    def experts(self, layer: int, count: int, width: int, feed_forward: int) -> Experts:
        gate, up, down = self._expert_shards(layer, count, width, feed_forward)
        firsts = sorted({_first(shard) for shards in (gate, up, down) for shard in shards})
        ranges = []
        for first, end in zip(firsts, [*firsts[1:], count], strict=True):
            pieces = [_piece(shards, first, end) for shards in (gate, up, down)]
            ranges.append(self._range_of_experts(layer, first, pieces))
        return ranges[0] if len(ranges) == 1 else SplitExperts(ranges)

    def place(self, layer: int, block: Block) -> Block:
        before, home = self._homes[layer - 1] if layer else self._rows_at, self._homes[layer]
        if home.name == CPU:
            block = self._native.registered(layer, block) or self._timed.block(layer, block)
        elif found := self._gpu.registered(layer, block, home):
            return found
        else:
            block = self._timed.block(layer, block)
        return PlacedBlock(block, before, home, self._meter)

    def ending(self, norm: Norm, head: Linear) -> Ending:
        tied = isinstance(head, LinearOp) and head.weight is self._embedding
        # Rows of a tied embedding are read as blocks.
        found = None if tied else self._gpu.head(norm, head, len(self._homes) - 1)
        return found or NormedHead(norm, self._timed.head(head))

    def _range_of_experts(self, layer: int, first: int, pieces: list[AnyShard]) -> Experts:
        home = self._homes[layer]
        gate, up, down = (piece.weight for piece in pieces)
        if isinstance(down, NodeParts):
            assert isinstance(gate, NodeParts), "a layout cuts all matrices of a range"
            assert isinstance(up, NodeParts), "a layout cuts all matrices of a range"
            matrices = zip(gate.parts, up.parts, down.parts, strict=True)
            parts = tuple(ExpertWeights(*matrix, first) for matrix in matrices)
            products = self._native.products(pieces[0].device)
            return self._reached(ShardedExperts(parts, products), pieces[0], home)
        assert isinstance(gate, BlockTensor), "a layout cuts all matrices of a range"
        assert isinstance(up, BlockTensor), "a layout cuts all matrices of a range"
        weights = ExpertWeights(gate, up, down, first)
        if len({piece.device for piece in pieces}) > 1:
            crossings = [self._crossing(home, piece) for piece in pieces]
            return ScatteredExperts(weights, (crossings[0], crossings[1], crossings[2]))
        kind = CpuExperts if pieces[0].device == CPU else GpuExperts
        products = self._native.products(pieces[0].device)
        return self._reached(kind(weights, products), pieces[0], home)

    def _expert_shards(
        self, layer: int, count: int, width: int, feed_forward: int
    ) -> tuple[list[AnyShard], list[AnyShard], list[AnyShard]]:
        prefix = f"blk.{layer}.ffn_"
        down = self._shards(f"{prefix}down_exps.weight", (count, width, feed_forward))
        merged_name = f"{prefix}gate_up_exps.weight"
        if not self.has(merged_name):
            gate = self._shards(f"{prefix}gate_exps.weight", (count, feed_forward, width))
            up = self._shards(f"{prefix}up_exps.weight", (count, feed_forward, width))
            return gate, up, down
        merged = self._shards(merged_name, (count, 2 * feed_forward, width))
        gate = [replace(s, weight=halves(s.weight)[0]) for s in merged]
        up = [replace(s, weight=halves(s.weight)[1]) for s in merged]
        return gate, up, down

    def _shards(self, name: str, *shapes: tuple[int, ...]) -> list[AnyShard]:
        """The shards of a tensor whose whole shape is one of `shapes`."""
        found = self._weights.get(name)
        if found is None:
            raise UnsupportedModel(
                f"tensor {name} is missing in {self._source}",
                remedy="hybrid inspect --tensors shows what is there; the file may be cut or "
                "converted by a tool this program does not know",
            )
        shape = (sum(s.weight.shape[0] for s in found), *found[0].weight.shape[1:])
        if shape not in shapes:
            raise UnsupportedModel(
                f"tensor {name} in {self._source} has the wrong shape",
                f"it is {list(shape)}, the hyper-parameters ask for {list(shapes[0])}",
                remedy="hybrid inspect shows the hyper-parameters; get the file again or convert "
                "the model again",
            )
        return list(found)

    def _whole(self, name: str, *shapes: tuple[int, ...]) -> Shard[BlockTensor]:
        shard = self._shards(name, *shapes)[0]
        assert isinstance(shard.weight, BlockTensor), "only routed experts are cut over NUMA nodes"
        return Shard(shard.experts, shard.device, shard.weight)

    def _home(self, name: str) -> Place:
        """Where the activations are when this tensor is needed: its layer's home, or the last
        one."""
        prefix, _, rest = name.partition(".")
        return self._homes[int(rest.split(".")[0])] if prefix == "blk" else self._homes[-1]

    def _crossing(self, home: Place, shard: AnyShard | Shard[BlockTensor]) -> Crossing | None:
        away = self._places[shard.device]
        return None if away == home else Crossing(home, away, self._meter)

    def _reached(self, op: Op, shard: AnyShard | Shard[BlockTensor], home: Place) -> Op:
        """The op as it is called from home: itself, or the same behind a crossing."""
        crossing = self._crossing(home, shard)
        return op if crossing is None else cast(Op, CrossedOp(op, crossing))


def _first(shard: AnyShard) -> int:
    return shard.experts[0] if shard.experts else 0


def _piece(shards: list[AnyShard], first: int, end: int) -> AnyShard:
    """The experts first .. end-1, cut out of the shard that holds them."""
    for shard in shards:
        begin = _first(shard)
        if begin <= first < begin + shard.weight.shape[0]:
            weight = shard.weight[first - begin : end - begin]
            return replace(shard, experts=(first, end - 1), weight=weight)
    raise AssertionError("the plan covers every expert")
