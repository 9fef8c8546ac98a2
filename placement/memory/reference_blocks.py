"""Blocks that no kernels of their home can take: the reference computes them, right and slowly.

A GPU's kernels take a block that is wholly there. Its routed experts may also be in RAM, one range
of them here and one there (`hybrid.runtime.plain_block`, `hybrid.runtime.gpu.weights`). The CPU's
take one that is wholly in RAM.
"""

from collections.abc import Iterable, Mapping

from placement.inventory import Role, TensorInfo
from placement.machines.machine import CPU, UNLOADED
from placement.plan import Assignment

AWAY = "an operation is not on its block's GPU"
ON_OTHER_GPUS = "experts are on another GPU than their block"
IN_PIECES = "experts are in more than one range here or in RAM"
ON_A_GPU = "an operation is on a GPU, its block in RAM"
MERGED = "gate and up of experts here are one tensor"


def scattered_blocks(
    layers: tuple[str, ...], assignments: Iterable[Assignment], tensors: Mapping[str, TensorInfo]
) -> dict[int, tuple[str, Assignment]]:
    """As `reference_blocks`, of layers at home on the CPU."""
    found: dict[int, tuple[str, Assignment]] = {}
    for part in assignments:
        layer = tensors[part.tensor].layer
        if layer is None or layer >= len(layers) or part.device in (UNLOADED, CPU):
            continue
        if layers[layer] == CPU:
            found.setdefault(layer, (ON_A_GPU, part))
    return found


def reference_blocks(
    layers: tuple[str, ...], assignments: Iterable[Assignment], tensors: Mapping[str, TensorInfo]
) -> dict[int, tuple[str, Assignment]]:
    """Layers at home on a GPU that fall back, each with why and a tensor that shows it.

    layers    home of each block
    tensors   by name
    """
    found: dict[int, tuple[str, Assignment]] = {}
    ranges: dict[int, dict[str, list[Assignment]]] = {}
    for part in assignments:
        tensor = tensors[part.tensor]
        layer = tensor.layer
        if layer is None or layer >= len(layers) or part.device == UNLOADED:
            continue
        home = layers[layer]
        if home == CPU:
            continue
        if tensor.role is not Role.ROUTED_EXPERT:
            if part.device != home:
                found[layer] = (AWAY, part)
            continue
        ranges.setdefault(layer, {}).setdefault(part.tensor, []).append(part)
        if part.device not in (home, CPU):
            found.setdefault(layer, (ON_OTHER_GPUS, part))
        elif part.device == home and "gate_up_exps" in part.tensor:
            found.setdefault(layer, (MERGED, part))
    for layer, matrices in ranges.items():
        places = [{(part.device, part.experts) for part in parts} for parts in matrices.values()]
        several = any(
            len(parts) > len({part.device for part in parts}) for parts in matrices.values()
        )
        if several or any(other != places[0] for other in places):
            found.setdefault(layer, (IN_PIECES, next(iter(matrices.values()))[0]))
    return found
