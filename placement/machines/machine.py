"""What there is to place on: devices with their memory, the links between them, NUMA nodes.

A `Machine` is plain data: `probe.py` fills one from this computer, a test or `--simulate` writes
one by hand.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from placement.machines.speeds import MachineSpeeds

CPU = "CPU"  # the host's device name, as in llama.cpp's rules
ASSUMED = "assumed"  # a finding that nobody found: its value is a note for the user
UNLOADED = "none"  # the device of tensors that stay in the file

_CUDA_NAME = re.compile(r"CUDA:?([0-9]{1,4})", re.ASCII)


def canonical_name(text: str) -> str:
    """A device name as `Device.name` spells it: "cuda:0" -> "CUDA0", "cpu" -> "CPU"."""
    name = text.strip().upper()
    found = _CUDA_NAME.fullmatch(name)
    return f"CUDA{int(found[1])}" if found else name


def device_advice(text: str, names: Sequence[str]) -> str:
    """The good names, the nearest one first, for an error about a device that is not there."""
    near = difflib.get_close_matches(canonical_name(text), names, n=1, cutoff=0.6)
    listed = f"this machine has {', '.join(names)}"
    if len(names) == 1 and canonical_name(text).startswith("CUDA"):
        return f"{listed} and no GPU; --simulate CUDA0=23GiB plays one"
    return f"did you mean {near[0]}? {listed}" if near else listed


def gpu_findings(machine: "Machine") -> list[str]:
    """Why there is no GPU, where something was found out; nothing for a machine with one."""
    if machine.gpus:
        return []
    return [finding.value for finding in machine.findings if finding.what == "GPUs"]


class DeviceKind(str, Enum):
    CPU = "cpu"
    GPU = "gpu"
    SIMULATED_GPU = "simulated_gpu"  # reference kernels on the CPU under a GPU's byte budget


@dataclass(frozen=True, slots=True)
class Device:
    """One place that holds bytes. Names follow llama.cpp: CPU, CUDA0, CUDA1.

    uuid            of a real GPU, NVML's "GPU-...": the same card in every library, whatever its
                    number
    process_bytes   what a process of ours takes beside what it places there: the CUDA context of a
                    GPU, the program in RAM; None: as `memory/overheads.py` has it for its kind
    cuda_torch      of the host: its torch is built for CUDA, whose libraries take RAM without a GPU
    """

    name: str
    kind: DeviceKind
    total_bytes: int
    free_bytes: int
    description: str = ""
    numa_node: int | None = None
    read_gb_s: float | None = None
    compute_capability: str | None = None
    driver: str | None = None
    uuid: str | None = None
    process_bytes: int | None = None
    cuda_torch: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.kind is not DeviceKind.CPU


@dataclass(frozen=True, slots=True)
class Link:
    """How a GPU hangs on the host: PCIe generation and width, now and at most."""

    device: str
    pcie_generation: int | None
    pcie_width: int | None
    max_generation: int | None = None
    max_width: int | None = None


@dataclass(frozen=True, slots=True)
class NumaNode:
    """One memory node; without CPUs or without memory it is listed all the same.

    free_bytes   free now, and file pages that can be dropped
    allowed      this process may take memory there
    """

    index: int
    cpus: tuple[int, ...]
    total_bytes: int
    free_bytes: int
    allowed: bool = True

    @property
    def holds_memory(self) -> bool:
        """Whether there is any for this process."""
        return self.allowed and self.total_bytes > 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was detected: what, its value as text, and the source it was read from."""

    what: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Machine:
    """All devices (the CPU always first), links, NUMA nodes and cores of one computer.

    speeds   None: nobody measured or described them
    """

    devices: tuple[Device, ...]
    links: tuple[Link, ...] = ()
    numa_nodes: tuple[NumaNode, ...] = ()
    physical_cores: int = 1
    usable_cpus: int = 1
    findings: tuple[Finding, ...] = ()
    speeds: MachineSpeeds | None = None

    @property
    def host(self) -> Device:
        return self.devices[0]

    @property
    def gpus(self) -> tuple[Device, ...]:
        return tuple(device for device in self.devices if device.is_gpu)

    @property
    def memory_nodes(self) -> tuple[NumaNode, ...]:
        """Nodes with memory for this process; empty where the system lists none."""
        return tuple(node for node in self.numa_nodes if node.holds_memory)

    def device(self, name: str) -> Device | None:
        return next((device for device in self.devices if device.name == name), None)

    @property
    def device_names(self) -> tuple[str, ...]:
        return tuple(device.name for device in self.devices)
