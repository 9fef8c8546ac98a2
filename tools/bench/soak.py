"""A long run under its live view, with `hybrid top` beside it: does anything grow, does it slow?

    python -m tools.bench.soak [--minutes 30] [-- WORDS OF hybrid]

The words are those of run, chat or bench and have to last that long; `--tui` and `--stats-json` are
added. Without words the demo decodes 4096 tokens again and again on one core of the CPU.

Both are on terminals of their own, and what they draw is read. Once a second the kernel is asked
for their memory, threads and open files; tokens a second and VRAM are the run's own figures. A
table compares medians of the first and the last quarter, behind a tenth for warming up.

Ends with 1 where memory has grown by more than GROWTH, threads or files by one, where either
program ended early, and where the run did not end as Ctrl-C ends it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

import psutil

from tools.bench.table import Cell, show
from tools.pseudo_terminal import NORMAL, PseudoTerminal

DEMO = ("bench", "-m", "demo", "--device", "none", "-t", "1", "-p", "0", "-n", "4096", "-r", "1000")
SIZE = (120, 40)
EVERY_S, SLICE_S = 1.0, 0.02
WARM_UP, QUARTER = 0.1, 0.25  # of the samples
GROWTH = 0.01  # of memory; noise of an allocator
MIB = 1 << 20
INTERRUPTED = 130
KEPT_TEXT = 1 << 16  # characters of a screen
MEMORY = "resident MiB, the run", "resident MiB, top", "VRAM MiB"
COUNTED = "threads, the run", "open files, the run", "threads, top", "open files, top"
COLUMNS = ("figure", "first quarter", "last quarter", "change, %", "least", "most")
FEWEST = 12  # samples, of which quarters say something

Sample = dict[str, float]


@dataclass(frozen=True, slots=True)
class Found:
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
            return last > (1 + GROWTH) * first
        return self.name in COUNTED and last > first

    def row(self) -> list[Cell]:
        first, last = self.quarters
        change = 100 * (last / first - 1) if first else 0.0
        return [self.name, first, last, change, min(self.values), max(self.values)]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("words", nargs="*", help="of hybrid; without: the demo, decoding")
    args = parser.parse_args(sys.argv[1:] if words is None else words)
    with TemporaryDirectory() as folder:
        stats = Path(folder) / "stats.json"
        samples, why = soak(args.words or DEMO, 60 * args.minutes, stats)
        told = told_by(stats)
    if len(samples) < FEWEST:
        raise SystemExit(f"error: {why or 'too short to say anything'}")
    found = [*figures(samples), *figures(told)]
    show(f"soak of {len(samples) * EVERY_S / 60:.1f} min", COLUMNS, [each.row() for each in found])
    grown = [each.name for each in found if each.grown]
    if grown:
        why = why or f"has grown: {', '.join(grown)}"
    if why:
        raise SystemExit(f"error: {why}")


def soak(words: Sequence[str], seconds: float, stats: Path) -> tuple[list[Sample], str]:
    """What the kernel said, each second, and what went wrong, if anything."""
    live = ("--tui", "--stats-json", str(stats))
    with program(*words, *live) as run:
        if why := not_drawn("the run", run):
            return [], why
        with program("top", str(run.program.pid)) as top:
            if why := not_drawn("top", top):
                return [], why
            samples, why = watched(run, top, seconds)
            if why:
                return samples, why
            why = not_left("top", top, "q", 0)
        return samples, why or not_left("the run", run, "\x03", INTERRUPTED)


def not_left(name: str, terminal: PseudoTerminal, key: str, wanted: int) -> str:
    """How else it ended after this key, or that it did not."""
    terminal.type(key)
    try:
        code = terminal.ended()
    except AssertionError as error:
        return f"{name}: {error}"
    return "" if code == wanted else f"{name} ended with {code}, not {wanted}"


def not_drawn(name: str, terminal: PseudoTerminal) -> str:
    """Why no screen with a speed has come; nothing where it has."""
    terminal.read_till(lambda: "tok/s" in terminal.text or terminal.program.poll() is not None)
    terminal.read(SLICE_S)
    return ended_early(name, terminal)


def ended_early(name: str, terminal: PseudoTerminal) -> str:
    code = terminal.program.poll()
    said = terminal.text.rpartition(NORMAL)[2].strip()[-1000:]
    return "" if code is None else f"{name} ended with {code}: {said}"


def watched(run: PseudoTerminal, top: PseudoTerminal, seconds: float) -> tuple[list[Sample], str]:
    """While both run; why not, if they do not for so long."""
    both = {"the run": run, "top": top}
    samples: list[Sample] = []
    end = monotonic() + seconds
    while monotonic() < end:
        drawn = dict.fromkeys(both, 0)
        until = monotonic() + EVERY_S
        while monotonic() < until:  # in turn, or the one that is not read would wait for that
            for name, terminal in both.items():
                drawn[name] += len(terminal.read(SLICE_S))
        sample: Sample = {}
        for name, terminal in both.items():
            if why := ended_early(name, terminal):
                return samples, why
            terminal.text = terminal.text[-KEPT_TEXT:]
            process = psutil.Process(terminal.program.pid)
            sample[f"resident MiB, {name}"] = process.memory_info().rss / MIB
            sample[f"threads, {name}"] = process.num_threads()
            sample[f"open files, {name}"] = process.num_fds()
            sample[f"characters drawn, {name}"] = drawn[name]
        samples.append(sample)
    return samples, ""


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


def figures(samples: Sequence[Sample]) -> list[Found]:
    names = samples[0] if samples else ()
    return [Found(name, [each[name] for each in samples if name in each]) for name in names]


@contextmanager
def program(*words: str) -> Iterator[PseudoTerminal]:
    """`hybrid` on a terminal of its own."""
    command = (sys.executable, "-X", "faulthandler", "-m", "hybrid", *words)
    with PseudoTerminal(*command, size=SIZE) as terminal:
        yield terminal


if __name__ == "__main__":
    main()
