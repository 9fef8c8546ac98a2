"""What listening costs: decoding with a listener and without, in turn.

    python -m tools.bench.listening MODEL [-n 256] [-r 5] [--cpu-time]
                                    [flags as `hybrid bench`: -ot, -ngl, -c]

One engine, greedy tokens behind a short prompt. A round is one generation in which SEGMENT tokens
with a listener follow as many without, so that what else the machine does falls on both. The
listener keeps what it hears last: the cost is the engine's.

--cpu-time counts the generating thread's own CPU time: for -t 1 on a machine whose CPUs are shared.

rate     ratio of tokens a second in a round, and its median over rounds
tokens   of single tokens' times: the median without a listener against those with one, of measured
         and other passes, each by its share of them
"""

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, median
from time import perf_counter, thread_time

from hybrid.cli.loading import load_engine
from hybrid.cli.output import error_block, say
from hybrid.cli.parser import Parser, add_model, whole
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.errors import HybridError
from hybrid.runtime.engine import Engine
from hybrid.runtime.stats import StepStats
from hybrid.runtime.step_times import StepTimes
from hybrid.runtime.token import Token
from tools.bench.table import Cell, show

PROMPT = 16
SEGMENT = 8  # tokens
COLUMNS = ("round", "tok/s without", "tok/s with", "with / without", "passes measured")


class Ear:
    """Keeps the last of everything.

    measured   passes whose parts it heard
    """

    def __init__(self) -> None:
        self.measured = 0
        self.tokens: list[int] = []
        self.last: object = None

    def on_pass(self, stats: StepStats, *, prompt: bool) -> None:
        self.last = (stats, prompt)

    def on_prompt(self, done: int, total: int) -> None:
        self.last = (done, total)

    def on_token(self, token: Token) -> None:
        self.tokens.append(token.id)

    def on_times(self, times: StepTimes) -> None:
        self.measured += 1
        self.last = times


def main() -> None:
    try:
        _main(sys.argv[1:])
    except HybridError as error:
        error_block(error)
        raise SystemExit(error.exit_code) from error


def _main(words: Sequence[str]) -> None:
    parser = Parser("bench", (__doc__ or "").splitlines()[0])
    parser.prog = "python -m tools.bench.listening"
    add_model(parser)
    parser.add_argument("-n", "--n-gen", type=whole(1), default=256, metavar="N", help="tokens")
    parser.add_argument("-r", "--repetitions", type=whole(1), default=5, metavar="N", help="rounds")
    parser.add_argument("--cpu-time", action="store_true", help="of the generating thread")
    add_placement_flags(parser)
    parser.set_defaults(visible=None, profiles=None)
    args = parser.read(words)
    if args.ctx_size is None and args.plan is None:
        args.ctx_size = PROMPT + 1 + args.n_gen
    engine = load_engine(args)
    draw = random.Random("listening")
    ids = draw.choices(range(engine.prepared.config.vocabulary), k=PROMPT)
    run = Run(engine, ids, args.n_gen, thread_time if args.cpu_time else perf_counter)
    one_round(run, 0)  # warm
    rounds = [one_round(run, number) for number in range(args.repetitions)]
    rows = [each.row(number + 1) for number, each in enumerate(rounds)]
    say(f"rate: listening takes {100 * (1 / median(each.ratio for each in rounds) - 1):.2f} %")
    say(f"tokens: listening takes {100 * share_of(rounds):.2f} %")
    show("decoding with a listener and without", COLUMNS, rows)


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds of each token without a listener; with one, of those whose pass was measured, and of
    the others.
    """

    without: list[float]
    measured: list[float]
    other: list[float]

    @property
    def ratio(self) -> float:
        heard = [*self.measured, *self.other]
        return mean(self.without) / mean(heard)

    def row(self, number: int) -> list[Cell]:
        heard = [*self.measured, *self.other]
        return [number, 1 / mean(self.without), 1 / mean(heard), self.ratio, len(self.measured)]


def share_of(rounds: Sequence[Round]) -> float:
    """What listening adds to a token, of a token without."""
    measured = [spent for each in rounds for spent in each.measured]
    other = [spent for each in rounds for spent in each.other]
    sums = sum(len(found) * median(found) for found in (measured, other) if found)
    plain = median([spent for each in rounds for spent in each.without])
    return sums / (len(measured) + len(other)) / plain - 1


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens after a prompt, by this clock."""

    engine: Engine
    ids: Sequence[int]
    tokens: int
    clock: Callable[[], float]


def one_round(run: Run, number: int) -> Round:
    """All tokens but the first, which reads the prompt; whose segment is first goes by number."""
    ear, found, engine, clock = Ear(), Round([], [], []), run.engine, run.clock
    engine.forget()
    stream = engine.generate(run.ids, max_tokens=run.tokens + 1, temperature=0, ignore_stop=True)
    next(stream)
    for token in range(run.tokens):
        listened = (token // SEGMENT + number) % 2 == 1
        if listened:
            engine.listen(ear)
        before, began = ear.measured, clock()
        next(stream)
        spent = clock() - began
        engine.unlisten(ear)
        kept = found.other if ear.measured == before else found.measured
        (kept if listened else found.without).append(spent)
    return found


if __name__ == "__main__":
    main()
