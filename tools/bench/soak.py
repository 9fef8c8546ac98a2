"""A long run under its live view, with `hybrid top` beside it: does anything grow, does it slow?

    python -m tools.bench.soak [--minutes 30] [-- WORDS OF hybrid]

The words are those of run or bench, and have to last that long; `--tui` and `--stats-json` are
added. Without words the demo decodes 8192 tokens again and again on one core of the CPU.

Both are on terminals of their own, and what they draw is read. Once a second the kernel is asked
for their memory, threads and open files; tokens a second and VRAM are the run's own figures. A
table compares medians of the first and the last quarter, behind a tenth for warming up.

Ends with 1 where memory has grown by more than GROWTH and GROWTH_MIB, threads or files by one,
where either program ended early, and where the run did not end as Ctrl-C ends it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

import psutil

from tools.bench.table import Cell, show
from tools.pseudo_terminal import NORMAL, PseudoTerminal, TooLate

DEMO = ("bench", "-m", "demo", "--device", "none", "-t", "1", "-p", "0", "-n", "8192", "-r", "1000")
SIZE = (120, 40)
EVERY_S, SLICE_S = 1.0, 0.02
LOADED_WITHIN_S = 3600.0
WARM_UP, QUARTER = 0.1, 0.25  # of the samples
GROWTH, GROWTH_MIB = 0.01, 1.0  # of memory, both: noise of an allocator
MIB = 1 << 20
INTERRUPTED = 130
KEPT_TEXT = 1 << 16  # characters of a screen
MEMORY = "resident MiB, the run", "resident MiB, top", "VRAM MiB"
COUNTED = "threads, the run", "open files, the run", "threads, top", "open files, top"
COLUMNS = ("figure", "first quarter", "last quarter", "change, %", "least", "most")
FEWEST = 12  # samples, of which quarters say something

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure over time.

    grown   more than it may
    """

    name: str
    values: Sequence[float]

    @property
    def quarters(self) -> tuple[float, float]:
        warm = self.values[round(WARM_UP * len(self.values)) :]
        count = max(round(QUARTER * len(warm)), 1)
        return median(warm[:count]), median(warm[-count:])

    @property
    def grown(self) -> bool:
        first, last = self.quarters
        if self.name in MEMORY:
            return last > first + max(GROWTH * first, GROWTH_MIB)
        return self.name in COUNTED and last > first

    def row(self) -> list[Cell]:
        first, last = self.quarters
        change = 100 * (last / first - 1) if first else 0.0
        return [self.name, first, last, change, min(self.values), max(self.values)]


@dataclass(slots=True)
class Soaked:
    """samples   what the kernel said, each second
    seconds   that they took
    told      what the run said of itself while it decoded
    why       it ended otherwise than it should, if it did
    """

    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0
    told: list[Sample] = field(default_factory=list)
    why: str = ""


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("words", nargs="*", help="of hybrid; without: the demo, decoding")
    args = parser.parse_args(sys.argv[1:] if words is None else words)
    if not FEWEST * EVERY_S <= 60 * args.minutes < float("inf"):
        raise SystemExit(f"error: --minutes is to be {FEWEST * EVERY_S / 60:g} or more")
    report(soak(args.words or DEMO, 60 * args.minutes))


def report(found: Soaked) -> None:
    """The table. Raises SystemExit with what is wrong."""
    if len(found.samples) < FEWEST:
        raise SystemExit(f"error: {found.why or 'too short to say anything'}")
    trends = [*trends_of(found.samples), *trends_of(found.told)]
    show(f"soak of {found.seconds / 60:.1f} min", COLUMNS, [each.row() for each in trends])
    grown = ", ".join(each.name for each in trends if each.grown)
    if why := found.why or (grown and f"has grown: {grown}"):
        raise SystemExit(f"error: {why}")


def soak(words: Sequence[str], seconds: float) -> Soaked:
    """The run with these words, and top beside it."""
    found = Soaked()
    with TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        with program(*words, "--tui", "--stats-json", str(stats)) as run:
            found.why = _both(run, seconds, found)
        found.told = told_by(stats)
    return found


