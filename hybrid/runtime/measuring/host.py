"""What this machine's RAM and CPU give the kernels that compute here.

reads      of memory that no cache holds, by 1, 2, 4 ... threads, and from each NUMA node
experts    of one token, Q4_K: bytes of their weights a second, as a share of plain reads made
           just before and after, for the RAM of shared machines wanders
job        the same of experts too small to count: waking the threads, sharing out
products   of a prompt: operations a second, weights decoded on the way
"""

import ctypes
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from hybrid.runtime.arena import HostArena
from hybrid.runtime.measuring.readings import Readings
from hybrid.runtime.numa_calls import NumaPolicy
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME, BlockFormat
from kernels.linear import linear
from kernels.native import pool, records, tiers
from kernels.native.library import library
from placement.machines.machine import CPU, Machine
from placement.machines.speeds_table import MOST_SHARE

READ_BYTES = pool.READ_NBYTES
LEAST_READ_BYTES = 64 << 20
THREAD_COUNTS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
FORMAT, TINY_FORMAT = BY_NAME["Q4_K"], BY_NAME["Q8_0"]
WIDTH, FEED_FORWARD, USED = 2048, 1536, 8
BANK_BYTES = 512 << 20  # of experts, of which a call reads those that no call before it used
TINY = 32
PROMPT_TOKENS, PROMPT_ROWS = 512, 4096
IDLE_S = 30e-6  # between two jobs of a step with GPUs
ROUNDS, JOBS = 5, 40
LEAST_JOB_US = 0.5

Part = tuple[BlockTensor, BlockTensor, BlockTensor]


