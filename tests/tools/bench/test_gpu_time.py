"""What the figures of GPU benches mean, on a GPU of which only the clock is played."""

import ast
import importlib
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tools.bench import gpu_time
from tools.bench.crossing_rows import crossings

BENCH = Path(gpu_time.__file__).parent
BENCHES = sorted(
    path.stem
    for path in BENCH.glob("*.py")
    if "__main__" in path.read_text(encoding="utf-8") and not path.stem.startswith("peer_")
)  # peer_*.py are run by an interpreter that has the peer


class Clock:
    """Work takes its microseconds at once, or when the graph is replayed that it is captured in."""

    def __init__(self) -> None:
        self.us = 0.0
        self.events = 0
        self.slow_event = -1
        self.graph: list[float] | None = None

    def work(self, us: float) -> None:
        if self.graph is None:
            self.us += us
        else:
            self.graph.append(us)

    @contextmanager
    def capture(self, graph: "Graph"):
        self.graph = graph.work
        yield
        self.graph = None


class Graph:
    clock: Clock

    def __init__(self) -> None:
        self.work: list[float] = []

    def replay(self) -> None:
        for us in self.work:
            self.clock.work(us)


class Event:
    clock: Clock

    def __init__(self, enable_timing: bool = False) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        self.clock.events += 1
        if self.clock.events == self.clock.slow_event:
            self.clock.us += 1e6
        self.at = self.clock.us

    def synchronize(self) -> None:
        """Work is done when it is queued."""

    def elapsed_time(self, end: "Event") -> float:
        return (end.at - self.at) / 1e3


@pytest.fixture
def clock(monkeypatch) -> Clock:
    played = Clock()
    monkeypatch.setattr(Graph, "clock", played, raising=False)
    monkeypatch.setattr(Event, "clock", played, raising=False)
    for name, stand_in in (
        ("Event", Event),
        ("CUDAGraph", Graph),
        ("graph", played.capture),
        ("synchronize", lambda: None),
    ):
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return played


def test_a_launch_is_timed_in_a_graph_after_one_outside(clock):
    called: list[bool] = []

    def launch() -> None:
        called.append(clock.graph is not None)
        clock.work(3)

    assert gpu_time.microseconds(launch) == pytest.approx(3)
    assert called == [False, True]


def test_a_graph_of_layers_tells_the_time_of_one(clock):
    assert gpu_time.each_us(clock.work, [2, 4, 9]) == pytest.approx(5)


def test_one_disturbed_round_does_not_move_the_figure(clock):
    clock.slow_event = 4  # the end of the second round
    assert gpu_time.queued_us(lambda: clock.work(7)) == pytest.approx(7)


def test_a_copy_counts_bytes_read_and_written_and_is_not_captured(clock, monkeypatch):
    monkeypatch.setattr(gpu_time, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(gpu_time, "COPIED_BYTES", 4000)
    copied: list[Callable[[], object]] = []

    def two_us(copy: Callable[[], object]) -> float:
        copied.append(copy)
        return 2.0

    monkeypatch.setattr(gpu_time, "queued_us", two_us)
    monkeypatch.setattr(gpu_time, "captured", None)
    assert gpu_time.copy_gb_s() == pytest.approx(4)  # 8000 bytes in 2 us
    assert copied[0]().unique().numel() > 1


def test_without_a_gpu_a_bench_says_what_it_needs(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device.*products(.|\n)*try "):
        gpu_time.need_gpu("products")


@pytest.mark.parametrize("bench", BENCHES)
def test_every_bench_tells_its_flags_on_any_machine(bench, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [bench, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"tools.bench.{bench}").main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage: ")


def test_graphs_are_captured_and_events_recorded_in_one_file():
    makers = {"torch.cuda.CUDAGraph", "torch.cuda.graph", "torch.cuda.Event"}
    users = {
        path.name
        for path in BENCH.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in makers
    }
    assert users == {"gpu_time.py"}


def test_a_host_function_is_timed_between_kernels(monkeypatch):
    queued: list[str] = []
    timed: list[list[str]] = []

    class Route:
        mailbox = SimpleNamespace(width=32)

        def send(self) -> None:
            queued.append("kernel")

        fetch = send

        def us(self, graph: object, *, serve: bool) -> float:
            assert not serve
            timed.append(queued.copy())
            return 1.0

    monkeypatch.setattr(crossings, "launch_empty", lambda overlap: queued.append("kernel"))
    monkeypatch.setattr(crossings, "_call_nothing", lambda: queued.append("host"))

    def captured(record: Callable[[], None]) -> None:
        queued.clear()
        record()

    monkeypatch.setattr(crossings, "captured", captured)
    rows = list(crossings._by_host_functions(Route()))
    assert [row[1] for row in rows] == [1.0, 1.0]
    for order in timed:
        assert order.count("host") == crossings.CROSSINGS
        assert ["host", "host"] not in [order[i : i + 2] for i in range(len(order))]


@pytest.mark.gpu
@pytest.mark.alone
def test_a_copy_is_no_slower_than_a_kernel_that_reads_and_writes():
    source = torch.ones(gpu_time.COPIED_BYTES // 4, device=gpu_time.DEVICE)
    target = torch.empty_like(source)
    us = gpu_time.microseconds(lambda: torch.neg(source, out=target))
    assert gpu_time.copy_gb_s() > 0.8 * 2 * gpu_time.COPIED_BYTES / us / 1e3
