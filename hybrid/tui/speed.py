"""Tokens a second over the last minutes, a column a second, the newest at the right.

The axis begins at nothing, unless nearly all that is shown lies in the upper half: then it begins
where the changes can be seen. Both its ends are written beside it.
"""

from collections.abc import Sequence

from hybrid.live.snapshot import Snapshot
from hybrid.tui.amounts import tokens_s
from hybrid.tui.bars import chart
from hybrid.tui.lines import Line, fitted
from hybrid.tui.look import Look

AXIS, RANGE = 10, 11  # cells of the axis at the left, of its ends after a single line
SLOW_SECONDS = 0.1  # of all seconds that may lie below the axis: the first ones, a pause
LEAST_SPAN = 0.2  # of the fastest: less is noise, which must not look like a change


def speed(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """Nothing without a history."""
    shown = snapshot.rates.history[-max(width - AXIS, 1) :]
    if not shown or height < 1:
        return []
    least, most = _axis(shown)
    if height == 1:
        return [_spark(snapshot.rates.history, width, look)]
    rows = chart(shown, least, most, height, look)
    labels = [tokens_s(most), *[""] * (height - 1)]
    if height > 1:
        labels[-1] = tokens_s(least)
    if height > 2:
        labels[height // 2] = "tok/s"
    return [
        fitted([(f"{label:>{AXIS - 1}} ", "faint"), (row, "attention")], width)
        for label, row in zip(labels, rows, strict=True)
    ]


def _spark(history: Sequence[float], width: int, look: Look) -> Line:
    """One line, named as the layers' lines are; its axis at the end."""
    shown = history[-max(width - AXIS - RANGE, 1) :]
    least, most = _axis(shown)
    row = chart(shown, least, most, 1, look)[0]
    ends = f" {tokens_s(least)}-{tokens_s(most)}"
    return fitted([(f"{'tok/s':{AXIS}}", ""), (row, "attention"), (ends, "faint")], width)


def _axis(shown: Sequence[float]) -> tuple[float, float]:
    """Where it begins and ends."""
    most = max(*shown, 1e-9)
    low = sorted(shown)[int(len(shown) * SLOW_SECONDS)]
    if low <= most / 2:
        return 0.0, most
    return max(min(low - (most - low) / 2, most * (1 - LEAST_SPAN)), 0.0), most
