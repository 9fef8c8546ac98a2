"""Tokens per second of a loaded model: prompts and single tokens at several depths of context.

    fill to depth ─> [ run, truncate to depth ] x (1 + repetitions) ─> fill on to the next depth
                       the first run is a warm-up and not counted

Token ids are drawn evenly from the vocabulary, the same in every run of the program, so that files
without a vocabulary can be measured too. Beside each speed stands what the cost model expects, and
for decoding what the memories allow (`bench_limits.py`).
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from hybrid.errors import ContextError, UsageError
from hybrid.runtime.bench_limits import ReadLimit, read_limit, token_reads
from hybrid.runtime.stats import StepStats
from placement.cost.predict import expected_pace

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

SEED = "hybrid bench"
WARM_DECODE_TOKENS = 2

Filled = Callable[[int, int], None]  # tokens read so far of those that lead to a depth


class Work(str, Enum):
    """What is timed, by the names of llama-bench."""

    PROMPT = "pp"  # all tokens in as few passes as the micro-batch allows
    DECODE = "tg"  # one token a pass


@dataclass(frozen=True, slots=True)
class BenchCase:
    """One test: that many tokens, with `depth_tokens` in the cache before them."""

    work: Work
    tokens: int
    depth_tokens: int = 0

    @property
    def name(self) -> str:
        """ "pp512", "tg32 @ d4096"."""
        depth = f" @ d{self.depth_tokens}" if self.depth_tokens else ""
        return f"{self.work.value}{self.tokens}{depth}"

    @property
    def end_tokens(self) -> int:
        return self.depth_tokens + self.tokens

    @property
    def middle_tokens(self) -> int:
        """In the cache on average: half way through what is decoded, or before a prompt."""
        return self.depth_tokens + (self.tokens // 2 if self.work is Work.DECODE else 0)


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What one test gave.

    tok_s            tokens per second of each counted repetition
    device_bytes     bytes of weights and cache read per token, by device; empty for prompts
    ram_bytes        those that come out of the RAM, simulated GPUs included; None for prompts
    limit            what reading them allows; None for prompts
    predicted_tok_s  what the cost model expects of this plan on this machine; None where it plays
                     GPUs
    outside_native   share of the passes' time spent outside native code; None when not counted
    """

    case: BenchCase
    tok_s: tuple[float, ...]
    device_bytes: Mapping[str, int]
    ram_bytes: int | None = None
    limit: ReadLimit | None = None
    predicted_tok_s: float | None = None
    outside_native: float | None = None

    @property
    def median_tok_s(self) -> float:
        return median(self.tok_s)

    @property
    def spread(self) -> float:
        """From the slowest to the fastest repetition, as a share of the median."""
        return (max(self.tok_s) - min(self.tok_s)) / self.median_tok_s

    @property
    def share_of_limit(self) -> float | None:
        return self.median_tok_s / self.limit.tok_s if self.limit else None

    @property
    def over_prediction(self) -> float | None:
        """Faster than predicted by this share; below 0: slower."""
        return self.median_tok_s / self.predicted_tok_s - 1 if self.predicted_tok_s else None

    def record(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {
            "test": self.case.name,
            "work": self.case.work.name.lower(),
            "tokens": self.case.tokens,
            "depth_tokens": self.case.depth_tokens,
            "tok_s": self.median_tok_s,
            "min_tok_s": min(self.tok_s),
            "max_tok_s": max(self.tok_s),
            "spread": self.spread,
            "repetitions_tok_s": list(self.tok_s),
            "device_bytes_per_token": dict(self.device_bytes),
            "ram_bytes_per_token": self.ram_bytes,
            "limit_tok_s": self.limit.tok_s if self.limit else None,
            "limit_memory": self.limit.memory if self.limit else None,
            "limit_is_measured": self.limit.is_measured if self.limit else None,
            "share_of_limit": self.share_of_limit,
            "predicted_tok_s": self.predicted_tok_s,
            "over_prediction": self.over_prediction,
            "outside_native": self.outside_native,
        }


def bench_cases(
    prompts: Sequence[int], decodes: Sequence[int], depths: Sequence[int]
) -> tuple[BenchCase, ...]:
    """Every test at every depth, shallow first; counts of 0 and repeated ones are left out.

    Raises UsageError when nothing is left.
    """
    cases = [
        BenchCase(work, tokens, depth)
        for depth in sorted(depths)
        for work, counts in ((Work.PROMPT, prompts), (Work.DECODE, decodes))
        for tokens in counts
        if tokens
    ]
    if not cases:
        raise UsageError(
            "there is nothing to measure", remedy="-p 512 for prompts, -n 32 to decode"
        )
    return tuple(dict.fromkeys(cases))


def context_of(cases: Sequence[BenchCase]) -> int:
    """Tokens of cache that the longest test needs."""
    return max(case.end_tokens for case in cases)


def check_context(cases: Sequence[BenchCase], context_tokens: int) -> None:
    """Raises ContextError when a test needs more cache than is reserved."""
    longest = max(cases, key=lambda case: case.end_tokens)
    if longest.end_tokens > context_tokens:
        raise ContextError(
            f"the test {longest.name} needs {longest.end_tokens} tokens of context",
            f"{context_tokens} tokens of cache are reserved",
            remedy=[
                f"-c {longest.end_tokens} reserves enough, as the default does without --plan",
                "a smaller depth -d, prompt -p or -n",
            ],
        )


def measure(
    engine: "Engine",
    cases: Sequence[BenchCase],
    repetitions: int,
    ram_read_gb_s: float,
    filled: Filled = lambda done, total: None,
) -> Iterator[BenchResult]:
    """The result of each test as it is done, shallow ones first. Empties the engine's cache.

    ram_read_gb_s   what the RAM gives, measured in the same run
    filled          told of each filling to a depth, which may take longer than all tests

    Raises ContextError before any work when a test needs more cache than is reserved.
    """
    check_context(cases, engine.context_tokens)
    depth_ids = random.Random(SEED)
    depth_tokens = 0
    engine.forget()
    for case in sorted(cases, key=lambda case: case.depth_tokens):
        if more := case.depth_tokens - depth_tokens:
            engine.truncate(depth_tokens)
            _fill(engine, _drawn(depth_ids, engine, more), filled)
            depth_tokens = case.depth_tokens
        yield _measured(engine, case, repetitions, ram_read_gb_s)


def _fill(engine: "Engine", ids: Sequence[int], filled: Filled) -> None:
    """The passes of one call, told of one by one. No call of several has a lone token: it would be
    decoded.
    """
    step = max(engine.plan.workload.ubatch_tokens, 2)
    done = 0
    filled(done, len(ids))
    for end in (*range(step, len(ids) - 1, step), len(ids)):
        engine.fill(ids[done:end])
        done = end
        filled(done, len(ids))


def _measured(
    engine: "Engine", case: BenchCase, repetitions: int, ram_read_gb_s: float
) -> BenchResult:
    ids = random.Random(f"{SEED} {case.name}")
    _repetition(engine, case, _drawn(ids, engine, _warm_up_tokens(case)))
    tok_s: list[float] = []
    outside: list[float] = []
    for _ in range(repetitions):
        drawn = _drawn(ids, engine, case.tokens)
        started = perf_counter()
        steps = _repetition(engine, case, drawn)
        tok_s.append(case.tokens / (perf_counter() - started))
        share = _outside_native(steps)
        outside += [] if share is None else [share]
    return replace(
        _expected(engine, case, ram_read_gb_s),
        tok_s=tuple(tok_s),
        outside_native=median(outside) if outside else None,
    )


def _expected(engine: "Engine", case: BenchCase, ram_read_gb_s: float) -> BenchResult:
    """All that is known of a test before it is run."""
    prepared, depth = engine.prepared, case.middle_tokens
    known = (prepared.plan, prepared.inventory, prepared.machine)
    tokens = case.tokens if case.work is Work.PROMPT else 0
    expected = None
    if not prepared.plan.played_gpus:
        expected = expected_pace(*known, depth, tokens)[0].tokens_per_s
    if case.work is Work.PROMPT:
        return BenchResult(case, (), {}, predicted_tok_s=expected)
    reads = token_reads(*known, depth)
    limit = read_limit(reads, prepared.machine, ram_read_gb_s)
    return BenchResult(case, (), reads.by_device, reads.ram_bytes, limit, expected)


def _warm_up_tokens(case: BenchCase) -> int:
    return case.tokens if case.work is Work.PROMPT else min(case.tokens, WARM_DECODE_TOKENS)


def _repetition(engine: "Engine", case: BenchCase, ids: Sequence[int]) -> list[StepStats]:
    """The test's passes over `ids`, from its depth on."""
    engine.truncate(case.depth_tokens)
    if case.work is Work.PROMPT:
        return engine.fill(ids)
    return [step for token in ids for step in engine.fill([token])]


def _drawn(ids: random.Random, engine: "Engine", count: int) -> list[int]:
    return ids.choices(range(engine.prepared.config.vocabulary), k=count)


def _outside_native(steps: Sequence[StepStats]) -> float | None:
    native = [step.native_s for step in steps if step.native_s is not None]
    if len(native) < len(steps):
        return None
    return 1 - sum(native) / sum(step.seconds for step in steps)
