"""Speeds of a machine, always: as measured or described, and estimated where nobody did either.

An estimate is a data sheet's figure times the share of it that kernels here were seen to reach on
the machines of docs/log.md. It serves to compare placements; `hybrid doctor` measures.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from placement.cards import card_of, is_known
from placement.machine import CPU, Device, DeviceKind, Link, Machine
from placement.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds

ESTIMATED = "estimated"
ESTIMATE_ERROR = 0.4
UNKNOWN_CARD_ERROR = 0.6

# Reached on an H200 of 4800 GB/s and 989 TFLOP/s: copies 4235 GB/s, products in bfloat16 783.
COPY_SHARE, MATMUL_SHARE = 0.88, 0.79
# Products of one token, 8192 x 8192, on it: 0.41 (IQ4_NL) to 0.70 (Q8_0) with their launch; slower
# memory waits less for arithmetic.
PRODUCT_SHARE, SLOW_MEMORY_SHARE, SLOW_MEMORY_GB_S = 0.60, 0.75, 1200
# Cache rows of one token from 16k to 64k tokens, 16 heads; half of a prompt's 332 to 482 TFLOP/s.
CACHE_SHARE, ATTENTION_SHARE = 0.45, 0.50
# V2-Lite on it: a block takes 42 us in a step of which memory needs 15; a micro-batch 2.5 ms a
# block whether it has 512 or 2048 tokens, of which decoding weights takes a third.
BLOCK_US, PROMPT_BLOCK_US = 27.0, 1700.0
CROSSING_US = 12.0  # an empty job: 9 us for 2048 floats, 15 for 7168
HANDOVER_US = 40.0  # two copies over the bus and the waits between them

# GB/s of pinned copies over 16 lanes, by PCIe generation: 3 to 5 as commonly measured (55 on the
# H200's machine), the others by their share of the third's rate.
LANES_16_GB_S = {1: 3.1, 2: 6.2, 3: 12.5, 4: 25.0, 5: 55.0, 6: 110.0}
LANES = 16
# All GPUs together read no more of the RAM than this share of what the CPU reads: 49 GB/s of copies
# beside 97 of CPU reads were seen where either alone had 55 and 109.
TOGETHER_SHARE = 0.8

# Memory channels' GB/s of a socket by the CPU's name: channels x transfers x 8 bytes, as AMD's and
# Intel's pages have them. The first one that matches counts.
CHANNEL_GB_S = (
    (r"EPYC 9\d{2}5", 576.0),  # Turin: 12 x DDR5-6000
    (r"EPYC 9\d{3}", 460.8),  # Genoa, Bergamo: 12 x DDR5-4800
    (r"EPYC 8\d{3}", 230.4),  # Siena: 6 x DDR5-4800
    (r"EPYC 7\d{3}", 204.8),  # Rome, Milan: 8 x DDR4-3200
    (r"XEON.* 6\d{3}P", 409.6),  # Granite Rapids: 8 x DDR5-6400
    (r"XEON.* [3-9]5\d{2}", 358.4),  # Emerald Rapids: 8 x DDR5-5600
    (r"XEON.* [3-9]4\d{2}", 307.2),  # Sapphire Rapids: 8 x DDR5-4800
    (r"XEON.* [3-9]3\d{2}", 204.8),  # Ice Lake: 8 x DDR4-3200
    (r"XEON", 128.0),  # older: 6 x DDR4-2666
    (r"THREADRIPPER PRO 7", 332.8),  # 8 x DDR5-5200
    (r"THREADRIPPER PRO", 204.8),  # 8 x DDR4-3200
    (r"THREADRIPPER", 102.4),  # 4 x DDR4-3200
    (r"", 51.2),  # desktops: 2 x DDR4-3200
)
READ_SHARE = 0.75  # of the channels, by reads of all threads
CORE_READ_GB_S = 10.0  # 16 Emerald Rapids cores read 94 to 215 GB/s, one of them alone 16
HOST_PRODUCT_SHARE = 0.85  # 0.8 to 1.0 on 2 and on 16 cores
CORE_TFLOPS = 0.15  # half of a core with AVX-512; those with AVX2 alone have less
JOB_US = 20.0  # 16 threads after 30 us without work: 16 us to wake them
TOKEN_US = 200.0  # 160 to 220 us of Python and the like a token

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
    """From the CPU's name and the number of its cores; a second socket is not counted."""
    name = machine.host.description
    channels = next(
        gb_s for pattern, gb_s in CHANNEL_GB_S if re.search(pattern, name, re.IGNORECASE)
    )
    cores = max(machine.physical_cores, 1)
    return HostSpeeds(
        read_gb_s=min(READ_SHARE * channels, CORE_READ_GB_S * cores),
        product_share=HOST_PRODUCT_SHARE,
        matmul_tflops=CORE_TFLOPS * cores,
        job_us=JOB_US,
        token_us=TOKEN_US,
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
