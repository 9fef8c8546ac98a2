"""What being looked at costs: decoding with nobody there, with a listener, with a live view.

    python -m tools.bench.listening MODEL [-n 256] [-r 5] [--cpu-time]
                                    [flags as `hybrid bench`: -ot, -ngl, -c]

nothing      nobody listens: what the machine's noise is
a listener   which keeps what it hears last: the engine's own cost
the view     all that `hybrid top` causes in the run: recorder, sources, 4 snapshots a second over
             the socket, to another process that reads them and draws no screen

One engine, greedy tokens behind a short prompt. A round is one generation each way: SEGMENT tokens
that are listened to follow as many that are not, so that what else the machine does falls on both.

rate            what it adds to the time of a round, in per cent, median over rounds
tokens          medians of single tokens' times, of measured passes and others by their share
other threads   CPU time of all but the generating thread, of that thread's, beyond what `nothing`
                has: with -t 1 what making and sending snapshots takes. Where those threads hold
                Python's lock the generating one waits, at most for so long

--cpu-time counts the generating thread's own CPU time: for -t 1 on a machine whose CPUs are shared.
"""

import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter, process_time, sleep, thread_time

from hybrid.cli.live_flags import LiveView
from hybrid.cli.loading import load_engine
from hybrid.cli.parser import whole
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.runtime.engine import Engine
from hybrid.runtime.listening import Listener
from hybrid.runtime.stats import StepStats
from hybrid.runtime.step_times import StepTimes
from hybrid.runtime.token import Token
from tools.bench.engine_bench import engine_parser, told_errors
from tools.bench.table import Cell, show

PROMPT = 16
SEGMENT = 8  # tokens
WAYS = NOTHING, LISTENER, VIEW = ("nothing", "a listener", "the view")
COLUMNS = (
    *("way", "tok/s without", "rate, %", "least", "most", "tokens, %"),
    *("other threads, %", "passes measured", "snapshots"),
)
PATIENCE_S = 30.0


