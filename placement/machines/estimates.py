"""Speeds of a machine, always: as measured or described, and estimated where nobody did either.

An estimate is a data sheet's figure times the share of it that kernels here were seen to reach on
the machines of docs/log.md. It serves to compare placements; `hybrid doctor` measures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from placement.machines.cards import card_of, is_known, socket_of
from placement.machines.machine import CPU, Device, DeviceKind, Link, Machine
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds

ESTIMATED = "estimated"
ESTIMATE_ERROR = 0.4
UNKNOWN_CARD_ERROR = 0.6

# Reached on an H200 of 4800 GB/s and 989 TFLOP/s: copies 4235 GB/s, products in bfloat16 783.
COPY_SHARE, MATMUL_SHARE = 0.88, 0.79
# Q8_0, one token: 0.70 of the copy on it; slower memory waits less for arithmetic.
PRODUCT_SHARE, SLOW_MEMORY_SHARE, SLOW_MEMORY_GB_S = 0.70, 0.80, 1200
# Rows of the cache from 16k to 64k tokens, 16 heads; prompts of 16 heads reach 332 to 482 TFLOP/s.
CACHE_SHARE, ATTENTION_SHARE = 0.61, 0.55
# V2-Lite on it: eight launches a block of 2.7 us beside their bytes; 27 blocks of a micro-batch
# take 66 ms of the host, whether it has 512 or 2048 tokens.
BLOCK_US, PROMPT_BLOCK_US = 22.0, 2450.0
CROSSING_US = 9.0  # an empty job: 6.2 us for 2048 floats, 11.7 for 7168
HANDOVER_US = 40.0  # two copies over the bus and the waits between them

# GB/s of pinned copies over 16 lanes, by PCIe generation: 3 to 5 as commonly measured (55 on the
# H200's machine), the others by their share of the third's rate.
LANES_16_GB_S = {1: 3.1, 2: 6.2, 3: 12.5, 4: 25.0, 5: 55.0, 6: 110.0}
LANES = 16
MIB = 1 << 20
# All GPUs together read no more of the RAM than this share of what the CPU reads: 49 GB/s of copies
# beside 97 of CPU reads were seen where either alone had 55 and 109.
TOGETHER_SHARE = 0.8

READ_SHARE = 0.75  # of the channels, by reads of all threads
CORE_READ_GB_S = 10.0  # 16 Emerald Rapids cores read 94 to 215 GB/s, one of them alone 16
HOST_PRODUCT_SHARE = 0.90  # Q4_K, one token: 0.91 to 1.01 on 16 cores, 0.81 to 0.95 on 2
FIRST_JOB_US, THREAD_JOB_US, MOST_JOB_US = 4.0, 1.0, 40.0  # 21 us with 16 threads
TOKEN_US = 222.0  # Python, embedding, the graph's input and launch, the choice, beside an H200

# Reference kernels that play a GPU on the CPU decode whole matrices for every product.
_PLAYED_SHARE, _PLAYED_US = 0.1, 3000.0


def speeds_of(machine: Machine) -> MachineSpeeds:
    """Speeds of every device: `machine.speeds` where it has them, estimates for the others.

    Never fails. Devices that were estimated beside measured ones widen the error.
    """
    known = machine.speeds
    host = known.host if known else host_estimate(machine)
    gpus = {
        gpu.name: known.gpus[gpu.name]
        if known and gpu.name in known.gpus
        else gpu_estimate(machine, gpu, host)
        for gpu in machine.gpus
    }
    if known is None:
        return MachineSpeeds(host, gpus, ESTIMATED, estimate_error(machine))
    missing = [gpu.name for gpu in machine.gpus if gpu.name not in known.gpus]
    if not missing:
        return MachineSpeeds(host, gpus, known.source, known.error)
    source = f"{known.source}; {ESTIMATED} for {', '.join(missing)}"
    return MachineSpeeds(host, gpus, source, max(known.error, estimate_error(machine)))


def speeds_from(
    machine: Machine, figures: Mapping[str, Mapping[str, Any]], source: str, error: float
) -> MachineSpeeds:
    """Estimates with the figures that somebody measured or gave in their place.

    figures   by device name, then by name of HostSpeeds or GpuSpeeds; GPUs without an entry are
              left out
    """
    host = replace(host_estimate(machine), **figures.get(CPU, {}))
    gpus = {
        gpu.name: _gpu_from(gpu_estimate(machine, gpu, host), figures[gpu.name])
        for gpu in machine.gpus
        if gpu.name in figures
    }
    return MachineSpeeds(host, gpus, source, error)


def with_contexts(machine: Machine) -> Machine:
    """The machine whose GPUs have `process_bytes` as their speeds say, where nobody gave them."""
    known = machine.speeds.gpus if machine.speeds else {}
    devices = tuple(
        replace(device, process_bytes=round(known[device.name].context_mib * MIB))
        if device.name in known and device.process_bytes is None
        else device
        for device in machine.devices
    )
    return replace(machine, devices=devices)


def _gpu_from(estimate: GpuSpeeds, figures: Mapping[str, Any]) -> GpuSpeeds:
    """What leans on a given figure follows it."""
    speeds = replace(estimate, **figures)
    leaning = {
        "attention_tflops": ATTENTION_SHARE * speeds.matmul_tflops,
        "to_host_gb_s": speeds.to_gpu_gb_s,
        "together_gb_s": min(estimate.together_gb_s, speeds.to_gpu_gb_s),
    }
    return replace(speeds, **{k: v for k, v in leaning.items() if k not in figures})


def estimate_error(machine: Machine) -> float:
    """Of an estimate: wider where a GPU is not in the list of cards."""
    known = all(gpu.kind is DeviceKind.GPU and is_known(gpu) for gpu in machine.gpus)
    return ESTIMATE_ERROR if known else UNKNOWN_CARD_ERROR


def host_estimate(machine: Machine) -> HostSpeeds:
    """From the CPU's name and the number of its cores. A second socket is not counted: pages in
    turn over both were seen to read no faster, or not much (docs/planner.md).
    """
    socket = socket_of(machine.host)
    cores = max(machine.physical_cores, 1)
    most_gb_s = READ_SHARE * socket.channels_gb_s
    enough = min(math.ceil(most_gb_s / CORE_READ_GB_S), cores)
    by_threads = [(n, min(most_gb_s, CORE_READ_GB_S * n)) for n in sorted({1, enough, cores})]
    return HostSpeeds(
        read_gb_s=by_threads[-1][1],
        product_share=HOST_PRODUCT_SHARE,
        matmul_tflops=socket.core_tflops * cores,
        job_us=min(FIRST_JOB_US + THREAD_JOB_US * cores, MOST_JOB_US),
        token_us=TOKEN_US,
        by_threads=tuple(by_threads),
    )


def gpu_estimate(machine: Machine, device: Device, host: HostSpeeds) -> GpuSpeeds:
    """From the card's name, or its capability and memory, and from its link."""
    if device.kind is DeviceKind.SIMULATED_GPU:
        return _played(host)
    card = card_of(device)
    link = next((link for link in machine.links if link.device == device.name), None)
    bus_gb_s = _Lanes.of(link, card.generation, card.width).gb_s
    slow = card.memory_gb_s < SLOW_MEMORY_GB_S
    return GpuSpeeds(
        copy_gb_s=COPY_SHARE * card.memory_gb_s,
        product_share=SLOW_MEMORY_SHARE if slow else PRODUCT_SHARE,
        cache_share=CACHE_SHARE,
        matmul_tflops=MATMUL_SHARE * card.tflops,
        attention_tflops=ATTENTION_SHARE * MATMUL_SHARE * card.tflops,
        block_us=BLOCK_US,
        prompt_block_us=PROMPT_BLOCK_US,
        to_gpu_gb_s=bus_gb_s,
        to_host_gb_s=bus_gb_s,
        together_gb_s=together_estimate(bus_gb_s, host, len(machine.gpus)),
        crossing_us=CROSSING_US,
        handover_us=HANDOVER_US,
    )


