"""Tokens per second over depth: a panel for prompts, one for decoding, a colour for each placement
and test.

    solid    measured: the median, with bars from the least to the most
    dashed   predicted
    dotted   what the memory allows
"""

import importlib
import io
from collections.abc import Sequence
from typing import Any

from hybrid.cli.bench_placements import Placement
from hybrid.cli.bench_record import Bench
from hybrid.cli.bench_table import short_label
from hybrid.errors import MachineError
from hybrid.runtime.bench import BenchResult, Work

TITLES = {Work.PROMPT: "prompts", Work.DECODE: "decoding"}
PANEL_INCHES = (6.4, 4.8)
DOTS_PER_INCH = 150
MOST_RATIO = 8  # of a panel's highest to its lowest value; beyond it a linear axis hides the lower

# tests of one placement and one number of tokens, shallow first
Series = list[BenchResult]


def need_matplotlib() -> None:
    """Raises MachineError where it is missing or does not load."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MachineError(
            "--plot needs matplotlib",
            str(error).splitlines()[0],
            remedy=["pip install matplotlib", "--csv FILE, and a program that draws"],
        ) from error


def draw(bench: Bench, form: str) -> bytes:
    """The file's bytes. `form` is "png" or "svg"; the bench has results."""
    figure_type = importlib.import_module("matplotlib.figure").Figure
    found = {work: _series(bench, work) for work in TITLES}
    panels = [work for work in TITLES if found[work]]
    figure = figure_type(
        figsize=(PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), layout="constrained"
    )
    for axes, work in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, work, found[work])
    figure.suptitle(_title(bench))
    data = io.BytesIO()
    figure.savefig(data, format=form, dpi=DOTS_PER_INCH)
    return data.getvalue()


def _series(bench: Bench, work: Work) -> dict[tuple[Placement, int], Series]:
    found: dict[tuple[Placement, int], Series] = {}
    for placement, result in bench.rows:
        if result.case.work is work:
            found.setdefault((placement, result.case.tokens), []).append(result)
    return {key: sorted(those, key=lambda r: r.case.depth_tokens) for key, those in found.items()}


def _title(bench: Bench) -> str:
    name = bench.common["model"]["name"] if bench.common else bench.model
    return f"{name}: tokens per second over depth"


def _panel(axes: Any, work: Work, found: dict[tuple[Placement, int], Series]) -> None:
    for number, ((placement, tokens), those) in enumerate(found.items()):
        colour, depths = f"C{number % 10}", [result.case.depth_tokens for result in those]
        speeds = [result.median_tok_s for result in those]
        below = [result.median_tok_s - min(result.tok_s) for result in those]
        above = [max(result.tok_s) - result.median_tok_s for result in those]
        name = f"{work.value}{tokens} {short_label(placement)}".strip()
        axes.errorbar(
            depths, speeds, (below, above), color=colour, marker="o", capsize=3, label=name
        )
        _line(axes, depths, [result.predicted_tok_s for result in those], colour, "--")
        _line(axes, depths, [r.limit.tok_s if r.limit else None for r in those], colour, ":")
    _key(axes, [result for those in found.values() for result in those])
    axes.set(title=TITLES[work], xlabel="tokens in the cache", ylabel="tok/s")
    values = [value for those in found.values() for result in those for value in _values(result)]
    if max(values) > MOST_RATIO * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(which="both", alpha=0.3)


def _values(result: BenchResult) -> list[float]:
    """All that is drawn of it."""
    beside = (result.predicted_tok_s, result.limit.tok_s if result.limit else None)
    return [*result.tok_s, *(value for value in beside if value is not None)]


def _line(
    axes: Any, depths: Sequence[int], values: Sequence[float | None], colour: str, style: str
) -> None:
    points = [(at, value) for at, value in zip(depths, values, strict=True) if value is not None]
    if not points:
        return
    marker = "_" if len(points) == 1 else ""
    axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker=marker)


def _key(axes: Any, results: Sequence[BenchResult]) -> None:
    """Names of the lines, and once for all of them what their styles mean."""
    if any(result.predicted_tok_s is not None for result in results):
        axes.plot([], [], color="gray", linestyle="--", label="predicted")
    if any(result.limit is not None for result in results):
        axes.plot([], [], color="gray", linestyle=":", label="the memory's limit")
    axes.legend(fontsize="small", loc="best", framealpha=0.6)
