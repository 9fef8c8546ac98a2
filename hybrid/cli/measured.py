"""The part of `doctor` that measures: when it does, what it keeps, how it shows the figures."""

import argparse
import os
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from hybrid.cli.output import note, notes, say, table
from kernels.errors import NativeLibraryMissing, WorkerFailed
from placement.machines.cpus import choose_cpus
from placement.machines.estimates import estimate_error, speeds_from, speeds_of
from placement.machines.machine import CPU, Machine
from placement.machines.profile import (
    COMMAND,
    MEASURED_ERROR,
    StoredProfile,
    find_profile,
    profile_text,
    store_profile,
)
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from placement.units import format_bytes

# name of a figure -> what it is, its unit; in the order of the table
FIGURES = {
    "read_gb_s": ("RAM read by all threads", "GB/s"),
    "product_share": ("products of one token, of RAM read or copies", "%"),
    "matmul_tflops": ("products of many tokens", "TFLOP/s"),
    "job_us": ("a job's own time", "us"),
    "token_us": ("a token outside of kernels", "us"),
    "copy_gb_s": ("copies, read and written", "GB/s"),
    "cache_share": ("attention of one token, of copies", "%"),
    "attention_tflops": ("attention of many tokens", "TFLOP/s"),
    "block_us": ("a block of a step beside its bytes", "us"),
    "prompt_block_us": ("a block of a micro-batch, likewise", "us"),
    "to_gpu_gb_s": ("pinned memory to the GPU", "GB/s"),
    "to_host_gb_s": ("GPU to pinned memory", "GB/s"),
    "together_gb_s": ("to the GPU, all GPUs at once", "GB/s"),
    "crossing_us": ("GPU, CPU, GPU without work", "us"),
    "handover_us": ("one token to the next GPU", "us"),
    "context_mib": ("a process beside what it places", "MiB"),
}
MOST_LOAD = 0.25  # of the CPUs, before measuring
PROFILE, ESTIMATE = "measured", "estimated"


def add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """When to measure: left out, if this state of the machine has not been measured yet."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--measure",
        action="store_true",
        default=None,
        help="measure speeds anew (left out: if they never were on the machine as it is)",
    )
    group.add_argument(
        "--no-measure", dest="measure", action="store_false", help="only tell what is known"
    )


def profile_of(machine: Machine, args: argparse.Namespace) -> StoredProfile:
    """What was measured of this machine, now or before; without speeds where nothing was."""
    found = find_profile(machine, args.profiles) if args.profiles else StoredProfile(None, None)
    if args.simulate is not None or args.measure is False:
        notes(found.notes)
        return found
    if found.speeds is not None and not args.measure:
        return found
    try:
        return _measured(machine, args)
    except (NativeLibraryMissing, WorkerFailed) as error:
        note(f"speeds are estimated, nothing can be measured: {str(error).splitlines()[0]}")
        return found


def _measured(machine: Machine, args: argparse.Namespace) -> StoredProfile:
    # torch takes 1.5 s to import: the facts come without it
    from hybrid.runtime.measuring.machine import measure_machine  # noqa: PLC0415

    cpus = choose_cpus()
    _say_if_busy(machine)
    readings = measure_machine(machine, cpus, lambda what: say(f"measuring {what}"))
    notes(readings.faults)
    error = estimate_error(machine) if readings.faults else MEASURED_ERROR
    day = datetime.now().date().isoformat()
    speeds = speeds_from(machine, readings.figures, f"measured {day}", error)
    path = None
    try:
        if args.profiles:
            text = profile_text(machine, readings.figures, day, error)
            path = store_profile(machine, text, args.profiles)
    except OSError as failure:
        note(f"the figures cannot be kept in {args.profiles}: {failure.strerror or failure}")
    return StoredProfile(path, speeds, readings.figures)


def _say_if_busy(machine: Machine) -> None:
    """Figures from a machine that does other work are too low, and would be kept."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > MOST_LOAD * machine.usable_cpus:
        cpus = f"{machine.usable_cpus} CPU{'s' * (machine.usable_cpus > 1)}"
        note(
            f"the machine is busy (load {load:.1f} on {cpus}): figures may come out too low;"
            f" {COMMAND} again when it is not"
        )


def with_speeds(machine: Machine, found: StoredProfile) -> Machine:
    """The machine with speeds for every device."""
    measured = replace(machine, speeds=found.speeds)
    return replace(machine, speeds=speeds_of(measured))


def speed_facts(machine: Machine, found: StoredProfile) -> dict[str, Any]:
    """For --json. `machine` is `with_speeds`."""
    assert machine.speeds is not None
    return {
        **asdict(machine.speeds),
        "measured": {device: list(figures) for device, figures in found.figures.items()},
        "profile": str(found.path) if found.path else None,
    }


def speeds_text(machine: Machine, found: StoredProfile) -> str:
    """Where the figures come from and are kept, and a table of them."""
    assert machine.speeds is not None
    where = f"kept in {found.path}" if found.path else f"{COMMAND} measures them"
    return f"speeds: {machine.speeds.source}; {where}\n{table(_rows(machine.speeds, found))}"


def _rows(known: MachineSpeeds, found: StoredProfile) -> list[list[str]]:
    """Device, what, figure, unit, source."""
    rows = []
    of_devices: dict[str, HostSpeeds | GpuSpeeds] = {CPU: known.host, **known.gpus}
    for device, speeds in of_devices.items():
        measured = found.figures.get(device, {})
        values = asdict(speeds)
        for name, (what, unit) in FIGURES.items():
            if name in values:
                source = PROFILE if name in measured else ESTIMATE
                rows.append([device, what, _figure(values[name], unit), unit, source])
    measured_by_threads = "by_threads" in found.figures.get(CPU, {})
    source = PROFILE if measured_by_threads else ESTIMATE
    rows += [
        [CPU, f"RAM read, {count} thread{'s' * (count > 1)}", _figure(rate, ""), "GB/s", source]
        for count, rate in known.host.by_threads
    ]
    rows += [
        [f"node{node}", "RAM read by all threads", _figure(rate, ""), "GB/s", PROFILE]
        for node, rate in known.host.by_node
    ]
    return rows


def about_machine(machine: Machine) -> str:
    """One line for a machine file: "2x NVIDIA L4, AMD EPYC 7763, 251.6 GiB"."""
    names = [gpu.description or "a simulated GPU" for gpu in machine.gpus]
    gpus = [f"{names.count(name)}x {name}" for name in dict.fromkeys(names)]
    host = machine.host
    return ", ".join([*gpus, host.description, format_bytes(host.total_bytes)])


def _figure(value: float, unit: str) -> str:
    value = 100 * value if unit == "%" else value
    digits = 0 if value >= 1000 else 1 if value >= 10 else 2
    return f"{value:8.{digits}f}"
