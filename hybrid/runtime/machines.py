"""What a model is placed on: this machine or one out of a file, with the GPUs asked for."""

from dataclasses import replace

from hybrid.errors import UsageError
from hybrid.runtime.options import LoadOptions
from kernels.capability import OLDEST_CAPABILITY
from placement.machines.choice import described_machine
from placement.machines.machine import ASSUMED, Machine, canonical_name, device_advice, gpu_findings
from placement.machines.probe import probe_machine
from placement.machines.profile import with_profile


def machine_for(options: LoadOptions) -> tuple[Machine, tuple[str, ...]]:
    """The machine with the GPUs that these options leave, and notes on what was left out and on
    its speeds.

    Raises UsageError for a GPU that is not there.
    """
    machine, of_speeds = machine_of(options)
    machine = chosen_devices(machine, options.devices)
    if options.devices is not None:
        return only_main_gpu(machine, options), of_speeds
    machine, too_old = without_old_gpus(machine)
    return only_main_gpu(machine, options), (*of_speeds, *too_old)


def machine_of(options: LoadOptions) -> tuple[Machine, tuple[str, ...]]:
    """What to place on, with speeds as far as anybody measured or described them, and what the
    user should hear about these.
    """
    if options.machine is not None:
        machine = described_machine(options.machine)
        return machine, tuple(f.value for f in machine.findings if f.what == ASSUMED)
    machine = probe_machine(simulate=options.simulate, visible=options.visible)
    return with_profile(machine, options.profiles)


def chosen_devices(machine: Machine, names: tuple[str, ...] | None) -> Machine:
    """The machine with only the GPUs that --device names; ("none",) leaves the CPU alone."""
    if names is None:
        return machine
    wanted = {canonical_name(name) for name in names} - {"NONE"}
    if missing := sorted(wanted - set(machine.device_names)):
        raise UsageError(
            f"unknown device {missing[0]!r} in --device",
            *gpu_findings(machine),
            remedy=[
                device_advice(missing[0], machine.device_names),
                "--device none: no GPU",
                "hybrid doctor shows what was looked for, and where",
            ],
        )
    kept = tuple(d for d in machine.devices if not d.is_gpu or d.name in wanted)
    return replace(machine, devices=kept)


def only_main_gpu(machine: Machine, options: LoadOptions) -> Machine:
    """The machine with the one GPU of -sm none; a machine without GPUs as it is."""
    if options.split != "none" or not machine.gpus:
        return machine
    if options.main_gpu >= len(machine.gpus):
        raise UsageError(
            f"-mg {options.main_gpu} is no GPU of this machine",
            remedy=f"-mg takes 0 to {len(machine.gpus) - 1}, counted among the GPUs in use",
        )
    kept = machine.gpus[options.main_gpu]
    return replace(machine, devices=(machine.host, kept))


def without_old_gpus(machine: Machine) -> tuple[Machine, tuple[str, ...]]:
    """The machine without GPUs that no kernel runs on, and a note for each; who names one with
    --device is told when it is opened.
    """
    kept, notes = [], []
    for device in machine.devices:
        found = tuple(map(int, (device.compute_capability or "99.0").split(".")))
        if found >= OLDEST_CAPABILITY:
            kept.append(device)
            continue
        needed = ".".join(map(str, OLDEST_CAPABILITY))
        notes.append(
            f"{device.name} ({device.description}) is left out: its compute capability is"
            f" {device.compute_capability}, kernels need {needed}"
        )
    return replace(machine, devices=tuple(kept)), tuple(notes)
