"""The table of a bench: one row for each test and placement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hybrid.cli.bench_placements import Placement
from hybrid.cli.output import table
from hybrid.runtime.bench import BenchResult, Work
from placement.cost.pieces import speeds_of_run
from placement.machines.estimates import speeds_of
from placement.machines.machine import Machine
from placement.plan import PlacementPlan
from placement.report.speed import sureness
from placement.units import format_bytes

OF_RAM = ("CPU attention", "CPU experts", "CPU products")  # of prediction.PARTS
RAM_WANDERS = 0.15  # of its speed: as much as predictions may be wrong
MOST_LABEL = 36  # characters of a placement; its number tells it from others that begin alike


def results_table(
    rows: Sequence[tuple[Placement, BenchResult]], micro_batches: Mapping[int, int]
) -> str:
    """Columns that no row has a value for are left out.

    micro_batches   tokens of each placement, by its number: a column where they differ
    """
    results = [result for _, result in rows]
    differ = len(set(micro_batches.values())) > 1
    columns = {
        "test": [result.case.name for result in results],
        "placement": [short_label(placement) or "-" for placement, _ in rows],
        "micro-batch": [
            f"{micro_batches[its.number]:11d}" if differ and r.case.work is Work.PROMPT else "-"
            for its, r in rows
        ],
        "   tok/s": [f"{result.median_tok_s:8.2f}" for result in results],
        "  min .. max": [f"{min(r.tok_s):8.2f} .. {max(r.tok_s):.2f}" for r in results],
        "spread": [f"{result.spread:6.1%}" for result in results],
        "limit tok/s": [_limit(result) for result in results],
        "of limit": [_shown(r.share_of_limit, "{:8.1%}".format) for r in results],
        "predicted": [_shown(r.predicted_tok_s, "{:9.2f}".format) for r in results],
        "difference": [_shown(r.over_prediction, "{:+10.1%}".format) for r in results],
        "RAM/token": [_shown(r.ram_bytes, format_bytes) for r in results],
        "outside native": [_shown(r.outside_native, "{:.1%}".format) for r in results],
    }
    kept = {title: cells for title, cells in columns.items() if set(cells) != {"-"}}
    return table([list(kept), *(list(row) for row in zip(*kept.values(), strict=True))])


def prediction_lines(told: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Where the predictions come from and how sure they are; alike ones once.

    told   "source" and "error" of each placement that has a prediction
    """
    known = [sureness(one["source"], one["error"]) for one in told if one is not None]
    return [f"predictions: speeds {text}" for text in dict.fromkeys(known)]


def predictions_ram(plan: PlacementPlan, machine: Machine, read_gb_s: float) -> str:
    """That predictions stand on RAM that reads otherwise than now; "" where it does not matter."""
    found = plan.prediction
    if found is None or not any(found.decode[0].seconds.get(part) for part in OF_RAM):
        return ""
    speeds = speeds_of_run(speeds_of(machine), plan.workload)
    known_gb_s = speeds.host.read_gb_s
    if abs(read_gb_s / known_gb_s - 1) <= RAM_WANDERS:
        return ""
    return (
        f"predictions take {known_gb_s:.1f} GB/s of it ({speeds.source}): limits are of this run,"
        " so that both may disagree"
    )


def short_label(placement: Placement) -> str:
    label = placement.label
    return label if len(label) <= MOST_LABEL else f"{label[: MOST_LABEL - 3]}..."


def _limit(result: BenchResult) -> str:
    return f"{result.limit.tok_s:.2f} {result.limit.text()}" if result.limit else "-"


def _shown(value: Any, text: Callable[[Any], str]) -> str:
    return "-" if value is None else text(value)
