"""What `hybrid doctor` measured, kept in the user's cache folder: one file for each state of a
machine.

    machine-<fingerprint>.toml    the state it was measured in, figure by figure, and the speeds

The fingerprint is of the state, so that a file found under it belongs to the machine as it is. A
machine with other GPUs, another driver, more RAM, or CPUs taken away looks for another file; plans
for it say which profile does not fit any more.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from placement.errors import RequestError
from placement.estimates import gpu_estimate, host_estimate
from placement.machine import Device, DeviceKind, Machine
from placement.speeds import MachineSpeeds
from placement.speeds_table import read_gpu_speeds, read_host_speeds, speeds_values
from placement.toml_table import read_toml, toml_lines

# Of the way speeds are measured: profiles of an older one are measured anew.
MEASURING_VERSION = 1
MEASURED_ERROR = 0.15  # the cost model's, where speeds are measured
COMMAND = "hybrid doctor --measure"
WHAT = "a profile of this machine"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A profile as it was found.

    speeds   None where nothing fits this state of the machine
    notes    what the user should hear: unreadable files, a profile of another state
    """

    path: Path | None
    speeds: MachineSpeeds | None
    notes: tuple[str, ...] = ()


def profile_folder(cache_home: str | None) -> Path | None:
    """$XDG_CACHE_HOME/hybrid, ~/.cache/hybrid without it (relative paths count as not set); None
    for a user without a home.
    """
    if cache_home and Path(cache_home).is_absolute():
        return Path(cache_home) / "hybrid"
    try:
        return Path.home() / ".cache" / "hybrid"
    except RuntimeError:
        return None


def machine_state(machine: Machine) -> dict[str, str]:
    """What speeds depend on, by name: another value of any of these asks for measuring anew."""
    host = machine.host
    state = {
        "measuring": str(MEASURING_VERSION),
        "CPU": host.description,
        "cores": f"{machine.physical_cores} of {machine.usable_cpus} CPUs",
        "RAM": f"{round(host.total_bytes / _GIB)} GiB",
        "NUMA nodes": str(len(machine.memory_nodes)),
    }
    for gpu in _real_gpus(machine):
        link = next((link for link in machine.links if link.device == gpu.name), None)
        lanes = f"{link.pcie_width or '?'} lanes" if link else "unknown lanes"
        about = (gpu.description, gpu.uuid or "no uuid", f"driver {gpu.driver or '?'}", lanes)
        state[gpu.name] = ", ".join(about)
    return state


def fingerprint(machine: Machine) -> str:
    """Of the state, 16 digits."""
    text = json.dumps(machine_state(machine), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def profile_path(machine: Machine, folder: Path) -> Path:
    return folder / f"machine-{fingerprint(machine)}.toml"


def with_profile(machine: Machine, folder: Path | None) -> tuple[Machine, tuple[str, ...]]:
    """The machine with the speeds that were measured of it, and what to say about them.

    Simulated GPUs are not looked for: `speeds_of` estimates them.
    """
    if folder is None:
        return machine, ()
    found = find_profile(machine, folder)
    return replace(machine, speeds=found.speeds), found.notes


def find_profile(machine: Machine, folder: Path) -> StoredProfile:
    """Never fails: what cannot be read is told, and counts as not there."""
    path = profile_path(machine, folder)
    try:
        if path.is_file():
            return StoredProfile(path, read_profile(path, machine))
        return StoredProfile(None, None, _of_another_state(machine, folder))
    except RequestError as error:
        note = f"{error.cause} ({'; '.join(error.details) or 'it is left out'}); {COMMAND} mends it"
        return StoredProfile(path, None, (note,))
    except OSError:
        return StoredProfile(None, None)


def read_profile(path: Path, machine: Machine) -> MachineSpeeds:
    """The speeds in a profile. GPUs that it has no figures of are left out.

    Raises RequestError for a file that is not as `profile_text` writes it, or of another state.
    """
    table = read_toml(path, WHAT)
    measured = table.text("measured")
    error = table.number("error", 1.0)
    state, host, gpus = table.table("state"), table.table("host"), table.table("gpu")
    table.finish()
    wanted = machine_state(machine)
    for name, value in wanted.items():
        if state.text(name, "") != value:
            raise RequestError(f"{path} is of another machine", remedy=COMMAND)
    host_speeds = read_host_speeds(host, host_estimate(machine))
    speeds = {
        gpu.name: read_gpu_speeds(gpus.table(gpu.name), gpu_estimate(machine, gpu, host_speeds))
        for gpu in _real_gpus(machine)
        if gpus.has(gpu.name)
    }
    gpus.finish()
    return MachineSpeeds(host_speeds, speeds, f"measured {measured}", error)


def profile_text(machine: Machine, speeds: MachineSpeeds, day: str) -> str:
    """The file's text.

    day   on which it was measured, "2026-11-21"
    """
    values: Mapping[str, Any] = {
        "measured": day,
        "error": speeds.error,
        "state": machine_state(machine),
        "host": speeds_values(speeds.host),
        "gpu": {name: speeds_values(gpu) for name, gpu in speeds.gpus.items()},
    }
    lines = [f"# What {COMMAND} measured here; delete it to have it measured anew"]
    return "\n".join([*lines, *toml_lines(values)]) + "\n"


def store_profile(machine: Machine, speeds: MachineSpeeds, day: str, folder: Path) -> Path:
    """Writes the whole file or none, whoever else writes it at the same time.

    Raises OSError where the folder refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = profile_path(machine, folder)
    handle, unfinished = tempfile.mkstemp(dir=folder, prefix=".machine-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(profile_text(machine, speeds, day))
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    return path


def _of_another_state(machine: Machine, folder: Path) -> tuple[str, ...]:
    """A note naming what has changed since the newest profile, if there is one."""
    others = sorted(folder.glob("machine-*.toml"), key=lambda path: path.stat().st_mtime)
    if not others:
        return ()
    wanted = machine_state(machine)
    try:
        table = read_toml(others[-1], WHAT).table("state")
        before = {name: table.text(name, "") for name in wanted}
    except RequestError:
        return ()
    changed = [
        f"{name} was {_short(before[name])}" for name in wanted if before[name] != wanted[name]
    ]
    what = "; ".join(changed[:2]) or "it had more GPUs"
    return (f"the profile of this machine is of another state ({what}); {COMMAND} makes a new one",)


def _short(text: str) -> str:
    return f"{text[:60]}" if text else "not there"


def _real_gpus(machine: Machine) -> tuple[Device, ...]:
    return tuple(gpu for gpu in machine.gpus if gpu.kind is DeviceKind.GPU)
