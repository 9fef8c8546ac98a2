"""The plan of a prepared model with other settings: what `--what-if` asks many times over. The file
is opened and the machine probed once. No torch.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from hybrid.errors import UsageError
from hybrid.runtime.options import CpuMoe, LoadOptions
from hybrid.runtime.prepare import Prepared, new_plan
from placement.errors import PlacementError
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.report.export import layers_in_ram
from placement.report.speed import short_rates
from placement.report.what_if import Settings

# key of --what-if -> field of LoadOptions
FIELDS = {
    "ctx": "context",
    "ub": "ubatch",
    "ctk": "cache_format",
    "ngl": "gpu_layers",
    "optimize": "optimize",
}
WORDS: Mapping[object, int | None] = {"auto": None, "all": 1 << 20}


def varied_plan(prepared: Prepared, options: LoadOptions, settings: Settings) -> PlacementPlan:
    """The plan for these settings, whether it fits or not.

    options   those that `prepared` was made with, without a plan
    Raises PlacementError or UsageError for settings that cannot be obeyed.
    """
    machine = prepared.machine
    if "gpus" in settings:
        machine = with_gpus(machine, int(settings["gpus"]))
    changed = {FIELDS[key]: WORDS.get(v, v) for key, v in settings.items() if key in FIELDS}
    gone = set(prepared.machine.device_names) - set(machine.device_names)
    budgets = {name: n for name, n in (options.budgets or {}).items() if name not in gone}
    varied = LoadOptions.from_keywords(**{**_given(options), "budgets": budgets or None, **changed})
    threads = prepared.plan.workload.threads
    return new_plan(varied, prepared.inventory, machine, threads, overfull_too=True)


def whole_layer_flags(prepared: Prepared, options: LoadOptions) -> list[str]:
    """ "-ncmoe 60 (about 20.7 tok/s; prompts 391)": flags that fit and leave no layer's experts in
    part, the fastest first; none for a plan that was read from a file.
    """
    if options.plan is not None:
        return []
    stock, threads = prepared.inventory, prepared.plan.workload.threads
    count = layers_in_ram(prepared.plan, stock)
    tried: list[tuple[float, str]] = []
    for text, rule in ((f"-ncmoe {count}", CpuMoe(count)), ("-cmoe", CpuMoe())):
        changed = replace(options, rules=(*options.rules, rule))
        try:
            made = new_plan(changed, stock, prepared.machine, threads)
        except PlacementError:
            continue
        if any(part.experts is not None for part in made.assignments):
            continue
        told = made.prediction
        speeds = f" ({short_rates(told)})" if told else ""
        tried.append((told.decode[0].tokens_per_s if told else 0.0, text + speeds))
    return [text for _, text in sorted(tried, key=lambda one: -one[0])]


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


def _given(options: LoadOptions) -> dict[str, object]:
    return {field.name: getattr(options, field.name) for field in fields(options)}
