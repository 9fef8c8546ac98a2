"""One plan per combination of a few settings, as a table: what fits, what each device holds, how
fast it would be.

    ctx=8192,32768 ub=512,4096   ->   4 rows
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from placement.errors import DoesNotFit, PlacementError, ReportedError, RequestError
from placement.machines.machine import CPU
from placement.plan import PlacementPlan
from placement.report.device_memory import MOST_APART, UNITS, unit_of
from placement.units import format_bytes, rate, token_count
from placement.workload import CACHE_BYTES_PER_32_VALUES, MAX_TOKENS

Setting = int | str
Settings = Mapping[str, Setting]
MOST_ROWS = 400
MOST_GPUS = 64
FULLEST = "fullest GPU"  # by share of its budget
EXAMPLE = "--what-if ctx=8192,32768 ub=512,4096 gpus=1,2 ctk=bf16,q8_0"
# key -> what it sets, for errors
KEYS = {
    "ctx": "tokens of context, 0: as trained",
    "ub": "tokens of a micro-batch",
    "gpus": "number of GPUs",
    "ctk": f"format of the cache: {', '.join(CACHE_BYTES_PER_32_VALUES)}",
    "ngl": "blocks on GPUs, or auto",
    "optimize": "decode, prompt or balanced",
}
ALIASES = {"c": "ctx", "context": "ctx", "n_ctx": "ctx", "ubatch": "ub", "cache": "ctk"}
WORDS = {
    "ctk": tuple(CACHE_BYTES_PER_32_VALUES),
    "optimize": ("decode", "prompt", "balanced"),
}
LIMITS = {
    "ctx": (0, MAX_TOKENS),
    "ub": (1, MAX_TOKENS),
    "gpus": (0, MOST_GPUS),
    "ngl": (0, 1 << 20),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row.

    plan      None where none can be made with these settings at all
    problem   why it does not fit, or cannot be made; None where it fits
    """

    settings: Settings
    plan: PlacementPlan | None
    problem: str | None


