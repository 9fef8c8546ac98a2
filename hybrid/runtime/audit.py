"""What an engine really holds and how fast it was, for `placement.report.audit` to hold
against its plan.

    GPU   weights, cache   handed out of the device's room
          compute          what else torch's pool keeps: all of it is taken while loading, for the
                           longest prompt
          other            what the driver says is gone since the machine was probed, beyond that
                           pool: context, kernels, graphs
    RAM   weights, cache   handed out of arenas;  compute   workspaces
          other            the process's anonymous memory and page tables beyond these

Other programs that come or go meanwhile are counted too: nothing else can be asked of a driver
inside a container. Where weights stay in the file's map, RAM has none of them.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from hybrid.runtime.memory import GpuMemory, SimulatedMemory
from placement.cost.predict import expected_pace
from placement.machines.machine import CPU, Machine
from placement.machines.profile import remember
from placement.memory.parts import CACHE, COMPUTE, OTHER, WEIGHTS, device_parts
from placement.prediction import Pace
from placement.report.audit import TOTAL, Audit, Measured, audit, taught

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

STATUS = Path("/proc/self/status")
KIB = 1 << 10


def audit_engine(engine: "Engine", measured: tuple[Measured, ...] = ()) -> Audit:
    """The engine's plan against its memory now, and these rates against what the cost model
    expects of this machine; against nothing where it plays GPUs.
    """
    prepared = engine.prepared
    known = (prepared.plan, prepared.inventory, prepared.machine)

    def expected(run: Measured) -> tuple[Pace, str]:
        return expected_pace(*known, run.depth, run.tokens if run.what == "prompt" else 0)

    asked = None if prepared.plan.played_gpus else expected
    return audit(prepared.plan, device_parts(*known), actual_bytes(engine), measured, asked)


def actual_bytes(engine: "Engine") -> dict[str, dict[str, int]]:
    """Bytes by device and category; devices that hold nothing are left out."""
    found: dict[str, dict[str, int]] = {}
    for name, memory in engine.memories.items():
        held = {WEIGHTS: memory.used.get("weights", 0), CACHE: memory.used.get("cache", 0)}
        if isinstance(memory, GpuMemory):
            if memory.room is not None and memory.room.numel():
                found[name] = _on_gpu(memory, held, engine.prepared.machine)
        elif name != CPU and any(held.values()):
            found[name] = held
    found[CPU] = _in_ram(engine)
    return found


def record_audit(machine: Machine, found: Audit, profiles: Path | None) -> Path | None:
    """Keep with the machine's profile what the run taught about predictions.

    profiles   the folder of profiles
    returns    the profile; None for a machine that nobody measured, or a run too short to teach
    """
    if machine.speeds is None:
        return None
    return remember(machine, taught(found, machine.speeds.calibration), profiles)


def _on_gpu(memory: GpuMemory, held: dict[str, int], machine: Machine) -> dict[str, int]:
    device, room = memory.place.torch_device, memory.room
    assert room is not None, "asked for GPUs that hold something"
    pool = torch.cuda.memory_reserved(device)
    found = {**held, COMPUTE: max(pool - room.numel(), 0)}
    probed = machine.device(memory.place.name)
    if probed is not None:
        gone = max(probed.free_bytes - torch.cuda.mem_get_info(device)[0], 0)
        found[OTHER] = max(gone - pool, 0)
        found[TOTAL] = max(gone, pool)
    return found


def _in_ram(engine: "Engine") -> dict[str, int]:
    used = engine.memories[CPU].used
    found = {name: used.get(name, 0) for name in (WEIGHTS, CACHE, COMPUTE)}
    fields = process_bytes()
    if fields is None:
        return found
    simulated = sum(
        sum(memory.used.values())
        for memory in engine.memories.values()
        if isinstance(memory, SimulatedMemory)
    )
    in_arena = found[WEIGHTS] + found[CACHE]
    # Workspaces are touched as far as passes needed them: what was not is no memory yet.
    total = fields - simulated
    return {
        **found,
        OTHER: max(total - in_arena - found[COMPUTE], 0),
        TOTAL: max(total, in_arena),
    }


def process_bytes() -> int | None:
    """Memory of this process that is not a file's, and its page tables; None where /proc is not
    there.
    """
    try:
        text = STATUS.read_text(encoding="utf-8")
    except OSError:
        return None
    sizes = dict(re.findall(r"^(RssAnon|RssShmem|VmPTE):\s+(\d+) kB$", text, re.M))
    return KIB * sum(map(int, sizes.values())) if sizes else None
