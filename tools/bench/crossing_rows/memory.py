"""RAM by threads, RAM while a GPU reads it too, and the pinning of memory."""

import ctypes
import statistics
from collections.abc import Callable, Iterator
from time import perf_counter

import torch
from torch import Tensor

from hybrid.runtime.arena import HostArena
from hybrid.runtime.numa_calls import NumaPolicy
from kernels.cuda import Record, host_memory
from kernels.native import pool
from kernels.native.library import library
from tools.bench.crossing_rows.measure import PROGRAM, Row, or_reason
from tools.bench.gpu_time import Span, queued_us

COPY_BYTES = 256 << 20
CPU_BYTES = 1 << 30
BESIDE_S = 1.0  # about how long the GPU is kept busy
PINNED_BYTES = 2 << 30
READ_BLOCKS, READ_THREADS = 512, 512


class _Reading(Record):
    _fields_ = [
        ("bytes", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("sum", ctypes.c_void_p),
    ]


def by_threads(most: int) -> Iterator[Row]:
    counts = [count for count in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64) if count < most]
    for count in (*counts, most):
        yield f"RAM read, {count} threads", pool.read_gb_s(count), "GB/s"


def beside_copies(threads: int) -> Iterator[Row]:
    """What the CPU reads alone, and what both get while a GPU takes pinned memory."""
    memory = torch.empty(CPU_BYTES, dtype=torch.uint8)
    pool.check(library().hybrid_pool_fill(memory.data_ptr(), CPU_BYTES, threads))
    pinned = torch.ones(COPY_BYTES, dtype=torch.uint8, pin_memory=True)
    there = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    rates = [pool.read_at_gb_s(memory.data_ptr(), CPU_BYTES, threads) for _ in range(5)]
    yield "CPU read alone", statistics.median(rates), "GB/s"
    kernel = PROGRAM.kernel(f"read<{READ_THREADS}>", "cuda")
    record = _Reading(pinned.data_ptr(), COPY_BYTES, there.data_ptr())
    ways: dict[str, Callable[[], object]] = {
        "copies to the GPU": lambda: there.copy_(pinned, non_blocking=True),
        "zero-copy reads by a kernel": lambda: kernel.launch(
            (READ_BLOCKS, 1, 1), READ_THREADS, record, overlap=False
        ),
    }
    for name, run in ways.items():
        alone_us = queued_us(run)
        gpu, cpu = _both(run, max(int(BESIDE_S * 1e6 / alone_us), 1), memory, threads)
        yield f"{name}, alone", COPY_BYTES / alone_us / 1e3, "GB/s"
        yield f"{name}, beside CPU reads", gpu, "GB/s"
        yield f"CPU read beside {name}", cpu, "GB/s"


def _both(
    run: Callable[[], object], times: int, memory: Tensor, threads: int
) -> tuple[float, float]:
    """GB/s of the GPU and of the CPU at once."""
    with Span() as span:
        for _ in range(times):
            run()
    rates = []
    while not span.is_over():
        rates.append(pool.read_at_gb_s(memory.data_ptr(), CPU_BYTES, threads))
    gpu_gb_s = times * COPY_BYTES / span.us() / 1e3
    return gpu_gb_s, statistics.median(rates[:-1] or rates)  # the last one ended alone


def pinning() -> Iterator[Row]:
    """Memory that is touched already, once in huge pages and once in small ones."""
    arena = HostArena(PINNED_BYTES, NumaPolicy.INTERLEAVE)
    huge = arena.take(PINNED_BYTES)
    huge.fill_(1)
    placement = arena.placement()
    if placement:
        share = placement.huge_page_bytes / PINNED_BYTES
        yield "memory asked for in huge pages that is", 100 * share, "%"
    small = torch.ones(PINNED_BYTES, dtype=torch.uint8)
    for name, memory in (("huge pages", huge), ("memory of malloc", small)):
        yield or_reason(f"cuMemHostRegister, {name}", "GB/s", lambda memory=memory: _pin(memory))


def _pin(memory: Tensor) -> float:
    began = perf_counter()
    host_memory.register(memory.data_ptr(), memory.numel())
    seconds = perf_counter() - began
    host_memory.unregister(memory.data_ptr())
    return memory.numel() / seconds / 1e9
