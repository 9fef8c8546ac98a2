"""--audit: what was planned against what happened, on stderr, after loading and at the end."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.cli.output import note, say, table

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine
    from placement.report.audit import Measured


def add_audit_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audit",
        action="store_true",
        help="planned against actual bytes and speed, after loading and at the end",
    )


def say_audit(
    engine: "Engine",
    measured: "tuple[Measured, ...]" = (),
    *,
    profiles: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """The audit as JSON; printed unless `quiet`, its warnings always.

    profiles   folder of machines' profiles, where the rates are kept for later predictions
    """
    # It imports torch, which is there by now.
    from hybrid.runtime.audit import audit_engine, record_audit  # noqa: PLC0415

    found = audit_engine(engine, measured)
    if not quiet:
        say(table(found.rows()))
    for warning in found.warnings:
        note(warning)
    kept = record_audit(engine.prepared.machine, found, profiles)
    if kept is not None and not quiet:
        say(f"kept for predictions on this machine: {kept}")
    return found.to_json()
