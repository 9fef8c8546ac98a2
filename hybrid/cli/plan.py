"""`hybrid plan`: what would lie where, from the file's header alone. Imports no torch."""

import argparse
import shutil
import sys
from dataclasses import asdict

from hybrid.cli.output import as_json, notes, print_json, save_text
from hybrid.cli.parser import add_model, need_model
from hybrid.cli.placement_flags import add_placement_flags, load_options
from hybrid.runtime.prepare import prepare
from placement.export import PROGRAMS, export
from placement.plan_json import to_json
from placement.report import MARGIN, tensor_report, text_report

PIPE_COLUMNS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--json", action="store_true", help="the whole plan as JSON on stdout")
    parser.add_argument("--tensors", action="store_true", help="every tensor: where to and why")
    parser.add_argument(
        "--emit", choices=PROGRAMS, help="print a command line that places all alike there"
    )
    parser.add_argument("--save", metavar="FILE", help="write the plan for --plan FILE")
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    options, heard = load_options(args)
    prepared = prepare(need_model(args), options)
    in_report = () if args.json else prepared.plan.notes
    notes([*heard, *(text for text in prepared.notes if text not in in_report)])
    layout = prepared.layout
    sizes = {f"node{node}": nbytes for node, nbytes in (layout.node_bytes or {}).items()}
    # For the reader: a plan that is obeyed later goes with the --numa and --tier given then.
    as_dict = {
        **to_json(prepared.plan),
        "numa": {"policy": layout.policy.value, "node_bytes": sizes},
        "kernels": asdict(prepared.kernels),
    }
    if args.save:
        save_text(args.save, as_json(as_dict) + "\n", "--save")
    if args.emit:
        there = export(prepared.plan, prepared.inventory, args.emit, need_model(args))
        notes(there.notes)
        print(there.text(), flush=True)
    elif args.json:
        print_json(as_dict)
    else:
        print(text_report(prepared.plan, prepared.inventory, width=_columns()), end="", flush=True)
        print(f"\n{'numa':{MARGIN}}{layout.text()}", flush=True)
        print(f"\n{'kernels':{MARGIN}}{prepared.kernels.text()}", flush=True)
        if args.tensors:
            print("\n" + tensor_report(prepared.plan), end="", flush=True)
    return 0


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_COLUMNS
