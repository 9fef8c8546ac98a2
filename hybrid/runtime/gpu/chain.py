"""Blocks that follow one another on one GPU: one graph each for steps of 1, 2, 4 and 8 tokens.

    host    writes h, positions, lengths │ replay │ serve: answer layer after layer │ wait
    GPU             begin, block, block ...  (publish ··· receive)  ... head, argmax

A step of 3 tokens is one of 4 whose last token is there twice: it writes the same cache row with
the same values. Between two replays the host touches nothing of the graph: lengths are device
memory, and crossings are counted on both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from torch import Tensor

from hybrid.models.parts import Step
from hybrid.runtime.crossing import Place
from hybrid.runtime.gpu.replay import Replay
from hybrid.runtime.gpu.stamps import Ran, StampedStep, Stamps
from hybrid.runtime.gpu.step import MOST_TOKENS, HeadStep
from hybrid.runtime.ledger import Ledger
from hybrid.runtime.stats import Meter
from kernels.errors import GpuSilent
from kernels.mailbox import Mailbox
from kernels.mailbox.serve import Service
from kernels.native import pool
from kernels.step import StepInput
from placement.machines.machine import CPU

FLOAT_BYTES = 4
GIVEN_UP_S = 5.0  # for the rest of a step that waits for nobody any more
WORKER_LIMIT_S = 10.0  # a worker that keeps the others waiting so long within a step is dead
SIZES = (1, 2, 4, MOST_TOKENS)


@dataclass(frozen=True, slots=True)
class SizedStep:
    """The launches of a step of one size.

    source   pinned host memory that the first launch reads
    target   what it becomes on the GPU; its hidden is the residual stream, and the result
    head     of the model's last chain, where the head is on its GPU
    stamped  the same launches with stamps between them, of a step of one token
    """

    replay: Replay
    source: StepInput
    target: StepInput
    head: HeadStep | None
    stamped: StampedStep | None = None

    @property
    def tokens(self) -> int:
        return len(self.source.positions)


@dataclass(frozen=True, slots=True)
class CpuSide:
    """Who answers the layers whose experts are in RAM.

    mailbox     of this GPU
    service     of its layers that cross
    workspace   what `service` asks for, for the largest step
    """

    mailbox: Mailbox
    service: Service
    workspace: Tensor
    threads: int

    def answer(self, tokens: int) -> None:
        pool.set_timeout(WORKER_LIMIT_S)
        try:
            self.service.serve(tokens, self.workspace, self.threads)
        finally:
            pool.set_timeout(pool.USUAL_TIMEOUT_S)

    def crossing_bytes(self, tokens: int) -> int:
        """Of a step: x and y, each expert's number and share, in every layer."""
        row_bytes = FLOAT_BYTES * self.mailbox.width + FLOAT_BYTES * self.mailbox.used
        return 2 * tokens * row_bytes * self.service.crossings


class GpuChain:
    """One pass over the blocks, h [T, D] on any device -> [T, D] on the GPU, T up to MOST_TOKENS.

    first   number of its first block in the model
    sizes   of SIZES, in order
    cpu     None where no experts are in RAM
    """

    def __init__(
        self,
        home: Place,
        first: int,
        sizes: Sequence[SizedStep],
        cpu: CpuSide | None,
        meter: Meter,
    ) -> None:
        self._home = home
        self._first = first
        self._sizes = sizes
        self._cpu = cpu
        self._meter = meter
        self._last = sizes[0]
        self._lost = False

    def __call__(self, h: Tensor, step: Step) -> Tensor:
        """Returns when all of it is done; the next step overwrites the result.

        Raises what `Service` and `Replay.wait` raise; the next step can begin all the same.
        """
        if self._lost:
            raise GpuSilent(
                f"{self._home.name} did not end a step that failed; start the program again"
            )
        sized = next(it for it in self._sizes if it.tokens >= step.tokens)
        self._last = sized
        self._write(sized.source, h, step)
        stamped = None if self._meter.ledger is None else sized.stamped
        replay = sized.replay if stamped is None else stamped.replay
        try:
            began = perf_counter()
            replay.start()
            launched = perf_counter()
            self._serve(sized.tokens)
            replay.wait()
            ran = Ran(launched - began, perf_counter() - launched)
            if self._cpu is not None:
                self._cpu.service.check_received()
        except BaseException:
            self._give_up(replay)
            raise
        if self._meter.counts:
            self._watch(sized, ran)
        return sized.target.hidden[: step.tokens]

    @property
    def one_token(self) -> Replay:
        """The step of one token, for who times it: with experts in RAM it waits for the CPU."""
        return self._sizes[0].replay

    def logits(self, tokens: int, rows: int) -> Tensor:
        """[rows, vocabulary] in host memory, of the last rows of the `tokens` of the step just
        done; the next step overwrites them.
        """
        assert self._last.head is not None, "asked of the chain that has the head"
        return self._last.head.host_logits[tokens - rows : tokens]

    def greatest(self, token: int) -> tuple[int, float]:
        """Id and logit of the greatest after one token of the step just done."""
        assert self._last.head is not None, "asked of the chain that has the head"
        found = self._last.head.host_greatest
        return int(found.index[token]), float(found.value[token])

    def _write(self, source: StepInput, h: Tensor, step: Step) -> None:
        last = step.tokens - 1
        positions = [step.start + min(row, last) for row in range(len(source.positions))]
        source.positions.numpy()[:] = positions
        source.rows.numpy()[:] = positions
        source.seen.numpy()[:] = [position + 1 for position in positions]
        source.hidden[: step.tokens] = h
        source.hidden[step.tokens :] = source.hidden[last]
        self._meter.crossing_bytes += h.nbytes

    def _serve(self, tokens: int) -> None:
        if self._cpu is None:
            return
        self._cpu.answer(tokens)
        self._meter.crossing_bytes += self._cpu.crossing_bytes(tokens)
        self._meter.shift(sum(self._cpu.service.computed_s), self._home.name, CPU)

    def _watch(self, sized: SizedStep, ran: Ran) -> None:
        """For whoever listens: a step is done."""
        ledger = self._meter.ledger
        if ledger is not None:
            ledger.whole = ledger.whole and sized.stamped is not None
        if sized.stamped is None:
            return
        if ledger is None:
            sized.stamped.stamps.cost.plain(ran)
        else:
            ledger.later(partial(self._tell, sized.stamped.stamps, ran))

    def _tell(self, stamps: Stamps, ran: Ran, ledger: Ledger) -> None:
        """What the stamps of the last step say, before the next one begins."""
        computed_s = [] if self._cpu is None else self._cpu.service.computed_s
        found = stamps.spans(computed_s, ran)
        ledger.divide(self._home.name, found.parts)
        ledger.measuring(self._home.name, found.cost_s)
        ledger.layers(self._first, found.attention_s.tolist(), found.experts_s.tolist())
        if computed_s:
            ledger.beside("experts", sum(computed_s))

    def _give_up(self, replay: Replay) -> None:
        """The GPU waits for nobody any more; when it is done, the next step can begin. A GPU that
        is never done is lost to this process, as is one whose end an interrupt kept from being
        seen: its step would go on by the next one's mailbox.
        """
        if self._cpu is not None:
            self._cpu.service.abandon()
        self._lost = True
        try:
            self._lost = not replay.wait(GIVEN_UP_S)
        except Exception:
            self._lost = False  # it has ended
            raise
        finally:
            if self._cpu is not None and not self._lost:
                self._cpu.service.reset()
