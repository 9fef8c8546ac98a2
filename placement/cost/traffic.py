"""Bytes of weights and cache that one decoded token reads, device by device and one after another:
what memories' speeds are divided by for the most tokens per second there can be.

    token_embd -> one row | routed experts -> used / count of them | everything else -> whole

    stages   embedding | attention 0 | feed-forward 0 | attention 1 | ... | head
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from placement.inventory import ModelInventory, Role
from placement.machines.machine import CPU, UNLOADED
from placement.plan import PlacementPlan
from placement.workload import cache_bytes, cache_homes

PCIE = "PCIe"


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
    weights: Counter[str] = Counter()
    for _, device, nbytes in _weights(plan, inventory):
        weights[device] += nbytes
    caches = cache_homes(plan.layers, plan.workload)
    row_bytes = _rows_of_a_layer(plan, inventory, cached_tokens)
    return {
        use.name: Traffic(weights[use.name], caches.count(use.name) * row_bytes)
        for use in plan.devices
    }


def decode_stages(
    plan: PlacementPlan, inventory: ModelInventory, cached_tokens: int = 0
) -> tuple[Mapping[str, int], ...]:
    """The same bytes by what waits for what: a stage begins when the one before it has ended, and
    devices of one stage read side by side at best. Each is bytes by device.

    Rows of a cache in RAM that a block on a GPU reads come over that GPU's bus: "PCIe".
    """
    stages: list[Counter[str]] = [Counter() for _ in range(2 + 2 * len(plan.layers))]
    for stage, device, nbytes in _weights(plan, inventory):
        stages[stage][device] += nbytes
    row_bytes = _rows_of_a_layer(plan, inventory, cached_tokens)
    for layer, home in enumerate(plan.layers):
        over_bus = plan.workload.cache_in_ram and home != CPU
        stages[_attention(layer)][PCIE if over_bus else home] += row_bytes
    return tuple(stages)


def _attention(layer: int) -> int:
    return 1 + 2 * layer


def _rows_of_a_layer(plan: PlacementPlan, inventory: ModelInventory, cached_tokens: int) -> int:
    rows = replace(plan.workload, context_tokens=cached_tokens, sequences=1)
    return cache_bytes(inventory.shape, rows, 1)


def _weights(plan: PlacementPlan, inventory: ModelInventory) -> Iterator[tuple[int, str, int]]:
    """Stage, device, and bytes that a token reads, of each part that is placed."""
    tensors = {tensor.name: tensor for tensor in inventory.tensors}
    used, head = inventory.shape.expert_used_count, 1 + 2 * len(plan.layers)
    for part in plan.assignments:
        tensor = tensors[part.tensor]
        if part.device == UNLOADED:
            continue
        if tensor.role is Role.EMBEDDING:
            yield 0, part.device, part.nbytes // tensor.shape[0]
            if inventory.has_tied_head:  # it is read as the head too
                yield head, part.device, part.nbytes
        elif tensor.layer is None:
            yield head, part.device, part.nbytes
        elif tensor.role in (Role.ATTENTION, Role.NORM):
            yield _attention(tensor.layer), part.device, part.nbytes
        elif tensor.role is Role.ROUTED_EXPERT:
            chosen = part.nbytes * used // tensor.experts
            yield _attention(tensor.layer) + 1, part.device, chosen
        else:
            yield _attention(tensor.layer) + 1, part.device, part.nbytes
