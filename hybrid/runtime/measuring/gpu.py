"""What GPUs give the kernels that compute on them, and what crosses between them and the CPU.

    memory      a copy within it, bytes read and written
    products    of one token, Q8_0, in a replayed graph over matrices that no cache holds
    blocks      of a decode step, beside their bytes; attention over the cache
    matmul      bfloat16, torch's
    bus         pinned copies, each GPU alone and all at once
    crossing    publish, an empty job of the CPU, receive, in a replayed graph
    handover    a row of the residual stream to the host and to the next GPU

    engine      a token outside of its graph, launches of prompts
    context     of this process, where CUDA was not open before

What is not measured, attention of prompts, is estimated from these.
"""

from collections.abc import Sequence
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from hybrid.runtime.measuring.crossings import crossing_us, handover_us
from hybrid.runtime.measuring.demo_runs import demo_figures
from hybrid.runtime.measuring.gpu_time import graph_us, pinned, queued_us, together_s
from hybrid.runtime.measuring.readings import Readings
from hybrid.runtime.measuring.steps import block_figures
from hybrid.runtime.memory import cuda_device
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME
from kernels.linear.gpu import Product, matvec
from kernels.planar import PlanarTensor, to_planar
from placement.machines.machine import CPU, Device
from placement.machines.speeds_table import MOST_SHARE

# A model's process has more kernels loaded and larger graphs than this one, when it is measured: an
# H200's took 864 MiB at most where this one took 760.
MODELS_MIB = 104.0
COPY_BYTES, BUS_BYTES, BUS_COPIES = 512 << 20, 128 << 20, 8
FORMAT = BY_NAME["Q8_0"]  # its arithmetic hides behind the slowest memory
SIDES = (8192, 8192)  # rows, columns of a product
COLD_BYTES = 256 << 20  # of different matrices in a graph: twice the largest second cache
MIB = 1 << 20
SIDE = 4096  # of square matrices
WAKING_S = 0.3


def measure_gpus(gpus: Sequence[Device], readings: Readings) -> None:
    """All of them, each alone and then together; CUDA is opened on each."""
    places: dict[str, torch.device] = {}
    gpus_by_name = {gpu.name: gpu for gpu in gpus}
    fresh = not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    for gpu in gpus:
        place = readings.attempt(gpu.name, "opening CUDA", partial(cuda_device, gpu))
        if place is not None:
            places[gpu.name] = place
    for name, place in places.items():
        with torch.cuda.device(place):
            _alone(gpus_by_name[name], place, readings)
        if fresh:
            measure = partial(context_mib, gpus_by_name[name], place)
            readings.figure(name, "context_mib", "its context", measure)
    if len(places) > 1:
        rates = readings.attempt(
            "GPUs", "the bus, all at once", partial(together_gb_s, list(places.values()))
        )
        for name, rate in zip(places, rates or (), strict=False):
            readings.note(name, together_gb_s=rate)
    order = list(places)
    for name, after in zip(order, [*order[1:], *order[:1]], strict=True):
        measure = partial(handover_us, places[name], places[after])
        readings.figure(name, "handover_us", "handing over", measure)


def _alone(gpu: Device, place: torch.device, readings: Readings) -> None:
    name = gpu.name
    readings.attempt(name, "waking its clocks", partial(wake, place))
    readings.figure(name, "copy_gb_s", "copies", partial(copy_gb_s, place))
    copy = readings.figures.get(name, {}).get("copy_gb_s")
    if copy is not None:
        _token_figures(name, place, copy, readings)
    matmul = partial(matmul_tflops, place)
    readings.figure(name, "matmul_tflops", "products of many tokens", matmul)
    both = readings.attempt(name, "the bus", partial(bus_gb_s, place))
    if both is not None:
        to_gpu, to_host = both
        readings.note(name, to_gpu_gb_s=to_gpu, to_host_gb_s=to_host, together_gb_s=to_gpu)
    readings.figure(name, "crossing_us", "crossings", partial(crossing_us, place))
    torch.cuda.empty_cache()  # the demo model asks what is free
    found = readings.attempt(name, "the engine's own time", partial(demo_figures, gpu))
    if found is not None:
        readings.note(name, prompt_block_us=found["prompt_block_us"])
        slowest = max(readings.figures.get(CPU, {}).get("token_us", 0.0), found["token_us"])
        readings.note(CPU, token_us=slowest)


