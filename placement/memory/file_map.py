"""Weights that stay in the file's memory map (`--mmap`): the page cache holds as many of them as
RAM is free, the others come from disc whenever a token needs them.

    RAM     budget = cache + compute + other + room
    disc    W bytes of weights in the map: (W - room) / W of every token's reads, where positive

A plan's budget of the CPU has the whole file beside the RAM, so that mapped weights "fit".
"""

from dataclasses import dataclass, replace

from placement.errors import PlanError
from placement.machines.machine import CPU
from placement.plan import DeviceUse, PlacementPlan


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
        if mapped := mapped_bytes(plan, use):
            return FileMap(mapped, ram_budget(plan, use) - (use.total_bytes - mapped))
    return FileMap(0, 0)


def mapped_bytes(plan: PlacementPlan, use: DeviceUse) -> int:
    """Of a device's bytes, those that lie in the file's map."""
    return use.weights_bytes if plan.workload.mapped and use.name == CPU else 0


def ram_budget(plan: PlacementPlan, use: DeviceUse) -> int:
    """A device's budget without the file's map, which is no memory."""
    mapped = plan.workload.mapped and use.name == CPU
    return use.budget_bytes - plan.model_bytes if mapped else use.budget_bytes


def with_mapping(plan: PlacementPlan, *, mapped: bool) -> PlacementPlan:
    """The plan with its weights in the file's map, or not, whichever way it was made.

    Raises PlanError where they then do not fit.
    """
    if mapped == plan.workload.mapped:
        return plan
    more = plan.model_bytes if mapped else -plan.model_bytes
    uses = tuple(
        replace(use, budget_bytes=max(use.budget_bytes + more, 0)) if use.name == CPU else use
        for use in plan.devices
    )
    if any(use.total_bytes > use.budget_bytes for use in uses if use.name == CPU):
        raise PlanError(
            "the plan leaves weights in the file's map; RAM has no room for them",
            remedy=["--mmap", "make the plan again without it: hybrid plan MODEL --save plan.json"],
        )
    return replace(plan, devices=uses, workload=replace(plan.workload, mapped=mapped))