def parse_settings(words: Sequence[str]) -> tuple[dict[str, Setting], ...]:
    """["ctx=8192,32768", "ub=512"] -> every combination, the last key varying fastest.

    Raises RequestError for an unknown key, a value that cannot be meant, or too many rows.
    """
    values: dict[str, list[Setting]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        key = ALIASES.get(name.strip().lstrip("-").lower(), name.strip().lstrip("-").lower())
        if not equals:
            raise RequestError(
                f"--what-if: {word[:60]!r} is not KEY=VALUE,...",
                remedy=[EXAMPLE, "a model's name stands before --what-if"],
            )
        if key not in KEYS:
            raise _unknown(key)
        if key in values:
            raise RequestError(
                f"--what-if names {key} twice", remedy=f"{key}=A,B takes all of its values"
            )
        values[key] = list(dict.fromkeys(_value(key, piece) for piece in text.split(",")))
    rows = 1
    for choices in values.values():
        rows *= len(choices)
    if rows > MOST_ROWS:
        raise RequestError(
            f"--what-if asks for {rows} rows; {MOST_ROWS} are the most there is room for",
            remedy="give fewer values, or ask in several calls",
        )
    return tuple(dict(zip(values, row, strict=True)) for row in product(*values.values()))


def try_settings(
    rows: Iterable[Settings], make: Callable[[Settings], PlacementPlan]
) -> tuple[Outcome, ...]:
    """One outcome per row.

    make   the plan for these settings, whether it fits or not; its errors become the row's problem
    """
    return tuple(_outcome(settings, make) for settings in rows)


def what_if_text(outcomes: Sequence[Outcome]) -> str:
    """The table as text: numbers flush right, the last column as it comes; ends in a newline."""
    rows = what_if_rows(outcomes)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [f"{text:>{width}}" for text, width in zip(row, widths, strict=False)]
        lines.append("  ".join([*cells, row[-1]]).rstrip() + "\n")
    return "".join(lines)


def what_if_rows(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """The table, heads first: settings, whether it fits, bytes of each device (of many GPUs: of the
    fullest), speeds.
    """
    made = [outcome.plan for outcome in outcomes if outcome.plan is not None]
    names = list(dict.fromkeys(use.name for plan in made for use in plan.devices))
    sizes = [use.total_bytes for plan in made for use in plan.devices]
    unit = unit_of(max(sizes, default=0))
    keys = list(outcomes[0].settings)
    timed = any(plan.prediction for plan in made)
    speeds = ["decode tok/s", "at the end", "prompt tok/s"] if timed else []
    if sum(name != CPU for name in names) > MOST_APART:
        names = [CPU, FULLEST]
    rows = [[*keys, *(f"{name} {unit}" for name in names), *speeds, "fits"]]
    for outcome in outcomes:
        cells = [str(outcome.settings[key]) for key in keys]
        cells += _device_cells(outcome.plan, names, unit)
        cells += _speed_cells(outcome) if timed else []
        rows.append([*cells, outcome.problem or "yes"])
    return rows


def shortage(plan: PlacementPlan) -> str | None:
    """ "CUDA0 3.2 GiB short" for every device that is overfull; None where all fits."""
    over = [use for use in plan.devices if use.total_bytes > use.budget_bytes]
    texts = [f"{d.name} {format_bytes(d.total_bytes - d.budget_bytes)} short" for d in over]
    return ", ".join(texts) or None


def _outcome(settings: Settings, make: Callable[[Settings], PlacementPlan]) -> Outcome:
    try:
        plan = make(settings)
    except DoesNotFit as error:
        return Outcome(settings, None, "; ".join(error.details) or error.cause)
    except ReportedError as error:
        return Outcome(settings, None, f"no plan: {error.cause}")
    return Outcome(settings, plan, shortage(plan))


def _value(key: str, text: str) -> Setting:
    text = text.strip()
    if key in WORDS:
        if text not in WORDS[key]:
            near = difflib.get_close_matches(text, WORDS[key], n=1, cutoff=0.5)
            raise RequestError(
                f"--what-if {key}={text[:40]}: {key} takes {', '.join(WORDS[key])}",
                remedy=f"did you mean {near[0]}?" if near else EXAMPLE,
            )
        return text
    if key == "ngl" and text in ("auto", "all"):
        return text
    least, most = LIMITS[key]
    number = token_count(text)
    if number is None or not least <= number <= most:
        raise RequestError(
            f"--what-if {key}={text[:40]}: not a whole number from {least} to {most}",
            remedy=f"{key} is the {KEYS[key]}: {EXAMPLE}",
        )
    return number


def _unknown(key: str) -> PlacementError:
    near = difflib.get_close_matches(key, [*KEYS, *ALIASES], n=1, cutoff=0.5)
    meant = [f"did you mean {ALIASES.get(near[0], near[0])}?"] if near else []
    listed = "; ".join(f"{name}: {what}" for name, what in KEYS.items())
    return RequestError(f"--what-if: unknown key {key[:40]!r}", listed, remedy=[*meant, EXAMPLE])


def _device_cells(plan: PlacementPlan | None, names: Sequence[str], unit: str) -> list[str]:
    uses = {use.name: use for use in plan.devices} if plan else {}
    gpus = [use for name, use in uses.items() if name != CPU]
    if gpus:
        uses[FULLEST] = max(gpus, key=lambda use: use.total_bytes / max(use.budget_bytes, 1))
    cells = []
    for name in names:
        size = f"{uses[name].total_bytes / UNITS[unit]:.2f}" if name in uses else "-"
        over = name in uses and uses[name].total_bytes > uses[name].budget_bytes
        cells.append(f"{size}!" if over else size)
    return cells


def _speed_cells(outcome: Outcome) -> list[str]:
    """Decoding at depth 0 and at the end of the context, a prompt at depth 0."""
    prediction = outcome.plan.prediction if outcome.plan else None
    if prediction is None or outcome.problem is not None:
        return ["-", "-", "-"]
    decode, prompt = prediction.decode, prediction.prompt
    paces = [*(decode[:1] or (None,)), *(decode[-1:] or (None,)), *(prompt[:1] or (None,))]
    return [rate(pace.tokens_per_s) if pace else "-" for pace in paces]
