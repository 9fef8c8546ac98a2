"""Decoding by `hybrid` and by ik_llama.cpp in turn, both loaded at once: on a shared machine the
RAM's speed wanders from minute to minute, and a ratio of neighbouring seconds does so less.

    python -m tools.bench.in_turn MODEL --peer PYTHON [--rounds 16] [--tokens 20] [--threads 2]

PYTHON is an interpreter that has the wheel ik-llama-cpp-python. The model has to fit into RAM
twice.

Both answer the same questions: a number of tokens on stdin, decoded behind a prompt of 128, and
tokens per second on stdout. What they say before `ready` is not an answer.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hybrid
from tools.bench.flags import positive
from tools.bench.table import Cell, show

PROMPT_TOKENS = 128
CONTEXT = 1024
LARGEST_ID = 100_000  # of a vocabulary of 102 400
COLUMNS = ("round", "ours tok/s", "peer tok/s", "ratio")


class Decoder:
    """One side: a process that decodes when it is told to."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            while self._line() != "ready":
                pass
        except SystemExit:
            self.close()
            raise

    def tok_s(self, tokens: int) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{tokens}\n")
        self._process.stdin.flush()
        return float(self._line())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()  # closes the pipes

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {' '.join(self.command)} ended; what it said stands above")
        return line.strip()


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    if arguments.peer is None:
        answer(arguments.model, arguments.threads)
        return
    told = [arguments.model, "--threads", str(arguments.threads)]
    ours = Decoder([sys.executable, "-m", "tools.bench.in_turn", *told])
    try:
        peer = Decoder([arguments.peer, str(Path(__file__).with_name("peer_decode.py")), *told])
        try:
            rows = rounds(ours, peer, arguments.rounds, arguments.tokens)
        finally:
            peer.close()
    finally:
        ours.close()
    show(f"decoding in turn, {Path(arguments.model).name}", COLUMNS, rows)


def rounds(ours: Decoder, peer: Decoder, count: int, tokens: int) -> list[list[Cell]]:
    """A row a round, and the medians."""
    found = [(ours.tok_s(tokens), peer.tok_s(tokens)) for _ in range(count)]
    rows: list[list[Cell]] = [[i + 1, a, b, a / b] for i, (a, b) in enumerate(found)]
    columns = ([a for a, _ in found], [b for _, b in found], [a / b for a, b in found])
    return [*rows, ["median", *map(statistics.median, columns)]]


def answer(model: str, threads: int) -> None:
    """Our side."""
    engine = hybrid.load(model, context=CONTEXT, threads=threads, devices="none")
    draw = random.Random(1)
    engine.fill([draw.randrange(10, LARGEST_ID) for _ in range(PROMPT_TOKENS)])
    print("ready", flush=True)
    for line in sys.stdin:
        tokens = int(line)
        engine.truncate(PROMPT_TOKENS)
        begin = time.perf_counter()
        for _ in range(tokens):
            engine.fill([draw.randrange(10, LARGEST_ID)])
        print(tokens / (time.perf_counter() - begin), flush=True)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--peer", metavar="PYTHON", help="without it: be the side that answers")
    parser.add_argument("--rounds", type=positive, default=16)
    parser.add_argument("--tokens", type=positive, default=20, help="of each side in a round")
    parser.add_argument("--threads", type=positive, default=2)
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
