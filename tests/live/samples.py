"""A plan's view, an engine and snapshots by hand: nothing here loads a model."""

from dataclasses import dataclass, field, replace

from hybrid.live.assembled import Readings, State, assembled
from hybrid.live.mean_times import MeanTimes
from hybrid.live.plan_view import PlanView, Reading
from hybrid.live.recorder import Heard
from hybrid.live.snapshot import (
    Comparison,
    DeviceView,
    HostView,
    LayerView,
    MemoryView,
    NodeView,
    Phase,
    Progress,
    RunFacts,
    Sensors,
    Snapshot,
)
from hybrid.live.sources.readings import GpuReading, HostReading, NodeReading

GIB = 1 << 30
MEMORY = MemoryView({"attention": 3 * GIB, "norm": 10}, GIB, GIB, 0, 5 * GIB, 20 * GIB, 24 * GIB)
FACTS = RunFacts(4711, "run", "tiny", "deepseek2", "CUDA0 layers 0-1", 1e9, 4096, 512, 8)
SENSORS = Sensors(0.05, 61.0, 250.0, 350.0, 1980, 2619, ("power limit",), 4, 16, 5, 16, 1e9, 2e6)


@dataclass
class Stats:
    """As RunStats."""

    prompt_tokens: int = 6
    reused_tokens: int = 0
    decode_tokens: int = 10
    computing: str | None = None
    prompt_tokens_per_s: float | None = 100.0
    decode_tokens_per_s: float | None = 20.0


@dataclass
class Pass:
    """As StepStats."""

    tokens: int = 1
    start: int = 0
    seconds: float = 0.1
    crossing_bytes: int = 0


@dataclass
class Told:
    """As Token."""

    text: str


@dataclass(eq=False)
class Engine:
    """Who listens, and what tells them."""

    stats: Stats = field(default_factory=Stats)
    listeners: list[object] = field(default_factory=list)

    def listen(self, listener: object) -> None:
        if listener not in self.listeners:
            self.listeners.append(listener)

    def unlisten(self, listener: object) -> None:
        if listener in self.listeners:
            self.listeners.remove(listener)


@dataclass(eq=False)
class Sources:
    """Which were started and stopped."""

    readings: Readings = Readings()
    started: int = 0
    stopped: int = 0

    def start(self) -> None:
        self.started += 1

    def stop(self) -> None:
        self.stopped += 1


def view(pid: int = 4711) -> PlanView:
    """Two layers on one GPU, the second one's experts in RAM of two nodes."""
    gpu = DeviceView("CUDA0", "gpu", "a card", MEMORY, {}, cache_capacity_tokens=4096)
    host = DeviceView(
        "CPU", "cpu", "a CPU", MEMORY, {}, read_limit_bytes_s=8e10, read_limit_is_measured=True
    )
    return PlanView(
        facts=replace(FACTS, pid=pid),
        devices=(host, gpu),
        nodes=(
            NodeView(0, 64 * GIB, None, read_limit_bytes_s=4e10, read_limit_is_measured=True),
            NodeView(1, 64 * GIB, None, read_limit_bytes_s=4e10, read_limit_is_measured=True),
        ),
        layers=(LayerView(0, "CUDA0", ()), LayerView(1, "CUDA0", ("CPU", "CUDA0"))),
        reads={"CPU": Reading(1_000_000, 0), "CUDA0": Reading(500_000, 1000)},
        spread=True,
        uuids={"CUDA0": "GPU-1"},
        node_cpus={0: (0, 1), 1: (2, 3)},
        experts_bytes=800_000,
    )


def heard() -> Heard:
    """While decoding at 20 tokens a second after 100 tokens."""
    parts = {"CUDA0": {"attention": 0.01, "waiting": 0.04}, "CPU": {"experts": 0.04}}
    return Heard(
        Phase.DECODE,
        decode_now=20.0,
        decode_10_s=19.0,
        prompt_now=90.0,
        ms_a_token=50.0,
        history=(18.0, 20.0),
        cached_tokens=100,
        crossing_bytes=28672,
        times=MeanTimes(8, parts, (0.005, 0.005), (None, 0.04), {0: 0.02, 1: 0.02}),
        text="Once “upon” a\ntime \x1b[31m",
        usage={1: (3, 0, 12)},
    )


def readings() -> Readings:
    """Of every source."""
    nodes = {n: NodeReading(64 * GIB, 9 * GIB, (0.5, 1.0)) for n in (0, 1)}
    host = HostReading(HostView(GIB, 3, 0.0, 1e6, GIB, 0.75), nodes, 18 * GIB)
    gpus = {"CUDA0": GpuReading(SENSORS, 6 * GIB)}
    return Readings(host, gpus, {"CUDA0": 5 * GIB}, {"CUDA0": 6 * GIB}, {0: 7, 1: 8})


def full_snapshot() -> Snapshot:
    """With a value in every field that can be there while decoding, and then some."""
    state = State(notes=("a note",))
    made = assembled(view(), heard(), Stats(), readings(), state)
    cpu, gpu = made.devices
    return replace(
        made,
        facts=replace(
            FACTS,
            predicted_decode_tok_s=25.0,
            predicted_prompt_tok_s=90.0,
            predicted_error=0.2,
            limit="RAM",
        ),
        nodes=tuple(replace(node, huge_bytes=GIB) for node in made.nodes),
        devices=(cpu, gpu),
        compared=Comparison(100, 20.0, 24.0),
        progress=Progress("prompt", "tokens", 512, 2048, 100.0, 15.0),
        error="an error",
    )


def empty_snapshot() -> Snapshot:
    """Before anything was measured, without any source."""
    return assembled(view(), Heard(Phase.IDLE), None, Readings(), State(Phase.LOADING))