def _both(run: PseudoTerminal, seconds: float, found: Soaked) -> str:
    """Watches into `found`; why it cannot go on."""
    if why := not_drawn("the run", run):
        return why
    with program("top", str(run.program.pid)) as top:
        why = (
            not_drawn("top", top)
            or watched(run, top, seconds, found)
            or not_left("top", top, "q", 0)
        )
    return why or not_left("the run", run, "\x03", INTERRUPTED)


def not_drawn(name: str, terminal: PseudoTerminal) -> str:
    """Why no screen with a speed has come; nothing where it has."""

    def is_there() -> bool:
        drawn = "tok/s" in terminal.text
        terminal.text = terminal.text[-KEPT_TEXT:]
        return drawn or terminal.program.poll() is not None

    try:
        terminal.read_till(is_there, LOADED_WITHIN_S)
    except TooLate as error:
        return f"{name}: {error}"
    terminal.read(SLICE_S)
    return ended_early(name, terminal)


def ended_early(name: str, terminal: PseudoTerminal) -> str:
    code = terminal.program.poll()
    said = terminal.text.rpartition(NORMAL)[2].strip()[-1000:]
    return "" if code is None else f"{name} ended with {code}: {said}"


def not_left(name: str, terminal: PseudoTerminal, key: str, wanted: int) -> str:
    """How else it ended after this key, or that it did not."""
    terminal.type(key)
    try:
        code = terminal.ended()
    except TooLate as error:
        return f"{name}: {error}"
    return "" if code == wanted else f"{name} ended with {code}, not {wanted}"


def watched(run: PseudoTerminal, top: PseudoTerminal, seconds: float, found: Soaked) -> str:
    """Into `found` while both run; why not, if they do not for so long."""
    both = {"the run": run, "top": top}
    began = monotonic()
    while found.seconds < seconds:
        drawn = dict.fromkeys(both, 0)
        until = began + found.seconds + EVERY_S
        while monotonic() < until:  # in turn, or the one that is not read would wait for that
            for name, terminal in both.items():
                drawn[name] += len(terminal.read(SLICE_S))
        sample: Sample = {}
        for name, terminal in both.items():
            if why := ended_early(name, terminal):
                return why
            terminal.text = terminal.text[-KEPT_TEXT:]
            process = psutil.Process(terminal.program.pid)
            sample[f"resident MiB, {name}"] = process.memory_info().rss / MIB
            sample[f"threads, {name}"] = process.num_threads()
            sample[f"open files, {name}"] = process.num_fds()
            sample[f"characters drawn, {name}"] = drawn[name]
        found.samples.append(sample)
        found.seconds = monotonic() - began
    return ""


def told_by(stats: Path) -> list[Sample]:
    """What the run said of itself while it decoded, a sample a line."""
    lines = map(json.loads, stats.read_text().splitlines()) if stats.is_file() else ()
    found = []
    for shot in lines:
        rate = shot["rates"]["decode_now_tok_s"]
        if shot["phase"] != "decode" or rate is None:
            continue
        gpus = [each["memory"]["actual_bytes"] for each in shot["devices"] if each["kind"] == "gpu"]
        sample = {"tok/s": rate}
        if gpus and None not in gpus:
            sample["VRAM MiB"] = sum(gpus) / MIB
        found.append(sample)
    return found


def trends_of(samples: Sequence[Sample]) -> list[Trend]:
    names = samples[0] if samples else ()
    return [Trend(name, [each[name] for each in samples if name in each]) for name in names]


@contextmanager
def program(*words: str) -> Iterator[PseudoTerminal]:
    """`hybrid` on a terminal of its own."""
    command = (sys.executable, "-X", "faulthandler", "-m", "hybrid", *words)
    with PseudoTerminal(*command, size=SIZE) as terminal:
        yield terminal


if __name__ == "__main__":
    main()