class Ear:
    """Keeps the last of everything."""

    last: object = None

    def on_pass(self, stats: StepStats, *, prompt: bool) -> None:
        self.last = (stats, prompt)

    def on_prompt(self, done: int, total: int) -> None:
        self.last = (done, total)

    def on_token(self, token: Token) -> None:
        self.last = token

    def on_times(self, times: StepTimes) -> None:
        self.last = times


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens after a prompt, by this clock.

    folder   of the socket
    times    one for each pass whose parts somebody heard
    """

    engine: Engine
    ids: Sequence[int]
    tokens: int
    clock: Callable[[], float]
    folder: Path
    times: list[StepTimes]


def times_of(engine: Engine) -> list[StepTimes]:
    """Filled as they are told, whoever listens."""
    found: list[StepTimes] = []
    tell = engine._listeners.timed

    def timed(times: StepTimes) -> None:
        found.append(times)
        tell(times)

    engine._listeners.timed = timed  # type: ignore[method-assign]
    return found


@dataclass(slots=True)
class Round:
    """Seconds of each token not listened to; of those listened to whose pass was measured, and of
    the others. own_s, others_s: CPU time of the generating thread and of all others.
    """

    without: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)
    other: list[float] = field(default_factory=list)
    own_s: float = 0.0
    others_s: float = 0.0
    snapshots: int = 0

    @property
    def rate_percent(self) -> float:
        return 100 * (mean([*self.measured, *self.other]) / mean(self.without) - 1)


def tokens_percent(rounds: Sequence[Round]) -> float:
    """What being listened to adds to a token, of a token without."""
    measured = [spent for each in rounds for spent in each.measured]
    other = [spent for each in rounds for spent in each.other]
    sums = sum(len(found) * median(found) for found in (measured, other) if found)
    plain = median([spent for each in rounds for spent in each.without])
    return 100 * (sums / (len(measured) + len(other)) / plain - 1)


def others_percent(rounds: Sequence[Round], nobody: Sequence[Round]) -> float:
    """CPU time of other threads, beyond what they take with nobody there."""
    with_, without = (
        sum(each.others_s for each in found) / sum(each.own_s for each in found)
        for found in (rounds, nobody)
    )
    return 100 * (with_ - without)


def row(way: str, rounds: Sequence[Round], nobody: Sequence[Round]) -> list[Cell]:
    rates = [each.rate_percent for each in rounds]
    plain = mean([spent for each in rounds for spent in each.without])
    return [
        *(way, 1 / plain, median(rates), min(rates), max(rates), tokens_percent(rounds)),
        others_percent(rounds, nobody),
        sum(len(each.measured) for each in rounds),
        sum(each.snapshots for each in rounds),
    ]


def main(words: Sequence[str] | None = None) -> None:
    parser = engine_parser("listening", __doc__)
    parser.add_argument("-n", "--n-gen", type=whole(1), default=256, metavar="N", help="tokens")
    parser.add_argument("-r", "--repetitions", type=whole(1), default=5, metavar="N", help="rounds")
    parser.add_argument("--cpu-time", action="store_true", help="of the generating thread")
    add_placement_flags(parser)
    args = parser.read(sys.argv[1:] if words is None else words)
    if args.ctx_size is None and args.plan is None:
        args.ctx_size = PROMPT + 1 + args.n_gen
    with TemporaryDirectory() as room:
        folder = Path(room) / "hybrid"
        with closing(LiveView("bench", (folder,))) as live:
            engine = load_engine(args, live=live)
            draw = random.Random("listening")
            ids = draw.choices(range(engine.prepared.config.vocabulary), k=PROMPT)
            clock = thread_time if args.cpu_time else perf_counter
            run = Run(engine, ids, args.n_gen, clock, folder, times_of(engine))
            one_round(run, 0, NOTHING)  # warm
            rounds = [
                {way: one_round(run, number, way) for way in WAYS}
                for number in range(args.repetitions)
            ]
    found = {way: [each[way] for each in rounds] for way in WAYS}
    rows = [row(way, found[way], found[NOTHING]) for way in WAYS]
    show("decoding while nobody, a listener and a live view are there", COLUMNS, rows)


def one_round(run: Run, number: int, way: str) -> Round:
    """All tokens but the first, which reads the prompt; whose segment is first goes by number."""
    engine, found = run.engine, Round()
    engine.forget()
    stream = engine.generate(run.ids, max_tokens=run.tokens + 1, temperature=0, ignore_stop=True)
    with watched(run) if way == VIEW else nullcontext([]) as seen:
        [listener] = engine._listeners._heard if way == VIEW else [Ear()]
        next(stream)
        own_s, all_s, before = thread_time(), process_time(), len(seen)
        for token in range(run.tokens):
            listened = (token // SEGMENT + number) % 2 == 1
            _one_token(run, stream, found, None if way == NOTHING else listener, listened)
        found.own_s = thread_time() - own_s
        found.others_s = process_time() - all_s - found.own_s
        found.snapshots = len(seen) - before
        if way == VIEW:
            engine.listen(listener)  # its server takes it away
    return found


def _one_token(
    run: Run, stream: Iterator[Token], found: Round, listener: Listener | None, listened: bool
) -> None:
    engine = run.engine
    if listener is not None:
        (engine.listen if listened else engine.unlisten)(listener)
    before = len(run.times)
    began = run.clock()
    next(stream)
    spent = run.clock() - began
    if listener is not None:
        engine.unlisten(listener)
    kept = found.measured if len(run.times) > before else found.other
    (kept if listened else found.without).append(spent)


@contextmanager
def watched(run: Run) -> Iterator[list[str]]:
    """A line for each snapshot that another process has taken; inside, it takes them."""
    words = [sys.executable, "-m", "tools.bench.watcher", str(run.folder)]
    listeners = run.engine._listeners
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        seen: list[str] = []
        reader = threading.Thread(target=seen.extend, args=(watcher.stdout,))
        reader.start()
        try:
            _until(lambda: bool(seen))
            yield seen
        finally:
            watcher.terminate()
            watcher.wait()
            reader.join()
    _until(lambda: not listeners)


def _until(came: Callable[[], bool]) -> None:
    end = monotonic() + PATIENCE_S
    while not came():
        if monotonic() > end:
            raise SystemExit("the watcher did not come or go")
        sleep(0.01)


if __name__ == "__main__":
    with told_errors():
        main()
