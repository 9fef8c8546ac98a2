"""A plan from a file against the model and the machine: obeyed only when it fits both, byte for
byte.
"""

from collections import Counter

from placement.errors import PlanError
from placement.inventory import ModelInventory, TensorInfo
from placement.machines.machine import CPU, UNLOADED, Machine, device_advice
from placement.memory.file_map import without_map
from placement.memory.needs import device_needs
from placement.plan import Assignment, PlacementPlan
from placement.units import flag_bytes, format_bytes

AGAIN = "make the plan again with `hybrid plan`"


def check_plan(plan: PlacementPlan, inventory: ModelInventory, machine: Machine) -> None:
    """Raises PlanError unless the plan covers this file byte for byte on this machine: another
    model's plan is told as such before its devices are looked for.
    """
    _check_listed(plan)
    _check_model(plan, inventory)
    _check_devices(plan, machine)
    _check_needs(plan, inventory)


def _check_model(plan: PlacementPlan, inventory: ModelInventory) -> None:
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


def _check_devices(plan: PlacementPlan, machine: Machine) -> None:
    used = dict.fromkeys([CPU, *plan.layers, *(part.device for part in plan.assignments)])
    used.pop(UNLOADED, None)
    listed = {use.name for use in plan.devices}
    for name in used:
        if machine.device(name) is None:
            raise PlanError(
                f"the plan uses {name}, which is not here",
                remedy=_other_devices(plan, name, machine),
            )
        if name not in listed:
            raise PlanError(
                f"the plan uses {name} but has no entry for it in devices",
                remedy=AGAIN,
            )
    for use in plan.devices:
        device = machine.device(use.name)
        needed = without_map(plan, use).total_bytes
        if device is not None and needed > device.free_bytes:
            raise PlanError(
                f"the plan needs more than is free on {use.name}",
                f"needs {format_bytes(needed)}, free {format_bytes(device.free_bytes)}",
                remedy="free memory there, or make the plan again with `hybrid plan`",
            )


def _other_devices(plan: PlacementPlan, name: str, machine: Machine) -> list[str]:
    """What has the plan's devices, each way once."""
    sizes = {u.name: u.budget_bytes for u in plan.devices if u.name != CPU and u.total_bytes}
    remedies = []
    if plan.machine:
        remedies.append(
            f"it was made for another machine: hybrid plan with --machine {plan.machine}"
        )
    if machine.gpus:
        remedies.append(device_advice(name, machine.device_names))
    if sizes and list(sizes) == [f"CUDA{number}" for number in range(len(sizes))]:
        listed = ",".join(f"{gpu}={flag_bytes(nbytes)}" for gpu, nbytes in sizes.items())
        remedies.append(f"--simulate {listed} plays GPUs that hold it")
    return remedies or [AGAIN]


def _check_listed(plan: PlacementPlan) -> None:
    if UNLOADED in plan.layers:
        layer = plan.layers.index(UNLOADED)
        raise PlanError(
            f"the plan gives layer {layer} no device",
            f"only tensors may stay in the file ({UNLOADED!r}), a layer's home is a device",
            remedy=AGAIN,
        )
    counts = Counter(use.name for use in plan.devices)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise PlanError(f"the plan lists {twice[0]} twice in devices", remedy=AGAIN)
    if UNLOADED in counts:
        raise PlanError(f"the plan lists {UNLOADED!r}, which is no device", remedy=AGAIN)
    for use in plan.devices:
        if use.total_bytes > use.budget_bytes:
            raise PlanError(
                f"the plan's bytes on {use.name} exceed its own budget",
                f"{format_bytes(use.total_bytes)} of {format_bytes(use.budget_bytes)}",
                remedy=AGAIN,
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


def _check_needs(plan: PlacementPlan, inventory: ModelInventory) -> None:
    """Weights as assigned; cache and scratch at least what the plan's own workload needs. What is
    beside them is the machine's, which may be another one now.
    """
    names = [use.name for use in plan.devices]
    needs = device_needs(inventory, plan.workload, plan.layers, plan.assignments, names)
    for use in plan.devices:
        need = needs[use.name]
        if need.weights_bytes != use.weights_bytes:
            raise PlanError(
                f"the plan's weights on {use.name} do not add up",
                f"devices say {use.weights_bytes} bytes, assignments {need.weights_bytes}",
                remedy=AGAIN,
            )
        planned = {
            "cache": (use.cache_bytes, need.cache_bytes),
            "compute": (use.compute_bytes, need.compute_bytes),
        }
        for category, (there, needed) in planned.items():
            if there < needed:
                raise PlanError(
                    f"the plan's {category} bytes on {use.name} are too few for its workload",
                    f"planned {format_bytes(there)}, needed {format_bytes(needed)} with context"
                    f" {plan.workload.context_tokens}, micro-batch {plan.workload.ubatch_tokens}",
                    remedy=AGAIN,
                )


def _foreign(what: str, inventory: ModelInventory) -> PlanError:
    return PlanError(
        f"the plan was made for another file than {inventory.name}",
        what,
        remedy="make a plan for this file with `hybrid plan`, or give the file it was made for",
    )
