"""The plan: which device holds which tensor (or range of experts) and why, as a frozen value.

The same plan file gives the same run. Assignments stand in file order, every tensor once, or once
per expert range. JSON both ways: `plan_json.py`.
"""

from collections import Counter
from dataclasses import dataclass

from placement.errors import PlanError
from placement.inventory import ModelInventory, TensorInfo
from placement.machine import UNLOADED, Machine, device_advice
from placement.rules import Rule
from placement.units import format_bytes
from placement.workload import Workload

PLAN_VERSION = 1


@dataclass(frozen=True, slots=True)
class Assignment:
    """One tensor, or the experts first..last of it, on one device.

    rule     index into the plan's rules, None when the planner chose
    reason   one phrase for a person
    """

    tensor: str
    experts: tuple[int, int] | None
    device: str
    nbytes: int
    rule: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceUse:
    """Planned bytes of one device by category, against its budget."""

    name: str
    budget_bytes: int
    weights_bytes: int
    cache_bytes: int
    compute_bytes: int
    other_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.compute_bytes + self.other_bytes


@dataclass(frozen=True, slots=True)
class PlacementPlan:
    """Everything the loader needs and everything the user reads.

    layers   home of each trunk block: where its attention, cache and activations live
    """

    model: str
    architecture: str
    model_bytes: int
    assignments: tuple[Assignment, ...]
    layers: tuple[str, ...]
    devices: tuple[DeviceUse, ...]
    rules: tuple[Rule, ...]
    workload: Workload
    notes: tuple[str, ...] = ()
    version: int = PLAN_VERSION


def check_plan(plan: PlacementPlan, inventory: ModelInventory, machine: Machine) -> None:
    """Raises PlanError unless the plan covers this file byte for byte on this machine."""
    _check_devices(plan, machine)
    if len(plan.layers) != inventory.shape.layers:
        raise _foreign(
            f"it has {len(plan.layers)} layers, the model {inventory.shape.layers}", inventory
        )
    parts: dict[str, list[Assignment]] = {}
    for part in plan.assignments:
        parts.setdefault(part.tensor, []).append(part)
    for tensor in inventory.tensors:
        if tensor.name not in parts:
            raise _foreign(f"it does not place {tensor.name}", inventory)
        _check_tensor(tensor, parts.pop(tensor.name), inventory)
    if parts:
        raise _foreign(f"it places {next(iter(parts))}, which the file lacks", inventory)
    _check_sums(plan)


def _check_devices(plan: PlacementPlan, machine: Machine) -> None:
    used = dict.fromkeys([*plan.layers, *(part.device for part in plan.assignments)])
    listed = {use.name for use in plan.devices}
    for name in used:
        if name == UNLOADED:
            continue
        if machine.device(name) is None:
            raise PlanError(
                f"the plan uses {name}, which is not here",
                remedy=(device_advice(name, machine.device_names), "--simulate stands in for GPUs"),
            )
        if name not in listed:
            raise PlanError(
                f"the plan uses {name} but has no entry for it in devices",
                remedy="make the plan again with `hybrid plan`",
            )
    for use in plan.devices:
        device = machine.device(use.name)
        if device is not None and use.total_bytes > device.free_bytes:
            raise PlanError(
                f"the plan needs more than is free on {use.name}",
                f"needs {format_bytes(use.total_bytes)}, free {format_bytes(device.free_bytes)}",
                remedy="free memory there, or make the plan again with `hybrid plan`",
            )


def _check_tensor(tensor: TensorInfo, parts: list[Assignment], inventory: ModelInventory) -> None:
    nbytes = sum(part.nbytes for part in parts)
    if nbytes != tensor.nbytes:
        raise _foreign(f"{tensor.name} has {nbytes} bytes in it, {tensor.nbytes} here", inventory)
    if tensor.role.is_loaded == any(part.device == UNLOADED for part in parts):
        state = "is loaded" if tensor.role.is_loaded else "is not loaded"
        raise _foreign(f"{tensor.name} {state} by this version, not so in the plan", inventory)
    if len(parts) == 1 and parts[0].experts is None:
        return
    following = 0
    for part in parts:
        if part.experts is None or part.experts[0] != following:
            raise _foreign(f"expert {following} of {tensor.name} is not placed once", inventory)
        first, following = part.experts[0], part.experts[1] + 1
        if part.nbytes != (following - first) * tensor.expert_bytes:
            raise _foreign(f"experts {first}-{following - 1} of {tensor.name} differ", inventory)
    if following != tensor.experts:
        raise _foreign(
            f"it places {following} experts of {tensor.name}, which has {tensor.experts}", inventory
        )


def _check_sums(plan: PlacementPlan) -> None:
    weights: Counter[str] = Counter()
    for part in plan.assignments:
        weights[part.device] += part.nbytes
    for use in plan.devices:
        if weights[use.name] != use.weights_bytes:
            raise PlanError(
                f"the plan's weights on {use.name} do not add up",
                f"devices say {use.weights_bytes} bytes, assignments {weights[use.name]}",
                remedy="make the plan again with `hybrid plan`",
            )


def _foreign(what: str, inventory: ModelInventory) -> PlanError:
    return PlanError(
        f"the plan was made for another file than {inventory.name}",
        what,
        remedy="make a plan for this file with `hybrid plan`, or give the file it was made for",
    )
