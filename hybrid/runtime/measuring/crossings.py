"""How long a decode step waits when it calls the CPU, and when the next GPU goes on with it."""

import statistics
from time import perf_counter

import torch

from hybrid.runtime.gpu.replay import GraphReplay
from hybrid.runtime.measuring.gpu_time import Span, pinned
from kernels.blocks import BlockTensor
from kernels.formats import BY_NAME
from kernels.mailbox import Mailbox, publish, receive
from kernels.mailbox.serve import Layer, Service

WIDTH, USED = 4096, 2  # between the widths of small and of large models
EXPERTS, ROWS, NOBODY = 2, 32, 1 << 20  # no expert of the layer is one that a token chooses
CROSSINGS = 26  # in a graph
ROUNDS = 24
SERVICE_LIMIT_S, GPU_LIMIT_S = 2.0, 5.0


def crossing_us(place: torch.device) -> float:
    """Of one crossing in a replayed graph, the CPU computing nothing.

    What a graph of many takes longer than one of a single crossing: Python begins to serve while
    the first of them waits.

    Raises GpuSilent when the two lose each other, after some seconds.
    """
    many, one = (_graph_us(place, crossings) for crossings in (1 + CROSSINGS, 1))
    return max(many - one, 0.0) / CROSSINGS


def _graph_us(place: torch.device, crossings: int) -> float:
    memory = pinned(Mailbox.nbytes(1, WIDTH, USED))
    state = torch.zeros(2, dtype=torch.int32, device=place)
    mailbox = Mailbox(memory, state, tokens=1, width=WIDTH, used=USED, limit_s=GPU_LIMIT_S)
    blocks = (_zeros(ROWS, WIDTH), _zeros(ROWS, WIDTH), _zeros(WIDTH, ROWS))
    layer = Layer(mailbox, [blocks], NOBODY)
    service = Service([layer] * crossings, limit_s=SERVICE_LIMIT_S)
    workspace = torch.empty(service.needs(1, 1), dtype=torch.uint8)
    x, h = torch.zeros(2, 1, WIDTH, device=place)
    chosen = torch.zeros(1, USED, dtype=torch.int32, device=place)
    share = torch.zeros(1, USED, device=place)

    def launches() -> None:
        for _ in range(crossings):
            publish(mailbox, x, chosen, share)
            receive(mailbox, h)

    service.abandon()  # nobody waits while kernels are compiled and captured
    replay = GraphReplay(place, launches, launches)
    torch.cuda.synchronize(place)
    times = []
    for _ in range(ROUNDS):
        service.reset()
        span = Span(place)
        span.begin()
        replay.start()
        span.end()
        service.serve(1, workspace, 1)
        times.append(span.us())
        service.check_received()
    return statistics.median(times[ROUNDS // 4 :])


def handover_us(home: torch.device, after: torch.device) -> float:
    """A row to pinned memory, and from there to the next GPU; wall time, the host waits twice."""
    row = torch.zeros(WIDTH, device=home)
    there = torch.zeros(WIDTH, device=after)
    between = pinned(row.nbytes).view(row.dtype)
    times = []
    for _ in range(ROUNDS):
        torch.cuda.synchronize(home)
        began = perf_counter()
        between.copy_(row, non_blocking=True)
        torch.cuda.synchronize(home)
        there.copy_(between, non_blocking=True)
        torch.cuda.synchronize(after)
        times.append(perf_counter() - began)
    return 1e6 * statistics.median(times[ROUNDS // 4 :])


def _zeros(rows: int, columns: int) -> BlockTensor:
    kind = BY_NAME["Q8_0"]
    blocks = torch.zeros(EXPERTS, rows, kind.row_bytes(columns), dtype=torch.uint8)
    return BlockTensor(blocks, kind, columns)