def together_estimate(bus_gb_s: float, host: HostSpeeds, gpus: int) -> float:
    """What one of several GPUs gets of the RAM when all of them read it."""
    return min(bus_gb_s, TOGETHER_SHARE * host.read_gb_s / max(gpus, 1))


@dataclass(frozen=True, slots=True)
class _Lanes:
    """A bus as it runs under load."""

    generation: int
    width: int

    @classmethod
    def of(cls, link: Link | None, generation: int, width: int) -> "_Lanes":
        """From the link, else from the card.

        Cards lower the generation while they idle, so that the highest possible one counts; lanes
        that a slot lacks stay away under load too.
        """
        if link is None:
            return cls(generation, width)
        return cls(
            link.max_generation or link.pcie_generation or generation,
            link.pcie_width or link.max_width or width,
        )

    @property
    def gb_s(self) -> float:
        newest = max(LANES_16_GB_S)
        return LANES_16_GB_S[min(max(self.generation, 1), newest)] * self.width / LANES


def _played(host: HostSpeeds) -> GpuSpeeds:
    """A GPU that the CPU plays: its memory is RAM, its kernels are the slow reference."""
    return GpuSpeeds(
        copy_gb_s=host.read_gb_s,
        product_share=_PLAYED_SHARE,
        cache_share=_PLAYED_SHARE,
        matmul_tflops=_PLAYED_SHARE * host.matmul_tflops,
        attention_tflops=_PLAYED_SHARE * host.matmul_tflops,
        block_us=_PLAYED_US,
        prompt_block_us=_PLAYED_US,
        to_gpu_gb_s=host.read_gb_s,
        to_host_gb_s=host.read_gb_s,
        together_gb_s=host.read_gb_s,
        crossing_us=host.job_us,
        handover_us=host.job_us,
    )
