"""Whether a layout fits, by the bytes of a finished plan: what solvers are held against."""

from collections.abc import Sequence
from dataclasses import replace

from placement.memory.needs import device_needs
from placement.plan import Assignment
from placement.request import Request


def needs_fit(request: Request, parts: Sequence[Assignment], homes: list[str], head: str) -> bool:
    """homes   of the blocks, in order
    parts   where experts and the embedding are; the others go with their block, or the head
    """
    moved = []
    for part in parts:
        pieces, device = part.tensor.split("."), part.device
        if pieces[0] == "blk" and "_exps" not in part.tensor:
            device = homes[int(pieces[1])]
        elif pieces[0] in ("output", "output_norm"):
            device = head
        moved.append(replace(part, device=device))
    names = request.machine.device_names
    needs = device_needs(request.inventory, request.workload, homes, moved, names)
    return all(
        need.weights_bytes + need.cache_bytes + need.compute_bytes <= request.budgets[name]
        for name, need in needs.items()
    )
