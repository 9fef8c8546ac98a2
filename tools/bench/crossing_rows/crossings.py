"""GPU -> CPU -> GPU in a replayed graph, by every means there is.

spin      publish kernel, the CPU's dispatcher, receive kernel that polls
memory    the wait, or both ends, as memory operations of the stream
host      publish kernel, host function, receive kernel. A graph of host functions alone has no
          crossing: between two of them nothing comes from the GPU or goes there

The CPU's job is nothing, or a dispatch of the whole pool with experts so small that their
arithmetic does not count.
"""

import ctypes
import statistics
from collections.abc import Callable, Iterator
from time import perf_counter

import torch

from kernels.blocks import BlockTensor
from kernels.cuda import driver_library, host_memory
from kernels.formats import BY_NAME
from kernels.mailbox import Mailbox, publish, receive
from kernels.mailbox.serve import Layer, Part, Service
from kernels.native import pool
from kernels.native.library import library
from tools.bench.crossing_rows.measure import Row, launch_empty, or_reason
from tools.bench.gpu_time import Span, captured

CROSSINGS = 26
ROUNDS = 50
EXPERTS, USED, TINY = 8, 2, 32
IDLE_US = (0, 30, 150, 1000, 4000, 20_000)


class Route:
    """A mailbox, what is sent through it, and the CPU's service of CROSSINGS layers."""

    def __init__(self, width: int, first_expert: int, threads: int) -> None:
        nbytes = Mailbox.nbytes(1, width, USED)
        memory = torch.zeros(nbytes, dtype=torch.uint8, pin_memory=True)
        state = torch.zeros(2, dtype=torch.int32, device="cuda")
        self.mailbox = Mailbox(memory, state, tokens=1, width=width, used=USED, limit_s=5)
        self.service = Service(
            [Layer(self.mailbox, [_tiny_experts(width)], first_expert)] * CROSSINGS, limit_s=2
        )
        self.threads = threads
        self.workspace = torch.empty(self.service.needs(1, threads), dtype=torch.uint8)
        self.x, self.h = torch.randn(2, 1, width, device="cuda")
        self.chosen = torch.tensor([[0, 1]], dtype=torch.int32, device="cuda")
        self.share = torch.full((1, USED), 0.5, device="cuda")
        self.service.abandon()  # nothing waits while the kernels are compiled
        self.send()
        self.fetch()
        torch.cuda.synchronize()
        self.service.reset()

    def send(self) -> None:
        publish(self.mailbox, self.x, self.chosen, self.share)

    def fetch(self) -> None:
        receive(self.mailbox, self.h)

    def serve(self) -> None:
        self.service.serve(1, self.workspace, self.threads)

    def us(self, graph: torch.cuda.CUDAGraph, *, serve: bool = True) -> float:
        """Of the GPU for one crossing; every replay begins at number 0."""
        times = []
        for _ in range(ROUNDS):
            self.service.reset()
            if not serve:
                self.service.abandon()
            with Span() as span:
                graph.replay()
            try:
                if serve:
                    self.serve()
            finally:
                self.mailbox.from_cpu[0] = CROSSINGS  # a memory operation has no limit of its own
                times.append(span.us() / CROSSINGS)
        return statistics.median(times[3:])

    def computed_us(self) -> float:
        return 1e6 * statistics.median(self.service.computed_s)


def crossings(threads: int) -> Iterator[Row]:
    for width in (2048, 7168):
        nothing = Route(width, EXPERTS, 1)
        graph = captured(lambda route=nothing: _spin(route))
        name = f"crossing of {width} floats"
        yield f"{name}: kernels alone, nobody waits", nothing.us(graph, serve=False), "us"
        yield f"{name}: spin, empty job", nothing.us(graph), "us"
        yield "  of which the CPU", nothing.computed_us(), "us"
        whole = Route(width, 0, threads)
        graph = captured(lambda route=whole: _spin(route))
        yield f"{name}: spin, tiny experts, {threads} threads", whole.us(graph), "us"
        yield "  of which the CPU", whole.computed_us(), "us"
    yield from _by_memory_operations(Route(2048, EXPERTS, 1))
    yield from _by_host_functions(Route(2048, EXPERTS, 1))


def _spin(route: Route) -> None:
    for _ in range(CROSSINGS):
        route.send()
        route.fetch()


def _by_memory_operations(route: Route) -> Iterator[Row]:
    posted = host_memory.device_pointer(route.mailbox.from_gpu.data_ptr())
    answered = host_memory.device_pointer(route.mailbox.from_cpu.data_ptr())
    device = torch.cuda.current_device()

    def wait_alone() -> None:
        for number in range(1, CROSSINGS + 1):
            route.send()
            host_memory.wait_value(answered, number, device)
            route.fetch()

    def write_and_wait() -> None:
        for number in range(1, CROSSINGS + 1):
            host_memory.write_value(posted, number, device)
            host_memory.wait_value(answered, number, device)

    ways: dict[str, Callable[[], None]] = {
        "publish kernel, wait by memory operation, receive kernel": wait_alone,
        "write and wait by memory operations, no data": write_and_wait,
    }
    for name, record in ways.items():
        yield or_reason(name, "us", lambda record=record: route.us(captured(record)))


def _by_host_functions(route: Route) -> Iterator[Row]:
    """The function returns at once, and nothing waits for an answer of the mailbox."""

    def with_data() -> None:
        for _ in range(CROSSINGS):
            route.send()
            _call_nothing()
            route.fetch()

    def without_data() -> None:
        for _ in range(CROSSINGS):
            launch_empty(overlap=False)
            _call_nothing()

    launch_empty(overlap=False)  # loads it
    ways: dict[str, Callable[[], None]] = {
        "publish kernel, host function, receive kernel": with_data,
        "empty kernel, host function, next empty kernel": without_data,
    }
    for name, record in ways.items():
        yield or_reason(name, "us", lambda record=record: route.us(captured(record), serve=False))


def _call_nothing() -> None:
    """Queues a call of a native function that returns at once; its argument is a null pointer."""
    launch = driver_library.library().cuLaunchHostFunc
    launch.argtypes = [ctypes.c_void_p] * 3
    function = ctypes.cast(library().hybrid_has_tier, ctypes.c_void_p)
    if launch(torch.cuda.current_stream().cuda_stream, function, None):
        raise RuntimeError("cuLaunchHostFunc failed")


def waking(threads: int) -> Iterator[Row]:
    """A job of one barrier after the pool has had nothing to do."""
    job = library().hybrid_pool_try_fault
    for idle_us in IDLE_US:
        times = []
        for _ in range(ROUNDS):
            until = perf_counter() + idle_us * 1e-6
            while perf_counter() < until:
                pass
            began = perf_counter()
            code = job(0, 0, threads, 0.0)
            times.append(perf_counter() - began)
            pool.check(code)
        median_us = statistics.median(times) * 1e6
        yield f"pool job of {threads} threads after {idle_us} us of nothing", median_us, "us"


def _tiny_experts(width: int) -> Part:
    def blocks(rows: int, columns: int) -> BlockTensor:
        kind = BY_NAME["Q8_0"]
        count = kind.row_bytes(columns)
        return BlockTensor(torch.zeros(EXPERTS, rows, count, dtype=torch.uint8), kind, columns)

    return blocks(TINY, width), blocks(TINY, width), blocks(width, TINY)
