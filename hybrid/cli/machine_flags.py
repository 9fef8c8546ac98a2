"""Plans for machines that are not here: `--machine`, and the presets it knows."""

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from hybrid.cli.output import table
from placement.machines.choice import preset_abouts


def add_machine_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--machine",
        metavar="FILE|PRESET",
        help="plan for a machine that is not here: a file as `doctor --save` writes it, a preset",
    )
    group.add_argument(
        "--list-machines", action=ListMachines, help="the presets that --machine knows, and exit"
    )


class ListMachines(argparse.Action):
    """Prints the presets and ends, as --help does."""

    def __init__(self, option_strings: Sequence[str], dest: str, **given: Any) -> None:
        given["default"] = argparse.SUPPRESS
        super().__init__(option_strings, dest, nargs=0, **given)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(table([[name, about] for name, about in preset_abouts().items()]), flush=True)
        parser.exit()
