"""What was planned against what happened: bytes of each device by category, tokens per second.

Pure: `hybrid.runtime.audit` measures. Parts of a plan that are bounds may come out lower; a warning
says so all the same, for what is reserved in vain could have held experts.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Protocol

from placement.machines.calibration import Calibration
from placement.memory.overheads import WORKSPACE
from placement.memory.parts import CATEGORIES, COMPUTE, OTHER, Part, category_bytes
from placement.plan import PlacementPlan
from placement.prediction import Pace
from placement.units import format_bytes

MOST_SHARE, MOST_BYTES = 0.02, 200 << 20  # of a device's planned bytes; whichever is more
MOST_SPEED_SHARE = 0.15
FEWEST_TOKENS = 8  # of a decode rate that means something
# Shorter ones are shown, but neither warn nor teach.
FEWEST_TOLD = {"decode": 32, "prompt": 64}
TOTAL = "total"


class Rates(Protocol):
    """What is asked of the sums over a run (`hybrid.runtime.stats.RunStats`)."""

    prompt_tokens: int
    decode_tokens: int

    @property
    def prompt_tokens_per_s(self) -> float | None: ...

    @property
    def decode_tokens_per_s(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Bytes of one category on one device; `category` TOTAL for all of it.

    allowed   by which actual bytes may differ
    """

    device: str
    category: str
    planned_bytes: int
    actual_bytes: int
    allowed_bytes: int

    @property
    def is_off(self) -> bool:
        return abs(self.actual_bytes - self.planned_bytes) > self.allowed_bytes


@dataclass(frozen=True, slots=True)
class SpeedLine:
    """Tokens per second; predicted is None where nobody was asked.

    what     "decode" or "prompt"
    depth    tokens in the cache before: of the token, or of the prompt
    tokens   that were measured
    kind     of `Calibration.ratios`; "" where the run says nothing of others
    """

    what: str
    depth: int
    tokens: int
    predicted: float | None
    measured: float
    kind: str = ""

    @property
    def is_long(self) -> bool:
        """Whether so many tokens say more than what a run begins with."""
        return self.tokens >= FEWEST_TOLD[self.what]

    @property
    def is_off(self) -> bool:
        if self.predicted is None or not self.is_long:
            return False
        return abs(self.measured / self.predicted - 1) > MOST_SPEED_SHARE


@dataclass(frozen=True, slots=True)
class Measured:
    """One rate that a run reached; fields as of SpeedLine."""

    what: str
    depth: int
    tokens: int
    tokens_per_s: float


# The speed that a run like this was to reach, and its kind: `placement.cost.predict.expected_pace`.
Expected = Callable[[Measured], tuple[Pace, str]]


