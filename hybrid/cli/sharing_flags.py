"""How GPUs share the work, and what each leaves free: -sm -mg -ts, --margin, -np.

Shares are a hint: they weigh the GPUs when layers are handed out, and never beyond a budget.
"""

import argparse
from typing import Any

from hybrid.cli.parser import whole
from hybrid.errors import UsageError
from placement.units import parse_bytes
from placement.workload import MAX_SEQUENCES

MIB = 1 << 20
MARGIN_FROM_MIB = 64  # nobody leaves as many GiB free
SPLITS = ("layer", "none")
FOREIGN_SPLITS = ("row", "tensor", "attn", "graph")


def add_sharing_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-sm",
        "--split-mode",
        choices=(*SPLITS, *FOREIGN_SPLITS),
        help="layer: contiguous layers on each GPU (the default); none: one GPU, see -mg; other "
        "ways of llama.cpp and ik_llama.cpp are taken as layer",
    )
    group.add_argument(
        "-mg", "--main-gpu", type=whole(0, 1 << 10), metavar="N", help="the GPU of -sm none (0)"
    )
    group.add_argument(
        "-ts",
        "--tensor-split",
        type=shares,
        metavar="3,1",
        help="a hint of how many layers each GPU gets, as parts of a whole; 0: none. Left out: by "
        "bytes that are free",
    )
    group.add_argument(
        "--margin",
        type=margins,
        metavar="BYTES,...",
        help="left free on each GPU that --vram does not name, one value or one each (512MiB)",
    )
    group.add_argument(
        "-fitt",
        "--fit-target",
        "--fit-margin",
        dest="margin",
        type=margins_in_mib,
        metavar="MIB,...",
        help="--margin in MiB, as llama.cpp and ik_llama.cpp write it",
    )
    group.add_argument(
        "-np",
        "--parallel",
        type=whole(1, MAX_SEQUENCES),
        metavar="N",
        help="sequences that cache is planned for, each of -c tokens (1); one is computed at a "
        "time, for which alone `run` reserves memory",
    )


def sharing_options(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of LoadOptions."""
    return {
        "split": "none" if args.split_mode == "none" else "layer",
        "main_gpu": args.main_gpu or 0,
        "shares": args.tensor_split,
        "margins": args.margin or (),
        "sequences": args.parallel or 1,
    }


def sharing_notes(args: argparse.Namespace) -> list[str]:
    """What became of flags that do not mean here what they mean there."""
    notes = []
    if args.split_mode in FOREIGN_SPLITS:
        notes.append(
            f"-sm {args.split_mode} is taken as -sm layer: each block is on one GPU, and nothing"
            " is divided within it"
        )
    if args.main_gpu is not None and args.split_mode != "none":
        notes.append(f"-mg {args.main_gpu} has no effect without -sm none")
    if args.tensor_split is not None and args.split_mode == "none":
        notes.append("-ts has no effect with -sm none")
    if (args.parallel or 1) > 1:
        notes.append(
            f"-np {args.parallel} plans cache for {args.parallel} sequences of -c tokens each"
            " (llama.cpp and ik_llama.cpp divide -c among them); the engine computes one sequence,"
            " for which alone `run` reserves memory"
        )
    return notes


def shares(text: str) -> tuple[float, ...]:
    """ "3,1" or "3/1" -> (3.0, 1.0), as llama.cpp splits it.

    Raises UsageError for what is no number, or when all are zero.
    """
    words = text.replace("/", ",").split(",")
    try:
        found = tuple(float(word) for word in words if word.strip())
    except ValueError:
        found = ()
    if not found or min(found) < 0 or not 0 < sum(found) < float("inf"):
        raise UsageError(
            f"-ts {text[:60]!r} gives no GPU a share",
            remedy="parts of a whole, one for each GPU: -ts 3,1",
        )
    return found


def margins(text: str) -> tuple[int, ...]:
    """ "1GiB,512MiB" -> bytes, one for each GPU or one for all. Raises UsageError."""
    if any(word.strip().startswith("-") for word in text.split(",")):
        raise UsageError(
            f"--margin {text[:60]!r} is negative", remedy="bytes to leave free: --margin 512MiB"
        )
    return tuple(
        parse_bytes(word, "a size of --margin", from_mib=MARGIN_FROM_MIB)
        for word in text.split(",")
    )


def margins_in_mib(text: str) -> tuple[int, ...]:
    """ "1024,512" -> the same number of MiB in bytes. Raises UsageError."""
    return tuple(whole(0, 1 << 30)(word) * MIB for word in text.split(","))
