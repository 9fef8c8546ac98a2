"""GPU -> CPU -> GPU in a replayed graph, by every means there is.

spin      publish kernel, the CPU's dispatcher, receive kernel that polls
router    the same with the router's kernel, whose blocks publish, beside the router alone
memory    the wait, or both ends, as memory operations of the stream
host      publish kernel, host function, receive kernel. A graph of host functions alone has no
          crossing: between two of them nothing comes from the GPU or goes there

What crosses is as little as the kernels take, which is what a host function with nothing to read
is held against, or a real model's row. The CPU's job is nothing by one thread, nothing by the whole
pool, or small experts: their rows of down are of one block, which costs more than its arithmetic.
"""

import ctypes
import statistics
from collections.abc import Callable, Iterator
from time import perf_counter

import torch

from kernels.cuda import driver_library, host_memory
from kernels.native import pool
from kernels.native.library import library
from kernels.router import Gating, RouterRules
from tools.bench.crossing_rows.measure import Row, launch_empty, or_reason
from tools.bench.crossing_rows.routes import CROSSINGS, EXPERTS, Route, RouterRoute
from tools.bench.gpu_time import captured

SMALL, WIDTHS = 32, (2048, 7168)
ROUTERS = {
    2048: RouterRules(64, 6, Gating.SOFTMAX),
    7168: RouterRules(256, 8, Gating.SIGMOID, groups=8, groups_used=4, normalise=True),
}
IDLE_US = (0, 30, 150, 1000, 4000, 20_000)
POOL_ROUNDS = 50


def crossings(threads: int) -> Iterator[Row]:
    yield from _by_kernels(Route(SMALL, EXPERTS, 1), Route(SMALL, EXPERTS, threads))
    yield from _by_host_functions(Route(SMALL, EXPERTS, 1))
    for width in WIDTHS:
        yield from _by_kernels(Route(width, EXPERTS, 1), Route(width, EXPERTS, threads))
        whole = Route(width, 0, threads)
        graph = captured(lambda route=whole: _spin(route))
        yield f"{_name(whole)}: spin, tiny experts, {threads} threads", whole.us(graph), "us"
        yield "  of which the CPU", whole.computed_us(), "us"
        yield from _by_router(RouterRoute(width, ROUTERS[width]))
    yield from _by_memory_operations(Route(WIDTHS[0], EXPERTS, 1))
    yield from _by_host_functions(Route(WIDTHS[0], EXPERTS, 1))


def _name(route: Route) -> str:
    return f"crossing of {route.mailbox.width} floats"


def _by_kernels(one: Route, all_threads: Route) -> Iterator[Row]:
    """The CPU has none of the experts: one thread, then the pool, finds that out."""
    graph = captured(lambda: _spin(one))
    yield f"{_name(one)}: kernels alone, nobody waits", one.us(graph, serve=False), "us"
    yield f"{_name(one)}: spin, empty job", one.us(graph), "us"
    yield "  of which the CPU", one.computed_us(), "us"
    graph = captured(lambda: _spin(all_threads))
    what = f"{_name(one)}: spin, no experts here, {all_threads.threads} threads"
    yield what, all_threads.us(graph), "us"
    yield "  of which the CPU", all_threads.computed_us(), "us"


def _by_router(routed: RouterRoute) -> Iterator[Row]:
    graph = captured(lambda: _spin(routed))
    yield f"{_name(routed)}: router, empty job", routed.us(graph), "us"
    routed.posts = False

    def alone() -> None:
        for _ in range(CROSSINGS):
            routed.send()

    yield "  the router's kernel alone", routed.us(captured(alone), serve=False), "us"


def _spin(route: Route) -> None:
    for _ in range(CROSSINGS):
        route.send()
        route.fetch()


def _by_memory_operations(route: Route) -> Iterator[Row]:
    answered = host_memory.device_pointer(route.mailbox.from_cpu.data_ptr())
    device = torch.cuda.current_device()

    def wait_alone() -> None:
        for number in range(2, CROSSINGS + 2):
            route.send()
            host_memory.wait_value(answered, number, device)
            route.fetch()

    ways: dict[str, Callable[[], None]] = {
        "publish kernel, wait by memory operation, receive kernel": wait_alone,
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
    width = route.mailbox.width
    ways: dict[str, Callable[[], None]] = {
        f"publish kernel, host function, receive kernel, {width} floats": with_data,
    }
    if width == SMALL:
        ways["empty kernel, host function, next empty kernel"] = without_data
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
        for _ in range(POOL_ROUNDS):
            until = perf_counter() + idle_us * 1e-6
            while perf_counter() < until:
                pass
            began = perf_counter()
            code = job(0, 0, threads, 0.0)
            times.append(perf_counter() - began)
            pool.check(code)
        median_us = statistics.median(times) * 1e6
        yield f"pool job of {threads} threads after {idle_us} us of nothing", median_us, "us"
