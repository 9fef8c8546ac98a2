"""Rows of `peer`: one token times many gate matrices, by ik_llama.cpp's library and by ours.

The peer runs in a process of its own (`tools/bench/peer_experts.py`) on a copy of the same blocks,
one format at a time and never while ours runs. Its row is the first, so that ours tells how many
times faster it is.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import torch

from kernels.blocks import BlockTensor
from kernels.dequantize import dequantize
from kernels.formats import BlockFormat
from kernels.testing import compare
from tools.bench.kernel_rows.matrices import linear_contender
from tools.bench.kernel_rows.measure import Contender, Group, Setup, Work
from tools.bench.kernel_rows.memory import RamMemory

SCRIPT = Path(__file__).parents[1] / "peer_experts.py"
ANSWER_S = 120
NAME = "ik_llama.cpp"


class Peer:
    """The other process, started once; asks are one line of JSON each way."""

    def __init__(self, python: str) -> None:
        try:
            self._process = subprocess.Popen(
                [python, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise SystemExit(f"error: --peer {python} cannot be run: {error.strerror}") from error
        self._folder = tempfile.TemporaryDirectory(prefix="hybrid-bench-")
        self.refused: set[str] = set()
        try:
            self.ask({})  # whether the library is there
        except SystemExit:
            self.close()
            raise

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Exits when the peer ends or is silent for two minutes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise SystemExit("error: the peer ended") from None
        with DefaultSelector() as selector:
            selector.register(self._process.stdout, EVENT_READ)
            if not selector.select(ANSWER_S):
                raise SystemExit(f"error: the peer said nothing for {ANSWER_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: the peer ended")
        answer = json.loads(line)
        if "fatal" in answer:
            raise SystemExit(f"error: the peer: {answer['fatal']}")
        return answer

    def path(self, name: str) -> Path:
        return Path(self._folder.name) / name

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def peer_groups(setup: Setup, peer: Peer) -> Iterator[Group]:
    for shape in setup.shapes.values():
        for block_format in setup.formats:
            rows, columns = shape.feed_forward, shape.width
            one = rows * block_format.row_bytes(columns)
            copies = -(-shape.ram_bytes // one)
            make = partial(_contenders, setup, peer, block_format, (copies, rows, columns))
            yield Group("peer", block_format.name, f"{rows}x{columns}", copies * one + 64, make)


def _contenders(
    setup: Setup,
    peer: Peer,
    block_format: BlockFormat,
    size: tuple[int, int, int],
    memory: RamMemory,
) -> Iterator[Contender]:
    if block_format.name in peer.refused:
        return
    copies, rows, columns = size
    pattern = memory.blocks(block_format, (rows, columns))
    memory.empty()
    every = memory.raw(copies * pattern.nbytes).view(copies, rows, -1)
    every[1:] = every[0].clone()
    theirs = Theirs(setup, peer, BlockTensor(every[0], block_format, columns), copies)
    if theirs.refusal:
        peer.refused.add(block_format.name)
        print(f"skipped: the peer has no {block_format.name} ({theirs.refusal})", file=sys.stderr)
        return
    yield theirs.contender()
    stacked = BlockTensor(every.view(1, copies * rows, -1), block_format, columns)
    for tier in setup.tiers:
        yield linear_contender(setup, stacked, 1, tier, "rounded")


class Theirs:
    """The peer's pass over `copies` matrices like `weight`."""

    def __init__(self, setup: Setup, peer: Peer, weight: BlockTensor, copies: int) -> None:
        self._setup, self._peer, self._weight, self._copies = setup, peer, weight, copies
        self._x = torch.randn(1, weight.columns, generator=torch.Generator().manual_seed(1))
        peer.path("blocks").write_bytes(weight.blocks.numpy().tobytes())
        peer.path("x").write_bytes(self._x.numpy().tobytes())
        self._first = self._ask(0.0)
        self.refusal = self._first.get("error")

    def contender(self) -> Contender:
        nbytes = self._copies * self._weight.nbytes
        macs = nbytes // self._weight.format.block_bytes * self._weight.format.block_weights
        work = Work(NAME, "rounded", 1, self._setup.threads, nbytes, macs)
        return Contender(work, self._seconds, self._error)

    def _seconds(self, seconds: float) -> float:
        return float(self._ask(seconds)["seconds"])

    def _error(self) -> float:
        y = torch.frombuffer(bytearray(self._peer.path("y").read_bytes()), dtype=torch.float32)
        expected = self._x.double() @ dequantize(self._weight).double().T
        return compare(y, expected[0]).relative_error

    def _ask(self, seconds: float) -> dict[str, Any]:
        rows, columns = self._weight.shape
        return self._peer.ask(
            {
                "format": self._weight.format.ggml_id,
                "rows": rows,
                "columns": columns,
                "copies": self._copies,
                "cpus": list(self._setup.cpus),
                "seconds": seconds,
                **{name: str(self._peer.path(name)) for name in ("blocks", "x", "y")},
            }
        )
