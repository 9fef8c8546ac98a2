"""All sources of one run: threads that read them, and the last readings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hybrid.live.assembled import Readings
from hybrid.live.plan_view import PlanView
from hybrid.live.sources.host import HostSource, load_psutil
from hybrid.live.sources.nvml import NvmlGpus, load_nvml
from hybrid.live.sources.readings import GpuReading
from hybrid.live.sources.ticker import Ticker

EVERY_S = 1.0

# Bytes by device, and by NUMA node: of what a process holds. Nothing where nobody tells.
Held = Callable[[], Mapping[str, int]]
OursByNode = Callable[[], Mapping[int, int]]


class RunSources:
    """NVML has a thread of its own: a driver takes its time, and may hang.

    actual   set when there is an engine; likewise `ours`, each of which is asked once
    """

    def __init__(self, view: PlanView, cpus: tuple[int, ...], nvml: Any | None = None) -> None:
        self.actual: Held | None = None
        self.ours: OursByNode | None = None
        self._asked: OursByNode | None = None
        self._view, self._cpus, self._nvml = view, cpus, nvml
        self._tickers: list[Ticker] = []
        self._close: Callable[[], None] | None = None
        # Each is replaced whole by one thread, so that any other may take it.
        self._of_host = Readings()
        self._of_gpus: Mapping[str, GpuReading] = {}

    @property
    def readings(self) -> Readings:
        """The last ones."""
        return replace(self._of_host, gpus=self._of_gpus)

    def start(self) -> None:
        """Returns at once."""
        host = HostSource(self._view.node_cpus, self._cpus, load_psutil())
        self._tickers = [Ticker("hybrid host", EVERY_S, lambda: self._read_host(host))]
        if self._view.uuids:
            self._tickers.append(Ticker("hybrid NVML", EVERY_S, self._gpu_reader()))

    def stop(self) -> None:
        for ticker in self._tickers:
            ticker.stop()
        self._tickers = []
        if self._close is not None:
            self._close()
            self._close = None

    def _read_host(self, source: HostSource) -> None:
        before = self._of_host
        actual = dict(self.actual()) if self.actual else {}
        peak = {name: max(nbytes, before.peak.get(name, 0)) for name, nbytes in actual.items()}
        ask = self.ours
        ours = ask() if ask is not None and ask is not self._asked else before.ours
        self._asked = ask
        self._of_host = Readings(
            source.read(), actual=actual, peak={**before.peak, **peak}, ours=ours
        )

    def _gpu_reader(self) -> Callable[[], None]:
        """NVML is opened by the first call, on its own thread: that takes a second at times."""
        opened: list[NvmlGpus] = []

        def read() -> None:
            if not opened:
                opened.append(NvmlGpus(self._nvml or load_nvml(), self._view.uuids))
                self._close = opened[0].close
            self._of_gpus = opened[0].read()

        return read