def _token_figures(name: str, place: torch.device, copy_gb_s: float, readings: Readings) -> None:
    share = readings.attempt(
        name, "products of one token", partial(product_share, place, copy_gb_s)
    )
    if share is None:
        return
    readings.note(name, product_share=share)
    measure = partial(block_figures, place, copy_gb_s, share)
    readings.note(name, **(readings.attempt(name, "blocks of a decode step", measure) or {}))


def context_mib(gpu: Device, place: torch.device) -> float:
    """What a process takes of the GPU beside what is placed there, once its kernels are loaded.

    gpu   as probed before CUDA was opened here
    """
    torch.cuda.empty_cache()
    gone = gpu.free_bytes - torch.cuda.mem_get_info(place)[0]
    return max(gone - torch.cuda.memory_reserved(place), 0) / MIB + MODELS_MIB


def product_share(place: torch.device, copy_gb_s: float) -> float:
    """Of the copy's rate that a large product of one token reaches, its launch in it."""
    nbytes, us = _product_us(place, *SIDES)
    return min(nbytes / us / 1e3 / copy_gb_s, MOST_SHARE)


def wake(place: torch.device) -> None:
    """Work until clocks and bus have left their idle state."""
    a = torch.zeros(SIDE, SIDE, dtype=torch.bfloat16, device=place)
    until = perf_counter() + WAKING_S
    while perf_counter() < until:
        torch.mm(a, a)
        torch.cuda.synchronize(place)


def copy_gb_s(place: torch.device) -> float:
    """Bytes read and written by a copy within the GPU's memory."""
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=place)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / queued_us(partial(target.copy_, source), place) / 1e3


def matmul_tflops(place: torch.device) -> float:
    a, b = (torch.randn(SIDE, SIDE, device=place).to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * SIDE**3 / queued_us(partial(torch.mm, a, b, out=out), place) / 1e6


def bus_gb_s(place: torch.device) -> tuple[float, float]:
    """From pinned memory, and to it."""
    host = pinned(BUS_BYTES)
    there = torch.empty(BUS_BYTES, dtype=torch.uint8, device=place)
    to_gpu = queued_us(partial(there.copy_, host, non_blocking=True), place, BUS_COPIES)
    to_host = queued_us(partial(host.copy_, there, non_blocking=True), place, BUS_COPIES)
    return BUS_BYTES / to_gpu / 1e3, BUS_BYTES / to_host / 1e3


def together_gb_s(places: Sequence[torch.device]) -> list[float]:
    """From pinned memory, each GPU's own, while all of them read."""
    pairs = [
        (
            pinned(BUS_BYTES),
            torch.empty(BUS_BYTES, dtype=torch.uint8, device=place),
        )
        for place in places
    ]
    copies = [partial(there.copy_, host, non_blocking=True) for host, there in pairs]
    seconds = together_s(places, copies, 2 * BUS_COPIES)
    return [2 * BUS_COPIES * BUS_BYTES / each / 1e9 for each in seconds]


def _product_us(place: torch.device, rows: int, columns: int) -> tuple[int, float]:
    """Bytes of a matrix, and us of its product within a graph of many."""
    first = to_planar(random_blocks(rows, columns, place))
    copies = max(2, -(-COLD_BYTES // first.nbytes))
    weights = [first, *(_copy(first) for _ in range(copies - 1))]
    x, out = torch.ones(1, columns, device=place), torch.empty(1, rows, device=place)

    def launches() -> None:
        for weight in weights:
            matvec(x, [Product(weight, out)], 1)

    return first.nbytes, graph_us(launches, place) / len(weights)


def _copy(weight: PlanarTensor) -> PlanarTensor:
    return PlanarTensor(weight.data.clone(), weight.format, weight.shape, weight.total_rows)


def random_blocks(rows: int, columns: int, place: torch.device) -> BlockTensor:
    """Q8_0 with small scales, as trained weights have: no infinities, no NaN."""
    blocks = torch.randint(256, (rows, FORMAT.row_bytes(columns)), dtype=torch.uint8, device=place)
    scale = torch.tensor([0.01], dtype=torch.float16).view(torch.uint8)
    whole: Tensor = blocks.view(-1, FORMAT.block_bytes)
    whole[:, : len(scale)] = scale.to(place)
    return BlockTensor(blocks, FORMAT, columns)
