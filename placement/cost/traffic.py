"""Bytes of weights and cache that one decoded token reads, device by device: what the memory's
speed is divided by for the most tokens per second there can be.

    token_embd -> one row | routed experts -> used / count of them | everything else -> whole
"""

from collections import Counter
from dataclasses import dataclass, replace

from placement.inventory import ModelInventory, Role
from placement.machines.machine import UNLOADED
from placement.plan import PlacementPlan
from placement.workload import cache_bytes, cache_homes


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes read on one device for one token.

    weight_bytes   matrices, norms, one embedding row, and of the routed experts their mean share
    cache_bytes    one read of the rows cached before the token
    """

    weight_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes


def decode_traffic(
    plan: PlacementPlan, inventory: ModelInventory, cached_tokens: int = 0
) -> dict[str, Traffic]:
    """What one token reads on each device of the plan, in the plan's order.

    cached_tokens   rows in every layer's cache when the token is computed

    Experts are taken to be chosen evenly: a range holding half of them is read half the time. A
    cache in RAM is read there, also by a GPU.
    """
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    used = inventory.shape.expert_used_count
    weights: Counter[str] = Counter()
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        if part.device == UNLOADED:
            continue
        if tensor.role is Role.EMBEDDING:
            whole = part.nbytes if inventory.has_tied_head else 0  # it is read as the head too
            weights[part.device] += whole + part.nbytes // tensor.shape[0]
        elif tensor.role is Role.ROUTED_EXPERT:
            weights[part.device] += part.nbytes * used // tensor.experts
        else:
            weights[part.device] += part.nbytes
    rows = replace(plan.workload, context_tokens=cached_tokens, sequences=1)
    caches = cache_homes(plan.layers, plan.workload)
    return {
        use.name: Traffic(
            weights[use.name], cache_bytes(inventory.shape, rows, caches.count(use.name))
        )
        for use in plan.devices
    }
