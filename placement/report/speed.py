"""A prediction as tables of text: tokens per second at each depth, what a token's time goes into,
what binds it, where the speeds come from.
"""

from placement.machines.profile import MEASURED_ERROR
from placement.plan import PlacementPlan
from placement.prediction import IN_CACHES, PARTS, Pace, Prediction
from placement.tensor_names import device_ranges
from placement.units import rate

ESTIMATED = "estimated"
QUICK_S = 0.01  # a token that is better told in microseconds


def speed_rows(prediction: Prediction) -> list[list[str]]:
    """Tokens per second, one column per depth."""
    depths = sorted({pace.depth for pace in (*prediction.decode, *prediction.prompt)})
    rows = [["at depth", *(str(depth) for depth in depths)]]
    for title, paces in (("decode tok/s", prediction.decode), ("prompt tok/s", prediction.prompt)):
        at = {pace.depth: pace for pace in paces}
        shown = [rate(at[depth].tokens_per_s) if depth in at else "-" for depth in depths]
        if paces:
            rows.append([title, *shown])
    return rows


def time_rows(prediction: Prediction) -> list[list[str]]:
    """Time a token and its share, by part: decoding at the first and at the last depth, a prompt at
    the first. In microseconds where all tokens are quick.
    """
    columns = _columns(prediction)
    longest = max((sum(pace.seconds.values()) for _, pace in columns), default=0)
    unit = "us" if longest < QUICK_S else "ms"
    parts = [*PARTS, *(name for _, pace in columns for name in pace.seconds if name not in PARTS)]
    rows = [[f"{unit} a token", *(title for title, _ in columns)]]
    for part in dict.fromkeys(parts):
        cells = [_cell(pace, part, unit) for _, pace in columns]
        if any(cells):
            rows.append([part, *(cell or "-" for cell in cells)])
    totals = [f"{_time(sum(pace.seconds.values()), unit)} 100 %" for _, pace in columns]
    return [*rows, ["together", *totals]]


def limit_lines(prediction: Prediction) -> list[str]:
    """The binding limit, the error to expect, and what would make it smaller."""
    sure = sureness(prediction.source, prediction.error)
    return [f"limited by {prediction.limit}", f"speeds: {sure}"]


def sureness(source: str, error: float) -> str:
    """Of a prediction: where its speeds come from, the error to expect, what would narrow it."""
    if source.endswith(IN_CACHES):
        return f"{source}: they may be wrong by factors"
    text = f"{source}; right within {100 * error:.0f} %"
    if source.startswith(ESTIMATED):
        text += f": hybrid doctor --measure narrows this to about {100 * MEASURED_ERROR:.0f} %"
    elif ESTIMATED in source:
        text += f"; about {100 * MEASURED_ERROR:.0f} % from speeds measured there:"
        text += " hybrid doctor --measure --save rig.toml"
    return text


def played_text(plan: PlacementPlan) -> str:
    """Why nothing is predicted of GPUs that the CPU plays; empty where it plays none."""
    if not plan.played_gpus:
        return ""
    verb = "are" if len(plan.played_gpus) > 1 else "is"
    return (
        f"not predicted: {device_ranges(plan.played_gpus)} {verb} played by this CPU, whose speed"
        " is not a GPU's; --machine PRESET predicts a machine that is not here"
    )


def short_rates(prediction: Prediction) -> str:
    """ "about 12.4 tok/s, 8.31 at the end; prompts 105"."""
    first, last = prediction.decode[0], prediction.decode[-1]
    end = f", {rate(last.tokens_per_s)} at the end" if last.depth > first.depth else ""
    prompts = f"; prompts {rate(prediction.prompt[0].tokens_per_s)}" if prediction.prompt else ""
    return f"about {rate(first.tokens_per_s)} tok/s{end}{prompts}"


def milliseconds(seconds: float) -> str:
    """Of a token: "61.03", "0.031"."""
    return f"{1e3 * seconds:.2f}" if seconds >= 1e-4 else f"{1e3 * seconds:.4f}"


def _columns(prediction: Prediction) -> list[tuple[str, Pace]]:
    ends = (
        prediction.decode
        if len(prediction.decode) < 2
        else prediction.decode[:: len(prediction.decode) - 1]
    )
    chosen = [(f"decode at {pace.depth}", pace) for pace in ends]
    if prediction.prompt:
        first = prediction.prompt[0]
        chosen.append((f"prompt of {first.tokens}", first))
    return chosen


def _time(seconds: float, unit: str) -> str:
    return f"{1e6 * seconds:.1f}" if unit == "us" else f"{1e3 * seconds:.2f}"


def _cell(pace: Pace, part: str, unit: str) -> str:
    seconds, total = pace.seconds.get(part, 0.0), sum(pace.seconds.values())
    if not seconds:
        return ""
    return f"{_time(seconds, unit)} {100 * seconds / total:3.0f} %"
