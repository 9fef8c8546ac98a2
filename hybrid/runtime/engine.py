"""The engine: prompt in micro-batches, then one token at a time, over one sequence's cache.

    ids ──ubatch──> model.hidden ──last row──> model.logits ──> sampler ──> Token
                        │ ▲
                      caches (reserved at load)

The cache remembers which ids it holds; a call that starts with the same ids computes only the
rest, so a chat does not read its history again.
"""

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.errors import UsageError
from hybrid.models.deepseek import Model
from hybrid.models.parts import Step
from hybrid.runtime.expert_usage import Counts, ExpertUsage, joined_usage
from hybrid.runtime.gpu.failures import gpu_failures_told
from hybrid.runtime.ledger import HOST
from hybrid.runtime.listening import Listener
from hybrid.runtime.loader import LatentCache
from hybrid.runtime.memory import DeviceMemory, GpuMemory
from hybrid.runtime.prepare import Prepared
from hybrid.runtime.prompt import checked, common_prefix, encode
from hybrid.runtime.sampling import Sampler, SamplingOptions, sampling_options
from hybrid.runtime.stats import Meter, RunStats, StepStats
from hybrid.runtime.timing import Timing
from hybrid.runtime.token import Token
from hybrid.tokenizer.tokenizer import Tokenizer
from kernels.native import pool, tiers
from placement.plan import PlacementPlan

# Passes that torch computes on one thread: others gain nothing there (demo model: 164 against 163
# tok/s), and their spinning costs a busy machine nine tenths of its speed (docs/log.md).
SMALL_TOKENS, SMALL_ROWS = 8, 1024


