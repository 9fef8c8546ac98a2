"""Seconds of the pieces that a run is made of: a block somewhere, the head, a handover, the host.

`predict.py` adds them up, for a solver piece by piece and for a plan as a whole. Every function
gives seconds by part of `prediction.PARTS`: of one token, or of one micro-batch of a prompt.
"""

from dataclasses import dataclass, replace

from placement.cost.gpu import Moment, Setting, product_s, prompt_on_gpu, token_on_gpu
from placement.cost.host import FLOATS, prompt_on_host, read_s, token_on_host
from placement.cost.node_reads import speeds_of_policy
from placement.cost.work import LayerWork, Matrices
from placement.inventory import ModelShape
from placement.machines.machine import CPU
from placement.machines.speeds import GpuSpeeds, HostSpeeds, MachineSpeeds
from placement.workload import Workload

# A block that the reference computes: some hundred launches from Python, and weights decoded whole.
# docs/log.md: V2-Lite on an H200, 27 such blocks, 127 ms a token and 764 ms for 512 of a prompt;
# the demo's 5, with one operation of each in RAM, 42 ms a token.
REFERENCE_BLOCK_US, REFERENCE_PROMPT_BLOCK_US = 6000.0, 28000.0
# A further graph of a token is filled and launched: of a token outside of kernels. docs/log.md: a
# second GPU took 42 and 49 us longer on two machines, of which the handover was 23 and 26. On the
# second of them a token took 131 us outside of kernels; the first was not measured so.
FURTHER_GRAPH_SHARE = 0.2
# Products of fewer threads reach what those of all do, unless RAM gives so many threads less;
# docs/log.md: 64 threads read 229 GB/s and reach 0.44 of that, 32 read 177 and reach about 0.7.
FEWER_THREADS_SHARE = 0.95
# Exact kernels on the CPU, by the same entries: 1.9 GB of weights a token in 1.06 s on 2 cores, and
# no sooner on 16; prompts of 512 tokens by experts in RAM at 0.1 TFLOP/s, of 0.13 for a matrix.
EXACT_READ_GB_S, EXACT_TFLOPS = 1.9, 0.13


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a block is.

    home         of its attention, shared experts or dense feed-forward
    in_ram       share of the choices among its routed experts that the CPU computes
    falls_back   the reference computes it, operation by operation
    away_bytes   of its matrices but routed experts that are in RAM all the same
    """

    home: str
    in_ram: float = 0.0
    falls_back: bool = False
    away_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PartCosts:
    """speeds   of every device that is asked for"""

    shape: ModelShape
    workload: Workload
    speeds: MachineSpeeds

    def block(self, work: LayerWork, placed: Placed, moment: Moment) -> dict[str, float]:
        """A block with its routed experts."""
        if placed.home == CPU:
            seconds = self._block_on_host(work, moment)
            if placed.falls_back:
                us = REFERENCE_BLOCK_US if moment.tokens == 1 else REFERENCE_PROMPT_BLOCK_US
                seconds["launch"] += us * 1e-6
            return seconds
        gpu = self.speeds.gpus[placed.home]
        if placed.falls_back:
            gpu = reference_gpu(gpu)
        setting = Setting(self.shape, self.workload, self.speeds.host)
        if moment.tokens > 1:
            seconds = prompt_on_gpu(work, placed.in_ram, moment, gpu, setting)
        else:
            seconds = token_on_gpu(work, placed.in_ram, moment.depth, gpu, setting)
        if placed.away_bytes:
            away = read_s(Matrices(placed.away_bytes), self.speeds.host, self.workload.threads)
            seconds["CPU products"] = away
        return seconds

    def _block_on_host(self, work: LayerWork, moment: Moment) -> dict[str, float]:
        host, threads = self.speeds.host, self.workload.threads
        if moment.tokens > 1:
            sizes = (moment.tokens, moment.scores)
            return prompt_on_host(work, *sizes, self.shape, host, threads)
        return token_on_host(work, moment.depth, self.shape, host, threads)

    def head(self, head: Matrices, home: str) -> dict[str, float]:
        """Logits of one row, once a token or once a prompt."""
        if home == CPU:
            reading = read_s(head, self.speeds.host, self.workload.threads)
            return {"CPU products": reading + self.speeds.host.job_us * 1e-6}
        return {"GPU products": product_s(head, self.speeds.gpus[home])}

    def handover(self, before: str, after: str, tokens: int) -> dict[str, float]:
        """The residual stream to another device, through the host."""
        if before == after:
            return {}
        ends = [self.speeds.gpus[name] for name in (before, after) if name != CPU]
        residual = FLOATS * tokens * self.shape.embedding_length
        bus = 0.0
        if before != CPU:
            bus += residual / (self.speeds.gpus[before].to_host_gb_s * 1e9)
        if after != CPU:
            bus += residual / (self.speeds.gpus[after].to_gpu_gb_s * 1e9)
        # the speed's own time is that of one token, its bytes included
        return {"PCIe": ends[0].handover_us * 1e-6 + bus * (tokens - 1) / tokens}

    def host(self) -> dict[str, float]:
        """A token, or a micro-batch, outside all kernels; the embedding's row is in it."""
        return {"host": self.speeds.host.token_us * 1e-6}

    def further_graphs(self, count: int) -> dict[str, float]:
        """So many graphs of a token beside the first."""
        return {"host": count * FURTHER_GRAPH_SHARE * self.speeds.host.token_us * 1e-6}


def reference_gpu(gpu: GpuSpeeds) -> GpuSpeeds:
    """The GPU as the reference kernels use it."""
    return replace(
        gpu,
        block_us=max(gpu.block_us, REFERENCE_BLOCK_US),
        prompt_block_us=max(gpu.prompt_block_us, REFERENCE_PROMPT_BLOCK_US),
    )


def speeds_of_run(speeds: MachineSpeeds, workload: Workload) -> MachineSpeeds:
    """The machine with the threads of this run and its way of reading over memory nodes."""
    return speeds_of_policy(speeds_of_threads(speeds, workload.threads), workload)


def speeds_of_threads(speeds: MachineSpeeds, threads: int) -> MachineSpeeds:
    """The machine when fewer threads compute than it was measured with; as it is where that is not
    known.
    """
    host = speeds.host
    if not host.by_threads or threads >= host.by_threads[-1][0]:
        return speeds
    before, before_gb_s = 0, 0.0
    for count, gb_s in host.by_threads:
        if count >= threads:
            break
        before, before_gb_s = count, gb_s
    read = before_gb_s + (gb_s - before_gb_s) * (threads - before) / (count - before)
    most, most_gb_s = host.by_threads[-1]
    share = min(host.product_share * most_gb_s / read, FEWER_THREADS_SHARE)
    fewer = replace(
        host,
        read_gb_s=host.read_gb_s * read / most_gb_s,
        product_share=max(share, host.product_share),
        matmul_tflops=host.matmul_tflops * threads / most,
    )
    return replace(speeds, host=fewer)


def exact_speeds(speeds: MachineSpeeds) -> MachineSpeeds:
    """The machine with `--kernels exact`: every block by the reference, the CPU's as well."""
    host: HostSpeeds = replace(
        speeds.host,
        read_gb_s=min(speeds.host.read_gb_s, EXACT_READ_GB_S),
        product_share=1.0,
        shard_gain=1.0,
        matmul_tflops=min(speeds.host.matmul_tflops, EXACT_TFLOPS),
    )
    gpus = {name: reference_gpu(gpu) for name, gpu in speeds.gpus.items()}
    return replace(speeds, host=host, gpus=gpus)
