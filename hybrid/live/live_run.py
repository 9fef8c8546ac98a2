"""A run that may be looked at: measured while somebody watches, and only then.

    live = LiveRun(view, sources)      the plan is known
    live.loading(done, total)          while weights are read
    live.begin(engine, ...)            the engine is there
    with live.watch(): live.snapshot()     any thread, any number of watchers
    live.end()                         or end(error)

With nobody watching nothing is listened to and nothing is asked: the run pays nothing.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from hybrid.live.assembled import Readings, State, Totals, assembled
from hybrid.live.plan_view import PlanView
from hybrid.live.recorder import Recorder, Usage
from hybrid.live.snapshot import Phase, Progress, Snapshot


class Listened(Protocol):
    """What is asked of an engine."""

    @property
    def stats(self) -> Totals: ...

    def listen(self, listener: Recorder) -> None: ...

    def unlisten(self, listener: Recorder) -> None: ...


class SourcesOfRun(Protocol):
    """What is asked of `hybrid.live.run_sources.RunSources`."""

    @property
    def readings(self) -> Readings: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...


class LiveRun:
    """One model's run, from loading to its end."""

    def __init__(self, view: PlanView, sources: SourcesOfRun) -> None:
        self.view = view
        self._sources = sources
        self._notes: tuple[str, ...] = ()
        self._recorder = Recorder()
        self._engine: Callable[[], Listened | None] = _nobody  # held weakly: its memory is large
        self._totals: Totals | None = None
        self._loading: tuple[float, int, int] | None = None
        self._ended: State | None = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._watchers = 0

    @property
    def is_over(self) -> bool:
        return self._over.is_set()

    def replan(self, view: PlanView, sources: SourcesOfRun) -> None:
        """Another model or placement follows in the same process; whoever watches goes on."""
        with self._lock:
            self._listen(False)
            if self._watchers:
                self._sources.stop()
                sources.start()
            self.view, self._sources, self._notes = view, sources, ()
            self._recorder = Recorder()
            self._totals = self._loading = None

    def loading(self, done_bytes: int, total_bytes: int) -> None:
        """Weights read so far."""
        began = self._loading[0] if self._loading else monotonic()
        self._loading = (began, done_bytes, total_bytes)

    def begin(
        self,
        engine: Listened,
        notes: tuple[str, ...] = (),
        usage: Callable[[], Usage] | None = None,
    ) -> None:
        """The engine is loaded.

        notes   what the engine has to say: of threads and memory that came out otherwise
        usage   as `Recorder.counts` takes it; it does not hold the engine
        """
        with self._lock:
            self._notes = notes
            if usage is not None:
                self._recorder.counts(usage)
            self._engine, self._totals = weakref.ref(engine), engine.stats
            self._listen(self._watchers > 0)

    def end(self, error: str | None = None) -> None:
        """Nothing comes any more. Snapshots stay as they are."""
        with self._lock:
            phase = Phase.ENDED if error is None else Phase.FAILED
            self._ended = State(phase, None, error, self._notes)
            self._listen(False)
        self._over.set()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Measured inside."""
        with self._lock:
            self._watchers += 1
            if self._watchers == 1:
                self._sources.start()
                self._listen(not self.is_over)
        try:
            yield
        finally:
            with self._lock:
                self._watchers -= 1
                if self._watchers == 0:
                    self._sources.stop()
                    self._listen(False)

    def snapshot(self) -> Snapshot:
        """As of now; where nobody watches, of when somebody did."""
        totals = self._totals
        heard = self._recorder.heard(totals.computing if totals else None)
        return assembled(self.view, heard, totals, self._sources.readings, self._state())

    def follow(self, every_s: float = 0.25) -> Iterator[Snapshot]:
        """Snapshots as `client.attach` gives them, of this very process; the last one is of the
        end.
        """
        with self.watch():
            while not self.is_over:
                yield self.snapshot()
                self._over.wait(every_s)
            yield self.snapshot()

    def _state(self) -> State:
        if self._ended is not None:
            return self._ended
        if self._totals is not None:
            return State(notes=self._notes)
        return State(Phase.LOADING, self._load_progress(), notes=self._notes)

    def _listen(self, wanted: bool) -> None:
        engine = self._engine()
        if engine is not None:
            (engine.listen if wanted else engine.unlisten)(self._recorder)

    def _load_progress(self) -> Progress | None:
        if self._loading is None:
            return None
        began, done, total = self._loading
        passed_s = monotonic() - began
        rate = done / passed_s if passed_s > 0.0 and done else None
        eta_s = (total - done) / rate if rate else None
        return Progress("loading", "bytes", done, total, rate, eta_s)


def _nobody() -> None:
    """In place of a reference to an engine."""
