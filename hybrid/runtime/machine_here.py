"""A machine out of a file is planned for, never run on: told before anything is read."""

from collections.abc import Mapping
from pathlib import Path

from hybrid.errors import UsageError


def check_machine(machine: object, simulate: Mapping[str, int] | None) -> None:
    """Raises UsageError for what names no machine, or for two descriptions of the GPUs."""
    if machine is None:
        return
    if not isinstance(machine, (str, Path)):
        raise UsageError(f"machine is {repr(machine)[:80]}", remedy='machine="rig.toml"')
    if simulate is not None:
        raise UsageError(
            f"--machine {machine} and --simulate both describe the GPUs",
            remedy=["leave one out", "the [[gpu]] tables of a machine file take any memory"],
        )


def need_machine_here(machine: object) -> None:
    """Raises UsageError for a machine out of a file: weights cannot be read to it."""
    if machine is not None:
        raise UsageError(
            f"--machine {machine} describes a machine; only plans are made for it",
            remedy=[
                f"hybrid plan MODEL --machine {machine}",
                "leave --machine out to run the model here",
                "--simulate CUDA0=24GiB runs with GPUs that the CPU plays",
            ],
        )
