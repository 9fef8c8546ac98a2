"""What `hybrid doctor` measured, kept in the user's cache folder: one file for each state of a
machine.

    machine-<fingerprint>.toml    the state it was measured in, figure by figure, the speeds, and
                                  what runs taught since

The fingerprint is of the state, so that a file found under it belongs to the machine as it is.
Where there is none, the newest profile counts that was measured with the same host and, maybe among
others, with the GPUs that are to be seen now: CUDA_VISIBLE_DEVICES and --simulate hide some. A
machine with other GPUs, another driver, more RAM or fewer CPUs has no profile; its plans say what
has changed.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from placement.errors import RequestError
from placement.machines.calibration import Calibration
from placement.machines.estimates import speeds_from, with_contexts
from placement.machines.machine import CPU, Device, DeviceKind, Machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from placement.machines.speeds_table import Figures, figure_values, read_figures, rounded
from placement.machines.toml_table import read_toml, toml_lines

# Of the way speeds are measured: profiles of an older one are measured anew.
MEASURING_VERSION = 2
MEASURED_ERROR = 0.15  # the cost model's, where speeds are measured
COMMAND = "hybrid doctor --measure"
CALIBRATION = "calibration"  # the last table of the file
WHAT = "a profile of this machine"
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A profile as it was found.

    speeds    None where nothing fits this state of the machine
    figures   which of them were measured, by device; the others are estimated
    notes     what the user should hear: unreadable files, a profile of another state
    """

    path: Path | None
    speeds: MachineSpeeds | None
    figures: Mapping[str, Figures] = field(default_factory=dict)
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
    return with_contexts(replace(machine, speeds=found.speeds)), found.notes


def find_profile(machine: Machine, folder: Path) -> StoredProfile:
    """Never fails: what cannot be read is told, and counts as not there."""
    path = profile_path(machine, folder)
    try:
        if path.is_file():
            return read_profile(path, machine)
        others = sorted(folder.glob("machine-*.toml"), key=_age_s)
    except RequestError as error:
        note = f"{error.cause} ({'; '.join(error.details) or 'it is left out'}); {COMMAND} mends it"
        return StoredProfile(path, None, notes=(note,))
    except OSError:
        return StoredProfile(None, None)
    for other in others:
        with suppress(RequestError):
            return read_profile(other, machine)
    return StoredProfile(None, None, notes=_of_another_state(machine, others))


def read_profile(path: Path, machine: Machine) -> StoredProfile:
    """The speeds in a profile of this host and, maybe among others, of the machine's GPUs. GPUs
    that it has no figures of are left out.

    Raises RequestError for a file that is not as `profile_text` writes it, or of another state.
    """
    table = read_toml(path, WHAT)
    measured = table.text("measured")
    error = table.number("error", 1.0)
    state, host, gpus = table.table("state").all_texts(), table.table("host"), table.table("gpu")
    ratios = table.table(CALIBRATION).all_ratios()
    table.finish()
    names = _names_in(state, machine)
    if names is None:
        raise RequestError(f"{path} is of another machine", remedy=COMMAND)
    figures = {CPU: read_figures(host, HostSpeeds)}
    for name, there in names.items():
        if gpus.has(there):
            figures[name] = read_figures(gpus.table(there), GpuSpeeds)
    gpus.offer(name for name in state if name not in names.values())
    gpus.finish()
    speeds = speeds_from(machine, figures, f"measured {measured}", error)
    speeds = replace(speeds, calibration=Calibration(ratios))
    return StoredProfile(path, speeds, figures)


def _names_in(state: Mapping[str, str], machine: Machine) -> dict[str, str] | None:
    """What the state calls each of the machine's real GPUs; None for a state of another host or
    without one of them.
    """
    wanted = machine_state(machine)
    names: dict[str, str] = {}
    for name, about in wanted.items():
        if machine.device(name) is None:
            if state.get(name) != about:
                return None
            continue
        alike = [key for key in state if state[key] == about and key not in names.values()]
        if not alike:
            return None
        names[name] = name if name in alike else alike[0]
    return names


def profile_text(machine: Machine, figures: Mapping[str, Figures], day: str, error: float) -> str:
    """The file's text.

    figures   that were measured, by device
    day       on which they were, "2026-11-21"
    error     of predictions from them
    """
    values: Mapping[str, Any] = {
        "measured": day,
        "error": error,
        "state": machine_state(machine),
        "host": figure_values(figures.get(CPU, {})),
        "gpu": {name: figure_values(of) for name, of in figures.items() if name != CPU},
    }
    lines = [f"# What {COMMAND} measured here; delete it to have it measured anew"]
    return "\n".join([*lines, *toml_lines(values)]) + "\n"


def store_profile(machine: Machine, text: str, folder: Path) -> Path:
    """Writes the whole file or none, whoever else writes it at the same time.

    Raises OSError where the folder refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = profile_path(machine, folder)
    with _only_writer(folder):
        _write(path, text)
    return path


def remember(machine: Machine, ratios: Mapping[str, float], folder: Path | None) -> Path | None:
    """Keeps what one run taught beside what the machine's profile holds by now, until that is
    measured anew.

    ratios    as `Calibration.observed` takes them
    returns   the profile; None where there is none, nothing was learned, or the folder refuses
    """
    if folder is None or not folder.is_dir():
        return None
    try:
        with _only_writer(folder):
            return _add_run(find_profile(machine, folder), ratios)
    except OSError:
        return None


def _add_run(stored: StoredProfile, ratios: Mapping[str, float]) -> Path | None:
    if stored.path is None or stored.speeds is None:
        return None
    known = stored.speeds.calibration
    learned = known.observed(ratios)
    if learned == known:
        return None
    kept = {kind: list(map(rounded, of)) for kind, of in learned.ratios.items()}
    figures, _, _ = stored.path.read_text(encoding="utf-8").partition(f"\n[{CALIBRATION}]\n")
    _write(stored.path, "\n".join([figures.rstrip("\n"), *toml_lines({CALIBRATION: kept})]) + "\n")
    return stored.path


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Others wait, so that what one has read is what it adds to; on Windows nobody does."""
    if fcntl is None:
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _write(path: Path, text: str) -> None:
    """The whole file or none."""
    handle, unfinished = tempfile.mkstemp(dir=path.parent, prefix=".machine-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def _of_another_state(machine: Machine, others: list[Path]) -> tuple[str, ...]:
    """A note naming what has changed since the newest profile, if there is one."""
    if not others:
        return ()
    wanted = machine_state(machine)
    try:
        before = read_toml(others[0], WHAT).table("state").all_texts()
    except RequestError:
        return ()
    changed = [
        f"{name} was {before.get(name, 'not there')[:60]}"
        for name, value in wanted.items()
        if before.get(name) != value
    ]
    what = "; ".join(changed[:2])
    return (f"the profile of this machine is of another state ({what}); {COMMAND} makes a new one",)


def _age_s(path: Path) -> float:
    """The newest first."""
    return -path.stat().st_mtime


def _real_gpus(machine: Machine) -> tuple[Device, ...]:
    return tuple(gpu for gpu in machine.gpus if gpu.kind is DeviceKind.GPU)
