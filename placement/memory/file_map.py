"""Weights that stay in the file's memory map (`--mmap`): the page cache holds as many of them as
RAM is free, the others come from disc whenever a token needs them.

    RAM     budget = cache + compute + other + room
    disc    W bytes of weights in the map: (W - room) / W of every token's reads, where positive

A plan's budget of the CPU has the weights there beside the RAM: mapped ones fit, the rest has to.
"""

from dataclasses import dataclass, replace

from placement.errors import PlanError
from placement.machines.machine import CPU
from placement.plan import DeviceUse, PlacementPlan
from placement.workload import Workload


@dataclass(frozen=True, slots=True)
class FileMap:
    """weights_bytes   that the CPU reads out of the map
    room_bytes         of RAM for the page cache; below zero where even the rest has too little
    """

    weights_bytes: int
    room_bytes: int

    @property
    def missing_bytes(self) -> int:
        """Weights that RAM cannot keep."""
        return max(self.weights_bytes - max(self.room_bytes, 0), 0)

    @property
    def missing_share(self) -> float:
        return self.missing_bytes / self.weights_bytes if self.weights_bytes else 0.0


def file_map(plan: PlacementPlan) -> FileMap:
    """Of a plan whose weights are not mapped: nothing in the map."""
    for use in plan.devices:
        if mapped := mapped_bytes(plan.workload, use.name, use.weights_bytes):
            return FileMap(mapped, use.budget_bytes - use.total_bytes)
    return FileMap(0, 0)


def mapped_bytes(load: Workload, device: str, weights_bytes: int) -> int:
    """Of a device's weights, those that lie in the file's map."""
    return weights_bytes if load.mapped and device == CPU else 0


def without_map(plan: PlacementPlan, use: DeviceUse) -> DeviceUse:
    """What a device holds and may hold of its memory, which the file's map is not."""
    mapped = mapped_bytes(plan.workload, use.name, use.weights_bytes)
    memory = use.budget_bytes - mapped
    return replace(use, budget_bytes=memory, weights_bytes=use.weights_bytes - mapped)


def with_mapping(plan: PlacementPlan, *, mapped: bool) -> PlacementPlan:
    """The plan with its weights in the file's map, or not, whichever way it was made.

    Raises PlanError where they then do not fit.
    """
    if mapped == plan.workload.mapped:
        return plan
    sign = 1 if mapped else -1
    uses = tuple(
        replace(use, budget_bytes=max(use.budget_bytes + sign * use.weights_bytes, 0))
        if use.name == CPU
        else use
        for use in plan.devices
    )
    if any(use.total_bytes > use.budget_bytes for use in uses if use.name == CPU):
        raise PlanError(
            "the plan leaves weights in the file's map; RAM has no room for them",
            remedy=["--mmap", "make the plan again without it: hybrid plan MODEL --save plan.json"],
        )
    return replace(plan, devices=uses, workload=replace(plan.workload, mapped=mapped))
