"""Blocks on a GPU that its own kernels cannot take: the reference computes them, right and slowly.

A GPU's kernels take a block that is wholly there. Its routed experts may also be in RAM, one range
of them here and one there (`hybrid.runtime.plain_block`, `hybrid.runtime.gpu_weights`).
"""

from collections.abc import Iterable, Mapping

from placement.inventory import Role, TensorInfo
from placement.machine import CPU, UNLOADED
from placement.plan import Assignment

AWAY = "an operation is on another device"
ON_OTHER_GPUS = "experts are on another GPU"
IN_PIECES = "their experts are in more than one range here or in RAM"
MERGED = "gate and up of experts here are one tensor"


def reference_blocks(
    layers: tuple[str, ...], assignments: Iterable[Assignment], tensors: Mapping[str, TensorInfo]
) -> dict[int, str]:
    """Layers at home on a GPU that fall back, each with why.

    layers    home of each block
    tensors   by name
    """
    found: dict[int, str] = {}
    ranges: dict[int, dict[str, set[tuple[str, tuple[int, int] | None]]]] = {}
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
                found[layer] = AWAY
            continue
        ranges.setdefault(layer, {}).setdefault(part.tensor, set()).add((part.device, part.experts))
        if part.device not in (home, CPU):
            found.setdefault(layer, ON_OTHER_GPUS)
        elif part.device == home and "gate_up_exps" in part.tensor:
            found.setdefault(layer, MERGED)
    for layer, matrices in ranges.items():
        first, *others = matrices.values()
        devices = [device for device, _ in first]
        if any(other != first for other in others) or len(set(devices)) < len(devices):
            found.setdefault(layer, IN_PIECES)
    return found
