"""The states of the solver: ways to place the first blocks, the runs they consist of, and which of
them are worth keeping.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

from placement.solve.sites import Option, Site

MOST_LABELS = 16  # pairs of time and RAM kept in one state


class Run(NamedTuple):
    """order[first:end] at home on a GPU, by its number; with the head or without."""

    gpu: int
    first: int
    end: int
    head: bool = False


class Label(NamedTuple):
    """A way to place the first blocks.

    on_cpu   how many of them live there
    runs     linked: the last one, and those before it
    """

    ticks: int
    on_cpu: int
    unevenness: int
    ram_bytes: int
    runs: tuple[Run, Any] | None

    def plus(self, ticks: int, ram_bytes: int = 0, blocks: int = 0) -> "Label":
        """With so much more; blocks   on the CPU."""
        return Label(
            self.ticks + ticks,
            self.on_cpu + blocks,
            self.unevenness,
            self.ram_bytes + ram_bytes,
            self.runs,
        )


@dataclass(frozen=True, slots=True)
class Table:
    """What one GPU offers.

    empty       without blocks to be placed
    options     [i][j - i - 1]: order[i:j], as far as there is room for any
    with_head   [i]: order[i:] and the head
    """

    empty: Option
    options: list[list[Option | None]]
    with_head: list[Option | None]


States = list[tuple[int, list[list[Label]]]]
Thin = Callable[[list[Label]], list[Label]]


def shared_out(count: int, shares: Sequence[float]) -> list[tuple[int, int]]:
    """(first, end) of so many blocks for each share, in order: the share in which a block's middle
    falls.
    """
    ends = [round(count * part / sum(shares) + 1e-9) for part in accumulate(shares)]
    return list(zip([0, *ends[:-1]], ends, strict=True))


def then(label: Label, option: Option, empty: Option, extra: int, run: Run) -> Label:
    return Label(
        label.ticks + extra + option.ticks,
        label.on_cpu,
        label.unevenness + option.unevenness,
        label.ram_bytes + option.ram_bytes - empty.ram_bytes,
        (run, label.runs),
    )


def fastest(labels: list[Label]) -> list[Label]:
    return [min(labels, key=by_time)] if labels else []


def front(labels: list[Label]) -> list[Label]:
    """Those that no other one beats in time and RAM; of many, the ends and some between. Blocks on
    the CPU take scratch, so that ways with and without any are apart.
    """
    kept: list[Label] = []
    for without in (True, False):
        apart: list[Label] = []
        for label in sorted(labels, key=by_time_and_ram):
            fewer = not apart or label.ram_bytes < apart[-1].ram_bytes
            if fewer and (label.on_cpu == 0) is without:
                apart.append(label)
        last = len(apart) - 1
        if last >= MOST_LABELS:
            apart = [apart[last * i // (MOST_LABELS - 1)] for i in range(MOST_LABELS)]
        kept += apart
    return kept


def leanest(labels: list[Label]) -> list[Label]:
    """The one that needs least RAM with blocks on the CPU, and the one without."""
    found = []
    for without in (True, False):
        apart = [label for label in labels if (label.on_cpu == 0) is without]
        if apart:
            found.append(min(apart, key=by_ram))
    return found


def is_fatter(label: Label, ram_bytes: int, known: Sequence[Label]) -> bool:
    """Whether a known way needs less RAM than this one with so much more."""
    for other in known[-2:]:
        alike = (other.on_cpu == 0) is (label.on_cpu == 0)
        if alike and other.ram_bytes < label.ram_bytes + ram_bytes:
            return True
    return False


def by_ram(label: Label) -> tuple[int, int, int, int]:
    return label.ram_bytes, label.ticks, label.on_cpu, label.unevenness


def by_time(label: Label) -> tuple[int, int, int]:
    return label[:3]


def tables_of(sites: Sequence[Site]) -> list[Table]:
    """Equal GPUs share one."""
    known: dict[tuple[object, ...], Table] = {}
    tables = []
    for site in sites:
        key = site.key
        if key not in known:
            size = len(site.order)
            known[key] = Table(
                site.run(0, 0, head=False) or Option(0, 0, 0),
                [list(site.runs(i)) for i in range(size)],
                [site.run(i, size, head=True) for i in range(size + 1)],
            )
        tables.append(known[key])
    return tables


def by_time_and_ram(label: Label) -> tuple[int, int, int, int]:
    return label.ticks, label.ram_bytes, label.on_cpu, label.unevenness
