"""The plan of a prepared model with other settings: what `--what-if` asks many times over. The file
is opened and the machine probed once. No torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from hybrid.errors import UsageError
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import Prepared, all_rules, workload
from placement.budgets import device_budgets
from placement.draft import draft
from placement.machine import Machine
from placement.plan import PlacementPlan
from placement.prediction import Prediction
from placement.request import Request
from placement.what_if import Settings
from placement.workload import check_workload

Predict = Callable[[PlacementPlan], Prediction]
# key of --what-if -> field of LoadOptions
FIELDS = {
    "ctx": "context",
    "ub": "ubatch",
    "ctk": "cache_format",
    "ngl": "gpu_layers",
    "optimize": "optimize",
}
WORDS: Mapping[object, int | None] = {"auto": None, "all": 1 << 20}


def predictor(prepared: Prepared, machine: Machine | None = None) -> Predict | None:
    """What predicts a changed plan's speeds; None where the plan itself has none.

    machine   in place of the prepared one
    """
    return None


def varied_plan(prepared: Prepared, options: LoadOptions, settings: Settings) -> PlacementPlan:
    """The plan for these settings, whether it fits or not.

    options   those that `prepared` was made with, without a plan
    Raises PlacementError or UsageError for settings that cannot be obeyed.
    """
    machine, stock = prepared.machine, prepared.inventory
    if "gpus" in settings:
        machine = with_gpus(machine, int(settings["gpus"]))
    varied = replace(options, **_changed(settings))
    load = workload(varied, stock, prepared.plan.workload.threads)
    check_workload(load)
    budgets = {
        name: nbytes
        for name, nbytes in (options.budgets or {}).items()
        if machine.device(name) is not None or prepared.machine.device(name) is None
    }
    request = Request(
        stock,
        machine,
        all_rules(varied, stock, machine),
        load,
        device_budgets(_room(prepared, varied, machine), budgets),
        varied.gpu_layers,
        **_asked(varied),
    )
    plan = draft(request)
    predict = predictor(prepared, machine)
    return replace(plan, prediction=predict(plan)) if predict else plan


def with_gpus(machine: Machine, count: int) -> Machine:
    """The machine with its first `count` GPUs; beyond them, more that are like the last one.

    Raises UsageError where there is none to be like.
    """
    gpus, links = list(machine.gpus[:count]), list(machine.links)
    speeds = dict(machine.speeds.gpus) if machine.speeds else {}
    while len(gpus) < count:
        if not gpus:
            raise UsageError(
                "gpus: this machine has no GPU that more could be like",
                remedy="--simulate CUDA0=23GiB plays one",
            )
        last, name = gpus[-1], f"CUDA{len(gpus)}"
        gpus.append(replace(last, name=name, uuid=None))
        links += [replace(link, device=name) for link in links if link.device == last.name]
        if last.name in speeds:
            speeds[name] = speeds[last.name]
    return replace(
        machine,
        devices=(machine.host, *gpus),
        links=tuple(links),
        speeds=replace(machine.speeds, gpus=speeds) if machine.speeds else None,
    )


def _changed(settings: Settings) -> dict[str, Any]:
    """Fields of LoadOptions."""
    known = {field.name for field in fields(LoadOptions)}
    changed = {FIELDS[key]: value for key, value in settings.items() if key in FIELDS}
    if unknown := [name for name in changed if name not in known]:
        raise UsageError(f"{unknown[0]} cannot be varied here", remedy="leave it out")
    return {name: WORDS.get(value, value) for name, value in changed.items()}


def _asked(options: LoadOptions) -> dict[str, Any]:
    """What a request has beside sizes and rules."""
    names = {field.name for field in fields(Request)} & {"optimize"}
    return {name: getattr(options, name) for name in names if hasattr(options, name)}


def _room(prepared: Prepared, options: LoadOptions, machine: Machine) -> Machine:
    """Mapped weights need no RAM of their own."""
    if not options.mmap:
        return machine
    mapped, host = prepared.inventory.nbytes, machine.host
    larger = replace(
        host, total_bytes=host.total_bytes + mapped, free_bytes=host.free_bytes + mapped
    )
    return replace(machine, devices=(larger, *machine.gpus))
