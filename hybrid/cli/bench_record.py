"""What a bench found, placement by placement, and the same for machines: JSON and CSV.

docs/bench.md lists the fields: a change of their meaning raises SCHEMA.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import hybrid
from hybrid.cli.bench_placements import Placement
from hybrid.errors import HybridError
from hybrid.runtime.bench import BenchResult

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

SCHEMA = 4
# of a bench and of a placement; null where nothing was loaded
COMMON = (
    *("model", "machine", "threads", "tier", "context_tokens"),
    *("cache_format", "cache_in_ram"),
)
FACTS = ("devices", "ubatch_tokens", "load_s", "prediction")
CSV_COLUMNS = (
    *("model", "placement", "rules", "ubatch_tokens", "test", "work", "tokens", "depth_tokens"),
    *("tok_s", "min_tok_s", "max_tok_s", "spread"),
    *("limit_tok_s", "limit_memory", "limit_is_measured", "share_of_limit"),
    *("predicted_tok_s", "over_prediction", "ram_bytes_per_token", "outside_native", "error"),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error without the frames that it came through, which would keep an engine alive."""

    cause: str
    details: tuple[str, ...]
    remedies: tuple[str, ...]

    @classmethod
    def of(cls, error: HybridError) -> "Failure":
        return cls(error.cause, error.details, error.remedies)

    def record(self) -> dict[str, Any]:
        return {
            "cause": self.cause,
            "details": list(self.details),
            "remedies": list(self.remedies),
        }


@dataclass(slots=True)
class PlacementRun:
    """What one placement gave, as far as it came.

    facts   about its engine and plan; None where it was never loaded
    audit   with --audit
    """

    placement: Placement
    results: list[BenchResult] = field(default_factory=list)
    facts: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None
    error: Failure | None = None

    def record(self) -> dict[str, Any]:
        """Without its tests."""
        audited = {} if self.audit is None else {"audit": self.audit}
        return {
            "placement": self.placement.number,
            "rules": self.placement.all_text,
            **(self.facts or dict.fromkeys(FACTS)),
            "error": self.error.record() if self.error else None,
            **audited,
        }


@dataclass(slots=True)
class Bench:
    """All of it.

    common          facts that are the same in every placement, from the first that was loaded
    ram_read_gb_s   None before one was
    """

    model: str
    repetitions: int
    kernels: str
    runs: list[PlacementRun] = field(default_factory=list)
    common: dict[str, Any] | None = None
    ram_read_gb_s: float | None = None
    is_interrupted: bool = False

    @property
    def rows(self) -> list[tuple[Placement, BenchResult]]:
        """Tests in their order, and under each the placements."""
        found = [(run.placement, result) for run in self.runs for result in run.results]
        order = list(dict.fromkeys(result.case for _, result in found))
        return sorted(found, key=lambda row: order.index(row[1].case))

    @property
    def micro_batches(self) -> dict[int, int]:
        """Tokens of each placement that was loaded, by its number."""
        return {run.placement.number: run.facts["ubatch_tokens"] for run in self.runs if run.facts}

    @property
    def failures(self) -> list[tuple[Placement, Failure]]:
        return [(run.placement, run.error) for run in self.runs if run.error]

    def record(self) -> dict[str, Any]:
        """All of it as plain values for JSON."""
        return {
            "bench": "hybrid",
            "schema": SCHEMA,
            "version": hybrid.__version__,
            **(self.common or {**dict.fromkeys(COMMON), "model": {"path": self.model}}),
            "kernels": self.kernels,
            "repetitions": self.repetitions,
            "ram_read_gb_s": self.ram_read_gb_s,
            "interrupted": self.is_interrupted,
            "placements": [run.record() for run in self.runs],
            "tests": [
                {"placement": placement.number, **result.record()}
                for placement, result in self.rows
            ],
        }

    def csv_text(self) -> str:
        """A head line, a line for each test, one for each placement that failed."""
        text = io.StringIO()
        lines = csv.DictWriter(text, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
        lines.writeheader()
        lines.writerows(self._csv_rows())
        return text.getvalue()

    def _csv_rows(self) -> Iterator[Mapping[str, Any]]:
        for placement, result in self.rows:
            yield {**self._of(placement), **result.record()}
        for placement, failure in self.failures:
            yield {**self._of(placement), "error": failure.cause}

    def _of(self, placement: Placement) -> dict[str, Any]:
        return {
            "model": self.model,
            "placement": placement.number,
            "rules": placement.all_text,
            "ubatch_tokens": self.micro_batches.get(placement.number),
        }


def common_facts(engine: "Engine") -> dict[str, Any]:
    """COMMON of an engine."""
    plan, prepared = engine.plan, engine.prepared
    values = (
        {
            "name": plan.model,
            "architecture": plan.architecture,
            "path": str(prepared.file.path),
            "bytes": plan.model_bytes,
        },
        [device.description or device.name for device in prepared.machine.devices],
        engine.threads,
        engine.tier,
        engine.context_tokens,
        plan.workload.cache_format,
        plan.workload.cache_in_ram,
    )
    return dict(zip(COMMON, values, strict=True))


def placement_facts(engine: "Engine") -> dict[str, Any]:
    """FACTS of an engine: planned bytes by device, micro-batch, which by default follows from what
    lies where, seconds of loading, how sure predictions are.
    """
    plan = engine.plan
    expected = plan.prediction
    sure = {"error": expected.error, "source": expected.source} if expected else None
    devices = {use.name: use.total_bytes for use in plan.devices}
    values = (devices, plan.workload.ubatch_tokens, engine.stats.load_s, sure)
    return dict(zip(FACTS, values, strict=True))