@dataclass(frozen=True, slots=True)
class Audit:
    memory: tuple[MemoryLine, ...]
    speed: tuple[SpeedLine, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each difference that is too large."""
        of_memory = (_memory_warning(line) for line in self.memory if line.is_off)
        return (*of_memory, *(_speed_warning(line) for line in self.speed if line.is_off))

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {
            "memory": [{**asdict(line), "is_off": line.is_off} for line in self.memory],
            "speed": [{**asdict(line), "is_off": line.is_off} for line in self.speed],
            "warnings": list(self.warnings),
        }

    def rows(self) -> list[list[str]]:
        """A table's cells, its head first."""
        rows = [["audit", "", "planned", "actual", "difference"]]
        for line in self.memory:
            more = line.actual_bytes - line.planned_bytes
            sign = "+" if more > 0 else ""
            cells = [format_bytes(line.planned_bytes), format_bytes(line.actual_bytes)]
            rows.append([line.device, line.category, *cells, f"{sign}{format_bytes(more)}"])
        for found in self.speed:
            name = f"{found.what} @ {found.depth}"
            if found.predicted is None:
                rows.append([name, "tok/s", "-", f"{found.measured:.1f}", "-"])
                continue
            share = found.measured / found.predicted - 1
            cells = [f"{found.predicted:.1f}", f"{found.measured:.1f}"]
            rows.append([name, "tok/s", *cells, f"{share:+.1%}"])
        return rows


def audit(
    plan: PlacementPlan,
    parts: Mapping[str, tuple[Part, ...]],
    actual: Mapping[str, Mapping[str, int]],
    measured: Iterable[Measured] = (),
    expected: Expected | None = None,
) -> Audit:
    """The plan's parts against bytes by device and category, rates against what was expected.

    parts    `memory_parts.device_parts`
    actual   what could not be told apart is left out, in all but TOTAL
    """
    lines = []
    for use in plan.devices:
        found = actual.get(use.name, {})
        planned = planned_bytes(parts.get(use.name, ()))
        allowed = max(int(MOST_SHARE * planned[TOTAL]), MOST_BYTES)
        lines += [
            MemoryLine(use.name, category, planned[category], found[category], allowed)
            for category in (*CATEGORIES, TOTAL)
            if category in found and (planned[category] or found[category])
        ]
    return Audit(tuple(lines), tuple(_speed_line(its, expected) for its in measured))


def planned_bytes(parts: tuple[Part, ...]) -> dict[str, int]:
    """By category as they are measured: torch's pool holds scratch and the workspace of products,
    so both are COMPUTE; and TOTAL.
    """
    planned = category_bytes(parts)
    workspace = sum(part.nbytes for part in parts if part.what == WORKSPACE)
    planned[COMPUTE] += workspace
    planned[OTHER] -= workspace
    return {**planned, TOTAL: sum(planned.values())}


def taught(found: Audit, used: Calibration) -> dict[str, float]:
    """What one run says of predictions: a ratio of each kind, for `Calibration.observed`.

    used      with whose factors the run's rates were predicted
    returns   the median over the rates of that kind which were predicted and are long enough
    """
    shares: dict[str, list[float]] = {}
    for line in found.speed:
        if line.kind and line.predicted is not None and line.is_long and line.measured > 0:
            shares.setdefault(line.kind, []).append(line.predicted / line.measured)
    return {kind: used.factor(kind) * median(of) for kind, of in shares.items()}


def run_rates(stats: Rates, depth: int = 0) -> tuple[Measured, ...]:
    """Of a run whose text began after `depth` tokens: the prompt, and decoding at its middle."""
    rates = []
    if stats.prompt_tokens_per_s is not None:
        rate = Measured("prompt", depth, stats.prompt_tokens, stats.prompt_tokens_per_s)
        rates.append(rate)
    if stats.decode_tokens_per_s is not None and stats.decode_tokens >= FEWEST_TOKENS:
        middle = depth + stats.prompt_tokens + stats.decode_tokens // 2
        rate = Measured("decode", middle, stats.decode_tokens, stats.decode_tokens_per_s)
        rates.append(rate)
    return tuple(rates)


def _speed_line(measured: Measured, expected: Expected | None) -> SpeedLine:
    predicted, kind = None, ""
    if expected is not None:
        pace, kind = expected(measured)
        predicted = pace.tokens_per_s
    return SpeedLine(
        measured.what, measured.depth, measured.tokens, predicted, measured.tokens_per_s, kind
    )


def _memory_warning(line: MemoryLine) -> str:
    more = line.actual_bytes - line.planned_bytes
    word = "more" if more > 0 else "less"
    what = "in all" if line.category == TOTAL else f"of {line.category}"
    return (
        f"{line.device} holds {format_bytes(abs(more))} {word} {what} than planned:"
        f" {format_bytes(line.actual_bytes)}, not {format_bytes(line.planned_bytes)}"
    )


def _speed_warning(line: SpeedLine) -> str:
    assert line.predicted is not None, "nothing predicted is never off"
    word = "faster" if line.measured > line.predicted else "slower"
    share = abs(line.measured / line.predicted - 1)
    return (
        f"{line.what} after {line.depth} tokens is {share:.0%} {word} than predicted:"
        f" {line.measured:.1f} tok/s, not {line.predicted:.1f}"
    )
