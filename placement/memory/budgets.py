"""Byte budgets: what each device may hold, from --vram, --simulate and the machine's free bytes."""

from collections.abc import Mapping, Sequence

from placement.errors import RequestError
from placement.machines.machine import (
    CPU,
    Device,
    DeviceKind,
    Machine,
    canonical_name,
    device_advice,
)
from placement.units import flag_bytes, format_bytes, parse_bytes

# For what nobody can count: a display, another program that starts, rounding of the driver.
GPU_MARGIN_BYTES = 512 << 20


def parse_budgets(text: str) -> dict[str, int]:
    """--vram "CUDA0=22GiB,CUDA1=-1GiB" -> bytes per device; negative: that much less than free.

    Raises RequestError naming the entry.
    """
    return _device_bytes(text, "--vram", "CUDA0=22GiB,CUDA1=-1GiB")


def parse_simulate(text: str) -> dict[str, int]:
    """--simulate "CUDA0=64MiB,CUDA1=48MiB" -> bytes per simulated GPU, without gaps.

    Raises RequestError naming the entry.
    """
    example = "CUDA0=64MiB,CUDA1=48MiB"
    sizes = _device_bytes(text, "--simulate", example)
    for name, nbytes in sizes.items():
        if nbytes <= 0:
            raise RequestError(
                f"--simulate {name}={nbytes}: a simulated GPU needs more than 0 bytes",
                remedy=f"--simulate {example}",
            )
    expected = {f"CUDA{i}" for i in range(len(sizes))}
    if set(sizes) != expected:
        raise RequestError(
            f"--simulate names {', '.join(sizes)}; GPUs are CUDA0, CUDA1, ... without gaps",
            remedy=f"--simulate {example}",
        )
    return dict(sorted(sizes.items(), key=lambda item: int(item[0][4:])))


def device_budgets(machine: Machine, asked: Mapping[str, int] | None) -> dict[str, int]:
    """Bytes that each device of the machine may hold.

    asked     bytes per device name; negative: free bytes minus that; devices left out: free bytes
              minus a margin
    Raises RequestError for a device that is not there, more bytes than a GPU has, or less than
    nothing.
    """
    wanted = {canonical_name(name): nbytes for name, nbytes in (asked or {}).items()}
    for name in wanted:
        if machine.device(name) is None:
            raise RequestError(
                f"a budget for {name}, which is not here",
                remedy=device_advice(name, machine.device_names),
            )
    return {device.name: _budget(device, wanted.get(device.name)) for device in machine.devices}


def with_margins(
    machine: Machine, asked: Mapping[str, int] | None, margins: Sequence[int]
) -> dict[str, int] | None:
    """The budgets asked for, and for GPUs without one what is free less their margin.

    margins   bytes, one for each GPU in turn, the last one for all that follow; empty: as they are
    """
    if not margins:
        return None if asked is None else dict(asked)
    budgets = {canonical_name(name): nbytes for name, nbytes in (asked or {}).items()}
    for index, gpu in enumerate(machine.gpus):
        margin = margins[min(index, len(margins) - 1)]
        budgets.setdefault(gpu.name, max(gpu.free_bytes - margin, 0))
    return budgets


def _budget(device: Device, asked: int | None) -> int:
    if asked is None:
        margin = GPU_MARGIN_BYTES if device.kind is DeviceKind.GPU else 0
        return max(device.free_bytes - margin, 0)
    # --ram beyond what is there plans for another machine, or for a guest whose RAM grows with use.
    if asked > device.total_bytes and device.kind is not DeviceKind.CPU:
        raise RequestError(
            f"the budget of {device.name} is larger than the device",
            f"asked {format_bytes(asked)}, it has {format_bytes(device.total_bytes)}"
            f" of which {format_bytes(device.free_bytes)} are free",
            remedy=_all_that_is_free(device),
        )
    if asked < 0 and device.free_bytes + asked < 0:
        raise RequestError(
            f"the budget of {device.name} leaves less than nothing",
            f"{format_bytes(asked)} from {format_bytes(device.free_bytes)} free",
            remedy=[_all_that_is_free(device), "leave it out"],
        )
    return asked if asked >= 0 else device.free_bytes + asked


def _device_bytes(text: str, flag: str, example: str) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for piece in (piece.strip() for piece in text.split(",")):
        name, equals, size = piece.rpartition("=")
        name = canonical_name(name)
        if not equals or not name:
            raise RequestError(
                f"{flag}: {piece[:60]!r} is not DEVICE=BYTES", remedy=f"{flag} {example}"
            )
        if not (name == CPU or (name.startswith("CUDA") and name[4:].isdecimal())):
            raise RequestError(
                f"{flag}: unknown device {name[:60]!r}",
                remedy=f"devices are CPU, CUDA0, CUDA1, ...: {flag} {example}",
            )
        if name in sizes:
            raise RequestError(f"{flag} names {name} twice", remedy=f"{flag} {example}")
        sizes[name] = parse_bytes(size, f"{flag} {name}")
    return sizes


def _all_that_is_free(device: Device) -> str:
    free = flag_bytes(device.free_bytes)
    return f"--vram {device.name}={free}" if device.is_gpu else f"--ram {free}"
