"""`--ot` of `hybrid bench`: several placements in one go.

    -ot RULES    rules of every placement, as in all commands
    --ot RULES   one placement each time: these rules, then those of -ot; the first match wins

llama-bench writes several placements as one -ot, commas between them and semicolons between their
rules. Here a comma stands between rules in either flag, as in llama-server, and --ot takes
semicolons for the same.
"""

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from hybrid.cli.placement_flags import AUTO_LAYERS
from hybrid.errors import UsageError
from hybrid.runtime.options import CpuMoe
from placement.request import ALL_LAYERS

AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Placement:
    """One of those that are measured.

    number   from 1, in the order of the command line
    text     its --ot; "" where there is none
    rules    all that it obeys, as `LoadOptions.rules` takes them
    shared   flags that say where things go in every placement, for a shell; "" where there are none
    """

    number: int
    text: str
    rules: tuple[str | CpuMoe, ...]
    shared: str = ""

    @property
    def label(self) -> str:
        """ "2 exps=CPU"; "" for the one that other flags alone describe."""
        return f"{self.number} {self.text}" if self.text else ""

    @property
    def all_text(self) -> str:
        """What was given of where things go: "exps=CPU -ot 'blk.3=CUDA0' -ngl 20"."""
        return " ".join(part for part in (self.text, self.shared) if part)


def add_placements_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ot",
        dest="placements",
        action="append",
        metavar="RULES",
        help="one placement: rules as of -ot, separated by commas or semicolons, before those of "
        "-ot, which hold for all; given again, one more, measured after it; `auto`: no rules of "
        "its own",
    )


def placements_of(args: argparse.Namespace) -> tuple[Placement, ...]:
    """Those that --ot gives, or the one of the other flags.

    Raises UsageError for what cannot be meant.
    """
    shared = tuple(args.rules or ())
    for rule in shared:
        if isinstance(rule, str) and ";" in rule:
            raise UsageError(
                f"-ot '{rule}' has a semicolon",
                "-ot takes the rules of one placement, separated by commas",
                remedy=["for one placement: -ot 'A,B'", "for two of them: --ot 'A,B' --ot C"],
            )
    if args.placements is None:
        return (Placement(1, "", shared, _shared_flags(args)),)
    if args.plan:
        raise UsageError(
            f"--ot and --plan {args.plan} are both given",
            "a plan decides what lies where",
            remedy=["leave out --plan", "one bench for each plan"],
        )
    return tuple(
        Placement(number, _text(given), (*_own_rules(given), *shared), _shared_flags(args))
        for number, given in enumerate(args.placements, 1)
    )


def with_placement(args: argparse.Namespace, placement: Placement) -> argparse.Namespace:
    """The flags for one of them; what is said of flags without effect is said with the first."""
    told = () if placement.number > 1 else args.foreign_uses
    given = {"rules": list(placement.rules) or None, "foreign_uses": told}
    return argparse.Namespace(**{**vars(args), **given})


def _text(given: str) -> str:
    return given.strip() or AUTO


def _own_rules(given: str) -> tuple[str, ...]:
    if _text(given) == AUTO:
        return ()
    return tuple(piece.strip() for piece in given.split(";") if piece.strip())


def _shared_flags(args: argparse.Namespace) -> str:
    """Those of every placement, of the machine's devices none: the plan's bytes name these."""
    return shlex.join(_flag_words(args))


def _flag_words(args: argparse.Namespace) -> Iterator[str]:
    if args.plan:  # which decides alone
        yield from ("--plan", args.plan)
        return
    for rule in args.rules or ():
        yield from _rule_words(rule)
    if args.gpu_layers is not None:
        words = {AUTO_LAYERS: "auto", ALL_LAYERS: "all"}
        yield from ("-ngl", words.get(args.gpu_layers, str(args.gpu_layers)))
    if args.tensor_split is not None:
        yield from ("-ts", ",".join(f"{share:g}" for share in args.tensor_split))
    if args.margin:
        yield from ("--margin", ",".join(map(str, args.margin)))
    for budgets in args.vram or ():
        yield f"--vram={budgets}"
    if args.ram is not None:
        yield f"--ram={args.ram}"
    for flag, given in (
        ("-sm", args.split_mode),
        ("-mg", args.main_gpu),
        ("-np", args.parallel),
        ("--optimize", args.optimize),
        ("--expert-stats", args.expert_stats),
    ):
        if given is not None:
            yield from (flag, str(given))


def _rule_words(rule: str | CpuMoe) -> Iterator[str]:
    if isinstance(rule, str):
        yield from ("-ot", rule)
    elif rule.layers is None:
        yield "-cmoe"
    else:
        yield from ("-ncmoe", str(rule.layers))
