"""Groups of contenders, timed in rounds.

A group is one op on one format and shape; its contenders differ in tier, tokens and precision and
share its memory. A round goes once through all groups, so that noise hits all alike; a contender's
ratio to the first tier is taken within a round. Other users of a machine change what its RAM gives
from one moment to the next: a contender whose share of it is asked for is timed in slices, with a
plain read before and after each.

A timing is a chain of calls of the C border with arguments made beforehand, each on the next piece
of memory, divided by their number; the time of a call that does nothing is taken off.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import cycle, islice
from time import perf_counter

from kernels.formats import BlockFormat
from kernels.native import pool
from kernels.native.library import library
from kernels.native.tiers import NAMES
from tools.bench.kernel_rows.memory import RamMemory
from tools.bench.kernel_rows.shapes import ModelShape

TIERS = {name: number for number, name in enumerate(NAMES)}
MOST_CALLS = 20_000  # of a chain
EMPTY_CALLS = 2000
SLICES = 10  # of a timing

Call = Callable[[], int | None]  # of the C border: an error number of the pool, or nothing


@dataclass(frozen=True, slots=True)
class Setup:
    """What was asked for, the same in every group.

    tiers        names that this processor has
    precisions   of activations: "rounded" to eight bits, "exact"
    threads      workers of the pool that was started
    seconds      about the time of one timing
    """

    shapes: dict[str, ModelShape]
    formats: Sequence[BlockFormat]
    tiers: Sequence[str]
    precisions: Sequence[str]
    tokens: Sequence[int]
    threads: int
    cpus: Sequence[int]
    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """What one call of a contender does.

    nbytes   read of weights or cache rows at least; 0: not what limits it
    macs     multiply-adds; 0: not counted
    """

    tier: str
    precision: str
    tokens: int
    threads: int
    nbytes: int = 0
    macs: int = 0


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table.

    time     seconds of one call, given about how long to measure
    error    against the reference, after one call
    keeps    memory that the calls point to
    """

    work: Work
    time: Callable[[float], float]
    error: Callable[[], float]
    keeps: object = None


@dataclass(frozen=True, slots=True)
class Group:
    """One op on one format and shape.

    ram_bytes    of memory that its contenders need
    contenders   made anew in every round: another group had the memory meanwhile
    """

    op: str
    format: str
    shape: str
    ram_bytes: int
    contenders: Callable[[RamMemory], Iterable[Contender]]


@dataclass(slots=True)
class Measured:
    """Of one contender; a number a round in each list.

    shares   of what the RAM gave before and after; the slices' median
    ratios   time of the first tier over this one's
    """

    group: Group
    work: Work
    error: float
    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Reads:
    """What the pool's own threads read, 1e9 bytes per second, a number a slice."""

    all_threads: list[float] = field(default_factory=list)
    one_thread: list[float] = field(default_factory=list)


Key = tuple[str, str, str, str, str, int]


def measure(groups: Sequence[Group], setup: Setup, rounds: int) -> tuple[list[Measured], Reads]:
    """All contenders of all groups, in their order, and what the RAM gave meanwhile."""
    memory = RamMemory(max((group.ram_bytes for group in groups), default=0))
    found: dict[Key, Measured] = {}
    reads = Reads()
    for _ in range(rounds):
        for group in groups:
            memory.empty()
            _visit(group, setup, memory, found, reads)
    return list(found.values()), reads


def _visit(
    group: Group, setup: Setup, memory: RamMemory, found: dict[Key, Measured], reads: Reads
) -> None:
    first_s: dict[tuple[str, int], float] = {}
    for contender in group.contenders(memory):
        work = contender.work
        key = (group.op, group.format, group.shape, work.tier, work.precision, work.tokens)
        if key not in found:
            found[key] = Measured(group, work, contender.error())
        if work.nbytes:
            told = reads.all_threads if work.threads == setup.threads else reads.one_thread
            seconds, share = _beside_reads(contender, setup.seconds, memory, told)
            found[key].shares.append(share)
        else:
            seconds = contender.time(setup.seconds)
        first = first_s.setdefault((work.precision, work.tokens), seconds)
        found[key].seconds.append(seconds)
        found[key].ratios.append(first / seconds)


def _beside_reads(
    contender: Contender, seconds: float, memory: RamMemory, told: list[float]
) -> tuple[float, float]:
    """Seconds of a call and its share of what plain reads got; medians of the slices."""
    work, times, shares = contender.work, [], []
    before = memory.read_gb_s(work.threads)
    for _ in range(SLICES):
        times.append(contender.time(seconds / SLICES))
        after = memory.read_gb_s(work.threads)
        shares.append(work.nbytes / times[-1] / 1e9 / ((before + after) / 2))
        told.append(after)
        before = after
    return statistics.median(times), statistics.median(shares)


def chain(calls: Sequence[Call]) -> Callable[[float], float]:
    """`time` of a contender whose calls are these, in turn, over and over."""
    return partial(_chain_s, cycle(calls))


def _chain_s(calls: Iterator[Call], seconds: float) -> float:
    """The chain grows until it is long enough: a first call is slow, and noise makes it slower."""
    count = 1
    while True:
        took_s = _run_s(list(islice(calls, count)))
        if took_s >= seconds / 2 or count == MOST_CALLS:
            return max(took_s / count - empty_call_s(), 1e-9)
        longer = int(seconds / took_s * count)
        count = min(max(2 * count, longer), MOST_CALLS)


def _run_s(calls: Sequence[Call]) -> float:
    failed = 0
    begin = perf_counter()
    for call in calls:
        failed = call() or failed
    took_s = perf_counter() - begin
    pool.check(failed)
    return took_s


@cache
def empty_call_s() -> float:
    """Of a native call that finds nothing to do: a norm of no rows."""
    call = partial(library().hybrid_add_rms_norm, 0, 0, 0, 0, 0, 1, 0.0, 0)
    return min(_run_s([call] * EMPTY_CALLS) for _ in range(5)) / EMPTY_CALLS