def measure_host(machine: Machine, threads: int, readings: Readings) -> None:
    """All of it, by this many workers of the pool."""
    free = machine.host.free_bytes
    nbytes = max(min(READ_BYTES, free // 4), LEAST_READ_BYTES)
    nodes = [node.index for node in machine.memory_nodes]
    rates = readings.attempt(CPU, "RAM reads", partial(_by_threads, nodes, threads, nbytes))
    if rates:
        readings.note(CPU, read_gb_s=rates[-1][1], by_threads=rates)
    if len(nodes) > 1:
        readings.figure(
            CPU, "by_node", "RAM reads by node", partial(_by_node, nodes, threads, nbytes)
        )
    readings.figure(CPU, "job_us", "a job's own time", partial(_job_us, threads))
    job_us = readings.figures.get(CPU, {}).get("job_us", 0.0)
    share = partial(_product_share, nodes, min(BANK_BYTES, free // 4), threads, job_us)
    readings.figure(CPU, "product_share", "experts of one token", share)
    readings.figure(CPU, "matmul_tflops", "products of a prompt", _matmul_tflops)


def thread_counts(most: int) -> tuple[int, ...]:
    """Of the reads: some on the way, and all."""
    return (*(count for count in THREAD_COUNTS if count < most), most)


def share_of_read(nbytes: int, call_s: float, job_us: float, read_gb_s: float) -> float:
    """Bytes a second of a call less what it takes without bytes, over those of plain reads.

    At least a hundredth of the call counts as reading: a job's own time wanders too.
    """
    reading_s = max(call_s - 1e-6 * job_us, call_s / 100)
    return nbytes / reading_s / 1e9 / read_gb_s


def _by_threads(nodes: Sequence[int], threads: int, nbytes: int) -> tuple[tuple[int, float], ...]:
    """Of memory that is interleaved over the nodes, as weights are."""
    memory = _touched(nbytes, threads, NumaPolicy.INTERLEAVE, nodes)
    return tuple((count, _read_gb_s(memory, count)) for count in thread_counts(threads))


def _by_node(nodes: Sequence[int], threads: int, nbytes: int) -> tuple[tuple[int, float], ...]:
    """All threads read memory that is bound to one node."""
    return tuple(
        (node, _read_gb_s(_touched(nbytes, threads, NumaPolicy.SHARD, (node,)), threads))
        for node in nodes
    )


def _touched(nbytes: int, threads: int, policy: NumaPolicy, nodes: Sequence[int]) -> Tensor:
    memory = HostArena(nbytes, policy, nodes).take(nbytes)
    pool.check(library().hybrid_pool_fill(memory.data_ptr(), nbytes, threads))
    return memory


def _read_gb_s(memory: Tensor, threads: int, rounds: int = ROUNDS) -> float:
    address, nbytes = memory.data_ptr(), memory.numel()
    return max(pool.read_at_gb_s(address, nbytes, threads) for _ in range(rounds))


def _job_us(threads: int) -> float:
    """One expert of TINY x TINY weights: its rows take two microseconds of one thread."""
    blocks = [_blocks((1, TINY, TINY), TINY_FORMAT) for _ in range(3)]
    call = ExpertsCall((blocks[0], blocks[1], blocks[2]), threads, used=1)
    chosen = _chosen(0, 1)
    call(chosen)
    times = []
    for _ in range(JOBS):
        _wait(IDLE_S)
        times.append(_seconds(partial(call, chosen)))
    return max(1e6 * statistics.median(times), LEAST_JOB_US)


def _product_share(nodes: Sequence[int], bank_bytes: int, threads: int, job_us: float) -> float:
    """Median of ROUNDS; each round goes over all experts of the bank."""
    part, memory = _bank(nodes, bank_bytes)
    call = ExpertsCall(part, threads)
    experts = part[0].shape[0]
    groups = [_chosen(first) for first in range(0, experts - USED + 1, USED)]
    nbytes = sum(matrix.nbytes for matrix in part) // experts * USED
    shares = []
    for turn in range(1 + ROUNDS):
        before = _read_gb_s(memory, threads, 1)
        seconds = [_seconds(partial(call, group)) for group in groups]
        after = _read_gb_s(memory, threads, 1)
        call_s, read_gb_s = statistics.mean(seconds), (before + after) / 2
        if turn:  # the first one wakes threads and pages
            shares.append(share_of_read(nbytes, call_s, job_us, read_gb_s))
    return min(statistics.median(shares), MOST_SHARE)


def _bank(nodes: Sequence[int], nbytes: int) -> tuple[Part, Tensor]:
    """Experts that fill so many bytes, interleaved over the nodes as weights are; and the bytes."""
    rows = 2 * FEED_FORWARD * FORMAT.row_bytes(WIDTH) + WIDTH * FORMAT.row_bytes(FEED_FORWARD)
    experts = max(nbytes // rows // USED, 2) * USED
    memory = HostArena(experts * rows, NumaPolicy.INTERLEAVE, nodes).take(experts * rows)
    shapes = ((FEED_FORWARD, WIDTH), (FEED_FORWARD, WIDTH), (WIDTH, FEED_FORWARD))
    part, first = [], 0
    for count, columns in shapes:
        one = _blocks((count, columns)).blocks
        end = first + experts * one.numel()
        view = memory[first:end].view(experts, *one.shape)
        view.copy_(one.expand_as(view))
        part.append(BlockTensor(view, FORMAT, columns))
        first = end
    return (part[0], part[1], part[2]), memory


def _matmul_tflops() -> float:
    weight = _blocks((PROMPT_ROWS, WIDTH))
    x = torch.ones(PROMPT_TOKENS, WIDTH)
    multiply = partial(linear, x, weight, implementation="rounded")
    multiply()
    seconds = min(_seconds(multiply) for _ in range(ROUNDS))
    return 2 * PROMPT_TOKENS * PROMPT_ROWS * WIDTH / seconds / 1e12


class ExpertsCall:
    """One token through some of a layer's experts; what a step prepares beforehand is prepared."""

    def __init__(self, part: Part, threads: int, used: int = USED) -> None:
        width = part[0].columns
        self._part = part  # what the record points to
        self._threads = threads
        self._record = records.experts([part], 0, used)
        self._x, self._out = torch.ones(1, width), torch.zeros(1, width)
        self._share = torch.full((1, used), 1 / used)
        job = (tiers.current(), records.ROUNDED, ctypes.byref(self._record), 1, threads)
        self._workspace = torch.empty(library().hybrid_expert_ffn_bytes(*job), dtype=torch.uint8)

    def __call__(self, chosen: Tensor) -> None:
        pool.run(
            library().hybrid_expert_ffn,
            tiers.current(),
            records.ROUNDED,
            self._threads,
            ctypes.byref(self._record),
            self._x.data_ptr(),
            1,
            chosen.data_ptr(),
            self._share.data_ptr(),
            self._out.data_ptr(),
            self._workspace.data_ptr(),
            self._workspace.numel(),
        )


def _chosen(first: int, used: int = USED) -> Tensor:
    """So many experts from `first` on."""
    return torch.arange(first, first + used, dtype=torch.int32)[None]


def _blocks(shape: tuple[int, ...], kind: BlockFormat = FORMAT) -> BlockTensor:
    """Random numbers with small scales, as trained weights have: no infinities, no NaN."""
    *leading, columns = shape
    blocks = torch.randint(256, (*leading, kind.row_bytes(columns)), dtype=torch.uint8)
    halves = 2 if kind is FORMAT else 1  # d, and dmin of Q4_K
    scales = torch.tensor([0.01] * halves, dtype=torch.float16).view(torch.uint8)
    blocks.view(-1, kind.block_bytes)[:, : len(scales)] = scales
    return BlockTensor(blocks, kind, columns)


def _seconds(call: Callable[[], object]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def _wait(seconds: float) -> None:
    """Spinning: a sleep would take longer."""
    until = perf_counter() + seconds
    while perf_counter() < until:
        pass
