"""`hybrid doctor`: what was found of this machine and this installation, from where, and how fast
it is.
"""

import argparse
import ctypes
import platform
import re
import sys
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import kernels.native
from hybrid import __version__
from hybrid.cli.measured import (
    about_machine,
    add_measuring_flags,
    profile_of,
    speed_facts,
    speeds_text,
    with_speeds,
)
from hybrid.cli.output import print_json, save_beside, table
from hybrid.cli.policy_trials import TRIAL_BYTES, PolicyTrial, try_policies
from kernels.errors import NativeLibraryMissing
from kernels.native import tiers
from kernels.native.file import find
from placement.machines.file import machine_text
from placement.machines.machine import Machine
from placement.machines.probe import probe_machine
from placement.machines.sysfiles import read_text
from placement.memory.budgets import parse_simulate
from placement.units import format_bytes

PACKAGES = (
    "torch",
    "numpy",
    "gguf",
    "psutil",
    "py-libnuma",
    "nvidia-ml-py",
    "rich",
    "tokenizers",
    "jinja2",
)
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PASSING = re.compile(rb"^free_\w+ = .*\n", re.MULTILINE)  # of a machine's file
BUILD = "not found: build it with cmake, or install again: pip install --force-reinstall ."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--simulate", metavar="CUDA0=64MiB,...", help="GPUs played by the CPU")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    parser.add_argument(
        "--save",
        metavar="FILE",
        help="write this machine for plan --machine FILE; of another text there FILE~ is kept",
    )
    add_measuring_flags(parser)


def run(args: argparse.Namespace) -> int:
    simulate = parse_simulate(args.simulate) if args.simulate is not None else None
    machine = probe_machine(simulate=simulate, visible=args.visible)
    program = program_facts()
    memory = try_policies(machine)
    # torch takes 1.5 s to import: --help does without it
    from hybrid.runtime.gpu.facts import gpu_facts  # noqa: PLC0415

    program |= gpu_facts(machine.devices)
    found = profile_of(machine, args)
    machine = with_speeds(machine, found)
    if args.save:
        save_beside(args.save, machine_text(machine, about_machine(machine)), "--save", PASSING)
    if args.json:
        facts = {
            "program": program,
            "machine": _machine_facts(machine),
            "memory": [asdict(trial) for trial in memory],
            "speeds": speed_facts(machine, found),
        }
        print_json(facts)
    else:
        print(_text(program, machine, memory), speeds_text(machine, found), sep="\n\n", flush=True)
    return 0


def program_facts() -> dict[str, Any]:
    """Versions, the native library, huge pages. Imports none of the packages."""
    return {
        "hybrid": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "native_library": native_library(),
        "vector_code": vector_code(),
        "huge_pages": read_text(HUGE_PAGES).strip() or f"unknown: no {HUGE_PAGES}",
        "packages": {name: _version(name) for name in PACKAGES},
    }


def native_library() -> str:
    """The compiled library's file and interface, or what is wrong with it."""
    try:
        found = find(tuple(kernels.native.__path__))
    except NativeLibraryMissing:
        return BUILD
    try:
        return f"{found}, interface {ctypes.CDLL(str(found)).hybrid_abi_version()}, loads"
    except (OSError, AttributeError) as error:
        return f"{found} does not load: {error}"


def vector_code() -> str:
    """The tiers of vector code that run here, as far as the library loads."""
    try:
        here = tiers.here()
    except NativeLibraryMissing:
        return "unknown"
    return f"{', '.join(here)}; {here[-1]} is used unless --tier says otherwise"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _machine_facts(machine: Machine) -> dict[str, Any]:
    return {
        "devices": [{**asdict(device), "kind": device.kind.value} for device in machine.devices],
        "links": [asdict(link) for link in machine.links],
        "numa_nodes": [asdict(node) for node in machine.numa_nodes],
        "physical_cores": machine.physical_cores,
        "usable_cpus": machine.usable_cpus,
        "findings": [asdict(finding) for finding in machine.findings],
    }


def _text(program: dict[str, Any], machine: Machine, memory: list[PolicyTrial]) -> str:
    facts = {key.replace("_", " "): str(program[key]) for key in program if key != "packages"}
    rows = [["device", "free", "total", "what"]]
    for device in machine.devices:
        sizes = [format_bytes(device.free_bytes), format_bytes(device.total_bytes)]
        rows.append([device.name, *sizes, device.description])
    found = [[finding.what, finding.value, f"({finding.source})"] for finding in machine.findings]
    heads = [f"{format_bytes(TRIAL_BYTES)} by --numa", "pages", "in huge pages", ""]
    tried = [heads, *(trial.row() for trial in memory)]
    sections = (
        [[key, value] for key, value in facts.items()],
        [[name, version] for name, version in program["packages"].items()],
        rows,
        found,
        tried,
    )
    return "\n\n".join(table(section) for section in sections)
