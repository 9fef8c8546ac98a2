"""What `hybrid plan` shows beside the report: one tensor's reasons, what other settings would give,
two plans side by side, the page.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hybrid.cli.output import note, print_json, save_text
from hybrid.errors import UsageError
from hybrid.runtime.options import LoadOptions
from hybrid.runtime.prepare import Prepared, read_plan
from hybrid.runtime.variations import varied_plan
from placement.cost.predict import predict
from placement.memory.parts import device_parts
from placement.plan_json import to_json
from placement.report.diff import diff_plans, diff_text, models_note
from placement.report.explain import explain, explanation_text
from placement.report.page import html_page
from placement.report.speed import played_text
from placement.report.what_if import Outcome, parse_settings, try_settings, what_if_text

# flag -> those that show something else instead, or would be left out
APART = {
    "diff": ("html", "emit", "tensors", "save"),
    "what_if": ("html", "emit", "tensors"),
    "explain": ("html", "emit", "tensors"),
    "emit": ("json", "tensors"),
}


def add_view_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("views")
    one = group.add_mutually_exclusive_group()
    one.add_argument(
        "--explain",
        metavar="REGEX",
        help="of tensors whose name holds REGEX: where they are, why, and the cost of elsewhere",
    )
    one.add_argument(
        "--what-if",
        nargs="+",
        metavar="KEY=A,B",
        help="a table of every combination: ctx=8192,32768 ub=512,4096 gpus=1,2 ctk=bf16,q8_0, "
        "also ngl= and optimize=; the model stands before it",
    )
    one.add_argument(
        "--diff", nargs=2, metavar="PLAN.json", help="what the second saved plan does otherwise"
    )
    group.add_argument("--html", metavar="FILE", help="the report as one page that needs no other")


def check_views(args: argparse.Namespace) -> None:
    """Raises UsageError for views of which one would be left out, and for a model's name among the
    settings of --what-if.
    """
    for name, others in APART.items():
        also = [other for other in others if getattr(args, other) not in (None, False)]
        if getattr(args, name) is not None and also:
            first, second = (f"--{word.replace('_', '-')}" for word in (name, also[0]))
            raise UsageError(
                f"{first} and {second} cannot be shown by one call",
                remedy=f"leave out {first} or {second}, and call twice for both",
            )
    words = args.what_if or ()
    swallowed = [word for word in words if "=" not in word]
    if swallowed and not args.model:
        settings = " ".join(word for word in words if "=" in word)
        raise UsageError(
            f"no model is given: {swallowed[0]!r} was read as part of --what-if",
            remedy=f"put the model first: hybrid plan {swallowed[0]} --what-if {settings}",
        )


def show_diff(paths: Sequence[str], *, as_json: bool) -> None:
    """Two plan files compared."""
    before, after = (read_plan(path) for path in paths)
    if told := models_note(before, after):
        note(told)
    found = diff_plans(before, after)
    if as_json:
        print_json({"diff": asdict(found)})
    else:
        print(diff_text(found), end="", flush=True)


def show_explanation(prepared: Prepared, pattern: str, *, as_json: bool) -> None:
    """Every tensor that the pattern finds."""
    stock, machine = prepared.inventory, prepared.machine
    timed = None if prepared.plan.played_gpus else lambda plan: predict(plan, stock, machine)
    found = explain(prepared.plan, stock, pattern, timed)
    if as_json:
        print_json({"explain": [asdict(one) for one in found]})
    else:
        print(explanation_text(prepared.plan, found), end="", flush=True)


def show_what_if(
    prepared: Prepared, options: LoadOptions, words: Sequence[str], *, as_json: bool
) -> None:
    """A plan per combination of settings."""
    if options.plan is not None:
        raise UsageError(
            "--what-if makes plans of its own, --plan gives one", remedy="leave one of them out"
        )
    rows = parse_settings(words)
    here = len(prepared.machine.gpus)
    most = max((int(settings.get("gpus", 0)) for settings in rows), default=0)
    if most > here > 0:
        note(f"{here} of {most} GPUs are here; the others are taken to be like CUDA{here - 1}")
    outcomes = try_settings(rows, lambda settings: varied_plan(prepared, options, settings))
    if played := played_text(prepared.plan):
        note(played)
    if as_json:
        print_json({"what_if": [_outcome_facts(outcome) for outcome in outcomes]})
    else:
        print(what_if_text(outcomes), end="", flush=True)


def save_page(prepared: Prepared, path: str) -> None:
    """The report as HTML."""
    plan, stock, machine = prepared.plan, prepared.inventory, prepared.machine
    more = {"NUMA": prepared.layout.text(), "Kernels": prepared.kernels.text()}
    page = html_page(plan, stock, machine, device_parts(plan, stock, machine), more)
    save_text(path, page, "--html")


def _outcome_facts(outcome: Outcome) -> dict[str, Any]:
    facts: dict[str, Any] = {"settings": dict(outcome.settings), "problem": outcome.problem}
    if outcome.plan is not None:
        plan = to_json(outcome.plan)
        facts |= {name: plan[name] for name in ("devices", "prediction")}
    return facts
