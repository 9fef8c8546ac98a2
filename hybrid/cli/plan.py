"""`hybrid plan`: what would lie where, from the file's header alone. Imports no torch."""

import argparse
import shutil
import sys
from dataclasses import asdict
from typing import Any

from hybrid.cli.output import as_json, notes, print_json, save_text
from hybrid.cli.parser import add_model, need_model
from hybrid.cli.placement_flags import add_placement_flags, load_options
from hybrid.cli.plan_views import (
    add_view_flags,
    check_views,
    save_page,
    show_diff,
    show_explanation,
    show_what_if,
)
from hybrid.runtime.prepare import Prepared, model_path, prepare
from hybrid.runtime.variations import whole_layer_flags
from placement.memory.parts import device_parts, pinned_bytes
from placement.plan_json import to_json
from placement.report.bars import can_show_blocks
from placement.report.export import PROGRAMS, export
from placement.report.placement import tensor_report
from placement.report.text import MARGIN, Page, text_report
from placement.units import format_bytes

PIPE_COLUMNS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="the whole plan as JSON on stdout")
    parser.add_argument("--tensors", action="store_true", help="every tensor: where to and why")
    parser.add_argument(
        "--emit", choices=PROGRAMS, help="print a command line that places all alike there"
    )
    parser.add_argument("--save", metavar="FILE", help="write the plan for --plan FILE")
    add_view_flags(parser)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    check_views(args)
    if args.diff:
        show_diff(args.diff, as_json=args.json)
        return 0
    options, heard = load_options(args)
    prepared = prepare(need_model(args), options, overfull_too=bool(args.what_if))
    in_report = () if args.json else prepared.plan.notes
    notes([*heard, *(text for text in prepared.notes if text not in in_report)])
    if args.save:
        save_text(args.save, as_json(_as_dict(prepared)) + "\n", "--save")
    if args.html:
        save_page(prepared, args.html)
    if args.explain is not None:
        show_explanation(prepared, args.explain, as_json=args.json)
    if args.what_if:
        show_what_if(prepared, options, args.what_if, as_json=args.json)
    if args.emit:
        path = str(model_path(need_model(args)))
        known = (prepared.plan, prepared.inventory, args.emit, path)
        there = export(
            *known,
            lambda: whole_layer_flags(prepared, options),
            memory_nodes=len(prepared.machine.memory_nodes),
        )
        notes(there.notes)
        print(there.text(), flush=True)
    elif args.explain is None and not args.what_if:
        _show(prepared, args)
    return 0


def _show(prepared: Prepared, args: argparse.Namespace) -> None:
    if args.json:
        print_json(_as_dict(prepared))
        return
    page = Page(_columns(), blocks=can_show_blocks(sys.stdout.encoding))
    plan, stock, machine = prepared.plan, prepared.inventory, prepared.machine
    parts = device_parts(plan, stock, machine)
    report = text_report(plan, stock, machine, parts=parts, page=page)
    print(report, end="", flush=True)
    print(f"\n{'numa':{MARGIN}}{prepared.layout.text()}", flush=True)
    if pinned := pinned_bytes(plan, parts):
        print(f"{'':{MARGIN}}{format_bytes(pinned)} of RAM pinned for the GPUs", flush=True)
    print(f"\n{'kernels':{MARGIN}}{prepared.kernels.text()}", flush=True)
    if args.tensors:
        print("\n" + tensor_report(prepared.plan), end="", flush=True)


def _as_dict(prepared: Prepared) -> dict[str, Any]:
    """For the reader: a plan that is obeyed later goes with the --numa and --tier given then."""
    layout = prepared.layout
    parts = device_parts(prepared.plan, prepared.inventory, prepared.machine)
    sizes = {f"node{node}": nbytes for node, nbytes in (layout.node_bytes or {}).items()}
    return {
        **to_json(prepared.plan),
        "memory": {name: [asdict(part) for part in those] for name, those in parts.items()},
        "pinned_bytes": pinned_bytes(prepared.plan, parts),
        "numa": {"policy": layout.policy.value, "node_bytes": sizes},
        "kernels": asdict(prepared.kernels),
    }


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