class Engine:
    """A loaded model with one sequence.

    plan       where everything is
    stats      sums of what was done
    tokenizer  None when the file has no vocabulary; prompts are then token ids
    """

    def __init__(
        self,
        *,
        model: Model,
        caches: Sequence[LatentCache],
        tokenizer: Tokenizer | None,
        prepared: Prepared,
        memories: dict[str, DeviceMemory],
        meter: Meter,
        threads: int,
        usage: Sequence[Callable[[], Counts]] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        self._notes = notes
        self.plan: PlacementPlan = prepared.plan
        self.prepared = prepared
        self.tokenizer = tokenizer
        self.stats = RunStats()
        self.memories = memories
        self.finish_reason: str | None = None
        self._model = model
        self._caches = caches
        self._meter = meter
        self._threads = threads
        self._on_gpus = any(isinstance(memory, GpuMemory) for memory in memories.values())
        self._cached_ids: list[int] = []
        self._pending: list[int] = []  # the last generated token, which no pass has read yet
        self._turn = 0
        self._usage = usage
        self._timing = Timing(meter, len(caches), prepared.cpus)
        self._listeners = self._timing.listeners

    def listen(self, listener: Listener) -> None:
        """Tell it of every pass and token from now on."""
        self._listeners.add(listener)

    def unlisten(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners.remove(listener)

    @property
    def expert_usage(self) -> ExpertUsage:
        """How often experts were chosen in passes that somebody listened to; between passes."""
        return joined_usage(self._usage, self.prepared.inventory.shape.expert_used_count)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should hear about how threads and memory came out, one line each."""
        of_memory = (note for memory in self.memories.values() for note in memory.notes)
        return (*self._notes, *of_memory, *self._listeners.notes)

    @property
    def context_tokens(self) -> int:
        return self.plan.workload.context_tokens

    @property
    def tier(self) -> str:
        """Of vector code in which this process's native kernels run."""
        return tiers.name()

    @property
    def threads(self) -> int:
        return self._threads

    def encode(self, prompt: str | Sequence[int]) -> list[int]:
        """Token ids of a prompt; text gets the file's begin-of-text token."""
        return encode(self.prepared, self.tokenizer, prompt)

    def logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every token of a sequence, computed from an empty cache: float32 [tokens,
        vocabulary].
        """
        return torch.cat(list(self.passes(ids))).numpy()

    def passes(self, ids: Sequence[int]) -> Iterator[Tensor]:
        """The same, a micro-batch at a time: float32 tensors [up to ubatch, vocabulary] on the
        CPU.
        """
        return self._logit_passes(checked(self.prepared, ids))

    def extend(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Append tokens to the sequence so far, generated tokens included; logits after each of
        them: float32 [tokens, vocabulary].
        """
        known = len(self._pending)
        passes = self._append(ids, all_rows=True)
        return torch.cat([rows for _, rows in passes])[known:].numpy()

    def fill(self, ids: Sequence[int]) -> list[StepStats]:
        """Append tokens as `extend` does, computing the logits after the last of them alone and
        keeping none; what each micro-batch took.
        """
        return [step for step, _ in self._append(ids, all_rows=False)]

    def truncate(self, tokens: int) -> None:
        """Keep the first tokens of the sequence so far, generated ones included; none after them.

        Raises UsageError when the sequence has fewer.
        """
        known = len(self._cached_ids) + len(self._pending)
        if not 0 <= tokens <= known:
            raise UsageError(
                f"cannot keep {tokens} tokens of a sequence of {known}",
                remedy=f"a number from 0 to {known}",
            )
        self._take_over()
        if tokens <= len(self._cached_ids):
            self._pending = []
        del self._cached_ids[tokens:]

    def forget(self) -> None:
        """Empty the cache."""
        self._take_over()
        self._cached_ids, self._pending = [], []

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = None,
        ignore_stop: bool = False,
        sampling: SamplingOptions | None = None,
        **sampling_fields: Any,
    ) -> Iterator[Token]:
        """Continue a prompt token by token.

        prompt            text, or token ids used as they are
        max_tokens        stop after that many; None: until a stop token or the end of the context
        ignore_stop       go on past stop tokens
        sampling_fields   fields of SamplingOptions: temperature, top_k, top_p, min_p, seed

        One generation at a time: a call that uses the cache ends every iterator still open.
        Raises ContextError before any work when prompt and max_tokens exceed the reserved cache.
        """
        options = sampling_options(sampling, sampling_fields)
        if max_tokens is not None and max_tokens < 0:
            raise UsageError(
                f"max_tokens is {max_tokens}", remedy="0 or more, or None for no limit"
            )
        least = 1 if max_tokens is None else max_tokens
        ids = checked(self.prepared, self.encode(prompt), least)
        stop_ids = frozenset() if ignore_stop or self.tokenizer is None else self.tokenizer.stop_ids
        return self._generate(ids, max_tokens, stop_ids, Sampler(options))

    def _generate(
        self, ids: list[int], max_tokens: int | None, stop_ids: frozenset[int], sampler: Sampler
    ) -> Iterator[Token]:
        room = self.context_tokens - len(ids)
        limit, ending = (room, "context") if max_tokens is None else (max_tokens, "length")
        self.finish_reason = ending
        if limit == 0:
            return
        turn = self._take_over()
        stream = self.tokenizer.stream(at_start=False) if self.tokenizer else None
        step, row = self._read_prompt(ids, turn)
        for count in range(1, limit + 1):
            token = self._timing.choice(sampler, row, self._model.ending.greatest())
            if token in stop_ids:
                self.finish_reason = "stop"
                break
            text = stream.push(token) if stream else ""
            last = count == limit
            if last and stream:
                text += stream.flush()
            self._pending = [token]
            told = Token(token, text, step, ending if last else None)
            self._listeners.chose(told)
            yield told
            if last:
                return
            [(step, rows)] = self._passes([token], turn, all_rows=False, prompt=False)
            row = rows[-1]

    def _logit_passes(self, ids: list[int]) -> Iterator[Tensor]:
        self.forget()
        turn = self._take_over()
        for _, rows in self._passes(ids, turn, all_rows=True, prompt=True):
            yield rows

    def _read_prompt(self, ids: list[int], turn: int) -> tuple[StepStats, Tensor]:
        """Bring the cache to hold exactly `ids`; the logits after the last of them."""
        known = common_prefix(self._cached_ids, ids[:-1])
        self._cached_ids = self._cached_ids[:known]
        self.stats.reused_tokens += known
        *_, (step, rows) = self._passes(ids[known:], turn, all_rows=False, prompt=True)
        return step, rows[-1]

    def _append(self, ids: Sequence[int], *, all_rows: bool) -> Iterator[tuple[StepStats, Tensor]]:
        """Passes over what no pass has read yet and `ids`, when all of it fits."""
        known = len(self._cached_ids) + len(self._pending)
        ids = [*self._pending, *checked(self.prepared, ids, cached_tokens=known)]
        turn = self._take_over()
        return self._passes(ids, turn, all_rows=all_rows, prompt=len(ids) > 1)

    def _take_over(self) -> int:
        """Claim the cache; whoever claimed it before may not go on."""
        self._turn += 1
        return self._turn

    def _passes(
        self, ids: Sequence[int], turn: int, *, all_rows: bool, prompt: bool
    ) -> Iterator[tuple[StepStats, Tensor]]:
        """Run `ids` through the model, a micro-batch at a time, appending them to the cache."""
        ubatch = self.plan.workload.ubatch_tokens
        if prompt:
            self._listeners.prompted(0, len(ids))
        for first in range(0, len(ids), ubatch):
            if turn != self._turn:
                raise UsageError(
                    "another call has used this engine's cache since this iterator began",
                    remedy="finish one generation before the next, or load a second engine",
                )
            part = list(ids[first : first + ubatch])
            last = first + ubatch >= len(ids)
            with self.stats.during(prompt=prompt):
                stats, rows = self._pass(part, len(part) if all_rows else int(last), prompt=prompt)
            if prompt:
                self._listeners.prompted(first + len(part), len(ids))
            # A list may be made of all of them, and the next pass writes over its rows.
            yield stats, rows.clone() if all_rows else rows

    @gpu_failures_told()
    @torch.inference_mode()
    def _pass(self, ids: list[int], rows: int, *, prompt: bool) -> tuple[StepStats, Tensor]:
        """One forward pass; logits of its last `rows` tokens, which the next one may overwrite."""
        self._timing.begin(prompt=prompt)
        pool.use_threads(self._threads)
        native_before = pool.native_seconds()
        started = perf_counter()
        step = Step(start=len(self._cached_ids), tokens=len(ids))
        small = step.tokens < SMALL_TOKENS and step.end <= SMALL_ROWS
        torch.set_num_threads(1 if small else self._threads)
        with self._meter.on(self.plan.layers[-1], HOST):
            logits = self._model.logits(torch.tensor(ids), step, self._caches, rows).cpu()
        self._cached_ids += ids
        self._pending = []
        stats = StepStats(
            tokens=step.tokens,
            start=step.start,
            seconds=perf_counter() - started,
            device_seconds=self._meter.device_seconds,
            crossing_bytes=self._meter.crossing_bytes,
            native_s=None if self._on_gpus else pool.native_seconds() - native_before,
        )
        self.stats.add(stats, prompt=prompt)
        self._timing.end(stats, prompt=prompt)
        return stats, logits
