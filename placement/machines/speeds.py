"""What the parts of a machine do in a second: measured by `hybrid doctor`, read from a machine's
file, or estimated from what its devices are. The cost model divides by all of them but
`together_gb_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from placement.machines.calibration import Calibration

SHARD_GAIN = 1.6  # of two sockets, see cost/node_reads.py
# An H200 (driver 580, CUDA 13.0): 620 MiB of context, 64 of cuBLAS; with kernels, graphs and the
# rests of segments 780 to 872 in five runs of two models. None of them had the graph with stamps
# (docs/adr/0013), whose memory was not measured.
CONTEXT_MIB = 864.0
DISK_GB_S = 3.0  # an NVMe drive of PCIe 3.0; newer ones read twice as much, SATA a fifth


@dataclass(frozen=True, slots=True)
class HostSpeeds:
    """The CPU with the threads that compute.

    read_gb_s       plain reads of RAM by all of them, pages in turn over the nodes
    product_share   of read_gb_s that products of one token with quantised weights reach
    matmul_tflops   products of many tokens, weights decoded on the way
    job_us          of a layer's experts, or of a block, beside its bytes: waking, sharing out
    token_us        of a token outside all kernels: embedding, sampling, Python
    by_threads      (threads, GB/s), fewest first: what fewer threads read, as a share of the last
    by_node         GB/s that all threads read from each NUMA node, by its index
    shard_gain      speed of routed experts with --numa shard over that of pages in turn; nobody
                    measures it, likewise the next
    disk_gb_s       of a file's map that RAM does not hold: reads in the order of page faults;
                    a machine's file may give it
    """

    read_gb_s: float
    product_share: float
    matmul_tflops: float
    job_us: float
    token_us: float
    by_threads: tuple[tuple[int, float], ...] = ()
    by_node: tuple[tuple[int, float], ...] = ()
    shard_gain: float = SHARD_GAIN
    disk_gb_s: float = DISK_GB_S


@dataclass(frozen=True, slots=True)
class GpuSpeeds:
    """One GPU, and its way to the host.

    copy_gb_s          copies within its memory, bytes read and written
    product_share      of copy_gb_s that products of one token with quantised weights reach
    cache_share        of copy_gb_s at which attention of one token reads the latent cache
    matmul_tflops      products of many tokens
    attention_tflops   attention of many tokens
    block_us           of a block in a decode step beside its bytes: launches, waits, fixed work
    prompt_block_us    of a block in a micro-batch of a prompt, likewise
    to_gpu_gb_s        from pinned host memory
    to_host_gb_s       to it
    together_gb_s      from pinned host memory while all GPUs read at once, this one's part. Shown,
                       and read by no formula: GPUs take turns with the blocks of a prompt, so
                       experts cross to one of them at a time
    crossing_us        GPU to CPU to GPU within a graph, nothing computed
    handover_us        of the residual stream of one token to the next GPU
    context_mib        of its memory that a process takes beside what is placed there: context,
                       kernels, captured graphs
    """

    copy_gb_s: float
    product_share: float
    cache_share: float
    matmul_tflops: float
    attention_tflops: float
    block_us: float
    prompt_block_us: float
    to_gpu_gb_s: float
    to_host_gb_s: float
    together_gb_s: float
    crossing_us: float
    handover_us: float
    context_mib: float = CONTEXT_MIB


@dataclass(frozen=True, slots=True)
class MachineSpeeds:
    """All devices of a machine.

    gpus          by device name
    source        where the figures come from: "measured 2026-11-21", "preset 16x3090", "estimated"
    error         share by which predictions from them may be wrong, to both sides
    calibration   what earlier runs here taught
    """

    host: HostSpeeds
    gpus: Mapping[str, GpuSpeeds]
    source: str
    error: float
    calibration: Calibration = field(default_factory=Calibration)
