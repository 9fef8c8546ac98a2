"""What the blocks of a model ask of a device, added up once: bytes to read, weights to multiply by.

    Matrices    sums over some tensors: bytes, weights, what their formats cost beside the bytes
    LayerWork   a block's: attention (with norms and router), beside (shared experts or the dense
                feed-forward), routed (all routed experts)

Lengths that no `ModelShape` has, such as the query's latent, need no formula: tensors have them.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from placement.inventory import ModelInventory, Role, TensorInfo

# GB/s at which a GPU takes blocks of formats whose arithmetic holds it up: docs/log.md, an H200,
# one token, V3's routed experts where they were measured, else a product of 8192 x 8192 (TQ1_0 by
# groups, as experts are). Matrices of other blocks are up to 1.6 times as fast. Cards of other
# kinds have half to one and a half of its arithmetic, and most of them memory that is slower.
GPU_GB_S = {
    "Q4_K": 2900.0,
    "Q5_K": 3070.0,
    "IQ4_XS": 2580.0,
    "Q2_K": 2170.0,
    "Q3_K": 1660.0,
    "TQ2_0": 2340.0,
    "TQ1_0": 440.0,
    "IQ1_S": 1280.0,
    "IQ1_M": 1200.0,
    **dict.fromkeys(("IQ2_XXS", "IQ2_XS", "IQ2_S"), 1490.0),
    "IQ3_XXS": 1700.0,
    "IQ3_S": 1450.0,
}
# GB/s at which one core with AVX-512 takes blocks that lie in its cache: docs/log.md, 65 to 76 on
# two cores for the formats of nibbles, 50 for Q2_K. Formats that are not named wait for the RAM.
CORE_GB_S = {"IQ4_NL": 32.5, "Q4_0": 35.0, "Q4_K": 38.0, "Q2_K": 25.0}
# Formats in neither table and not measured whole: predictions with them are less sure.
MEASURED_FORMATS = frozenset(
    ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL")
)


@dataclass(frozen=True, slots=True)
class Matrices:
    """nbytes    in the file's format
    slow_bytes  of them, those in formats that a GPU's arithmetic holds up
    slow_s      seconds of a GPU for that arithmetic with one token
    core_s      seconds of one CPU core for its own
    weights     that are multiplied by
    unmeasured  bytes in formats whose speed was never measured
    """

    nbytes: float = 0.0
    slow_bytes: float = 0.0
    slow_s: float = 0.0
    core_s: float = 0.0
    weights: float = 0.0
    unmeasured: float = 0.0

    def __add__(self, other: "Matrices") -> "Matrices":
        return Matrices(
            self.nbytes + other.nbytes,
            self.slow_bytes + other.slow_bytes,
            self.slow_s + other.slow_s,
            self.core_s + other.core_s,
            self.weights + other.weights,
            self.unmeasured + other.unmeasured,
        )

    def part(self, share: float) -> "Matrices":
        """That share of everything."""
        return Matrices(
            self.nbytes * share,
            self.slow_bytes * share,
            self.slow_s * share,
            self.core_s * share,
            self.weights * share,
            self.unmeasured * share,
        )


@dataclass(frozen=True, slots=True)
class LayerWork:
    """One block. experts and used are 0 where it has no routed ones."""

    attention: Matrices
    beside: Matrices
    routed: Matrices
    experts: int
    used: int

    @property
    def chosen(self) -> Matrices:
        """Of the routed experts, those that one token chooses."""
        return self.routed.part(self.used / self.experts) if self.experts else Matrices()

    def touched(self, tokens: int) -> float:
        """Share of the routed experts that at least one of the tokens chooses, chosen evenly."""
        return 1 - (1 - self.used / self.experts) ** tokens if self.experts else 0.0


@dataclass(frozen=True, slots=True)
class ModelWork:
    """The blocks in order, and the head with its norm."""

    layers: tuple[LayerWork, ...]
    head: Matrices


def model_work(inventory: ModelInventory) -> ModelWork:
    """Of every tensor that is loaded; an embedding that is no head is read by rows and left out."""
    tied = inventory.has_tied_head
    groups: dict[tuple[int | None, str], list[TensorInfo]] = defaultdict(list)
    for tensor in inventory.tensors:
        if tensor.role.is_loaded and (tensor.role is not Role.EMBEDDING or tied):
            groups[tensor.layer, _GROUPS.get(tensor.role, "attention")].append(tensor)
    layers = []
    for layer in range(inventory.shape.layers):
        routed = groups[layer, "routed"]
        layers.append(
            LayerWork(
                matrices(groups[layer, "attention"]),
                matrices(groups[layer, "beside"]),
                matrices(routed),
                routed[0].experts if routed else 0,
                inventory.shape.expert_used_count if routed else 0,
            )
        )
    return ModelWork(tuple(layers), matrices(groups[None, "attention"]))


def matrices(tensors: Iterable[TensorInfo]) -> Matrices:
    """The sum over some tensors."""
    return sum((_matrix(tensor) for tensor in tensors), Matrices())


def _matrix(tensor: TensorInfo) -> Matrices:
    size, name = tensor.nbytes, tensor.format
    on_gpu, on_core = GPU_GB_S.get(name), CORE_GB_S.get(name)
    return Matrices(
        nbytes=size,
        slow_bytes=size if on_gpu else 0,
        slow_s=size / (on_gpu * 1e9) if on_gpu else 0.0,
        core_s=size / (on_core * 1e9) if on_core else 0.0,
        weights=tensor.matrix_values * max(tensor.experts, 1),
        unmeasured=0 if name in MEASURED_FORMATS else size,
    )


_GROUPS = {
    Role.SHARED_EXPERT: "beside",
    Role.DENSE_FFN: "beside",
    Role.ROUTED_EXPERT: "routed",
}
