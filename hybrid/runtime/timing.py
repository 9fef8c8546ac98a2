"""Which passes are measured, and who hears of it.

Measuring costs time, stamps in a graph and sums in Python; so it takes every n-th pass, n such that
all of it stays below SHARE of the time. n follows what the last measured pass took: its stamps and
sums, and what measured passes are longer by than their neighbours.
"""

from collections import deque
from math import ceil
from statistics import median
from time import perf_counter

import torch

from hybrid.runtime.ledger import Ledger
from hybrid.runtime.listening import Listeners
from hybrid.runtime.sampling import Sampler
from hybrid.runtime.stats import Meter, StepStats
from kernels.native import pool
from placement.machines.cpus import ThreadCpus

SHARE = 0.003  # of the time, for measuring; telling of every pass comes on top
MOST_PASSES = 512  # from one measured to the next
LATELY, FEWEST = 16, 4  # measured passes
MOST_OF_HOST_S = 50e-6  # of a pass, for measuring it: twice what was seen (docs/log.md)


class Intervals:
    """Every n-th pass, the first one first."""

    def __init__(self) -> None:
        self._left = 0

    def due(self) -> bool:
        self._left -= 1
        return self._left < 0

    def took(self, cost_s: float, pass_s: float) -> None:
        """Of the pass that was due; pass_s without the cost."""
        every = ceil(cost_s / (SHARE * pass_s)) if pass_s > 0 else MOST_PASSES
        self._left = min(max(every, 1), MOST_PASSES) - 1


class PassCost:
    """What measuring adds to a pass of one token on GPUs: the measured passes of late, each beside
    the one just before it.
    """

    def __init__(self) -> None:
        self._before_s: float | None = None
        self._longer_s: deque[float] = deque(maxlen=LATELY)

    def plain(self, pass_s: float) -> None:
        """Of a pass that was not measured."""
        self._before_s = pass_s

    def interrupted(self) -> None:
        """What comes next is not beside what was before."""
        self._before_s = None

    def of_host(self, pass_s: float, known_s: float) -> float:
        """Seconds of a measured pass that the host spent on measuring.

        known_s   of the devices' own, which it takes longer too

        0 where every pass is measured, and where it cannot be told from how passes wander: unless
        three of four took longer than their neighbour by more than is known.
        """
        before_s, self._before_s = self._before_s, None
        if before_s is not None:
            self._longer_s.append(pass_s - before_s)
        longer = sum(seconds > known_s for seconds in self._longer_s)
        if len(self._longer_s) < FEWEST or 4 * longer < 3 * len(self._longer_s):
            return 0.0
        return min(median(self._longer_s) - known_s, MOST_OF_HOST_S)


class Timing:
    """Of one engine.

    layers   of the model
    cpus     of the workers
    """

    def __init__(self, meter: Meter, layers: int, cpus: ThreadCpus) -> None:
        self.listeners = Listeners()
        self._meter = meter
        self._layers = layers
        self._nodes = [cpus.system_nodes[node] for node in cpus.nodes]
        self._intervals = {True: Intervals(), False: Intervals()}  # of prompts, of steps
        self._cost = PassCost()
        self._sampling_s = 0.0

    def choice(self, sampler: Sampler, row: torch.Tensor, best: tuple[int, float] | None) -> int:
        """What the sampler chooses; the time of it counts to the pass that reads the token."""
        began = perf_counter()
        token = sampler.sample(row, best)
        self._sampling_s = perf_counter() - began
        return token

    def begin(self, *, prompt: bool) -> None:
        """Before a pass."""
        meter = self._meter
        if meter.ledger is not None:  # of a pass that failed
            pool.clocks(False)
        if prompt:
            self._cost.interrupted()
        meter.reset()
        meter.counts = bool(self.listeners)
        if meter.counts and self._intervals[prompt].due():
            meter.ledger = Ledger(self._layers)
            pool.clocks(True)

    def end(self, stats: StepStats, *, prompt: bool) -> None:
        """After a pass that did not fail."""
        ledger, self._meter.ledger = self._meter.ledger, None
        sampling_s, self._sampling_s = self._sampling_s, 0.0
        self.listeners.passed(stats, prompt=prompt)
        if ledger is None:
            if not prompt:
                self._cost.plain(stats.seconds)
            return
        began = perf_counter()
        nodes = self._node_seconds()
        ledger.tell()
        if not prompt and ledger.cost_s > 0:
            ledger.host_measuring(self._cost.of_host(stats.seconds, ledger.cost_s))
        times = ledger.times(stats.seconds, 0.0 if prompt else sampling_s, nodes)
        if ledger.whole:
            self.listeners.timed(times)
        cost_s = perf_counter() - began + ledger.cost_s
        self._intervals[prompt].took(cost_s, stats.seconds - ledger.cost_s)

    def _node_seconds(self) -> dict[int, float]:
        """Node -> mean of its workers' seconds in experts; nothing where none was in any."""
        seconds = pool.experts_seconds(min(len(self._nodes), pool.threads()))
        pool.clocks(False)
        by_node: dict[int, list[float]] = {}
        for node, spent in zip(self._nodes, seconds, strict=False):
            by_node.setdefault(node, []).append(spent)
        found = {node: sum(spent) / len(spent) for node, spent in by_node.items()}
        return found if any(found.values()) else {}
