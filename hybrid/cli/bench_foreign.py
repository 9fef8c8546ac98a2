"""llama-bench's flags: its way to write --mmap, output and tests that `hybrid bench` writes
otherwise, and its lists of values, which are refused where one value is taken.
"""

import argparse
from collections.abc import Callable
from typing import Any

from hybrid.cli.foreign_flag import foreign
from hybrid.cli.foreign_flags import add_foreign_flag
from hybrid.errors import UsageError

# of `hybrid bench` as of every command, and lists in llama-bench
ONE_VALUE = ("-t", "-ngl", "-ncmoe", "-ub", "-c", "-ctk", "-sm", "-mg", "-fa", "-mmp")
_FLAGS = (
    foreign("-o --output -oe --output-err", "--json prints JSON, --csv FILE writes CSV", "one"),
    foreign("-pg", "prompts (-p) and decoding (-n) are measured apart", "one"),
    foreign("--delay", "tests follow one another at once", "one"),
    foreign("--progress", "each result is said on stderr as it comes"),
)


def add_bench_foreign_flags(parser: argparse.ArgumentParser) -> None:
    """Call it after all others: it also changes how their values are read."""
    group = parser.add_argument_group("as llama-bench has them")
    group.add_argument(
        "-mmp",
        dest="mmap",
        type=_zero_or_one,
        metavar="0|1",
        default=argparse.SUPPRESS,
        help="1 is --mmap, 0 is --no-mmap",
    )
    for flag in _FLAGS:
        add_foreign_flag(group, flag, flag.names)
    actions = parser._option_string_actions  # argparse has no other way to ask
    for name in ONE_VALUE:
        actions[name].type = _one_value(name, actions[name].type)


def _one_value(name: str, read: Any) -> Callable[[str], Any]:
    """An argparse type: what `read` makes of the text. Raises UsageError for a list."""

    def one(text: str) -> Any:
        if "," in text:
            raise UsageError(
                f"bench takes one {name}, and {text[:60]!r} is a list",
                remedy=["--ot A --ot B compares placements", f"a bench for each value of {name}"],
            )
        return read(text) if read else text

    return one


def _zero_or_one(text: str) -> bool:
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is neither 0 nor 1")
    return text == "1"
