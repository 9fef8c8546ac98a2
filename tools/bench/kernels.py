"""Native kernels over real shapes: every op, format and tier beside what the RAM gives.

    python -m tools.bench.kernels [--ops expert_ffn,product] [--formats Q4_K,Q6_K | all]
        [--tiers avx2,avx512 | best | all] [--activations rounded,exact] [--shapes lite,v3]
        [--tokens 1,64] [--threads N] [--rounds 3] [--seconds 0.1] [--peer PYTHON]

time us      of one call: the median of the rounds; best us: the shortest
read GB/s    blocks or cache rows that a call reads, over the median time; none of it from a cache
of read      that over what the pool's threads read just before and after; median. 1 is the limit
G MAC/s      multiply-adds
vs first     time of the first tier of the rows alike over this one's, in the same round; median
error        relative, against double precision; dequantize: values that differ in a bit;
             latent_block: against float32 activations in the best tier

Formats of 256 weights have experts of 1536 instead of V2-Lite's 1408, which is no multiple of 256.
V3 stands here with 32 of its 256 experts. --peer runs row products of ik_llama.cpp's wheel, which
that Python has, beside ours (op `peer`, the only one unless --ops names others): there `vs first`
is the peer's time over ours.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from kernels.formats import BY_NAME
from kernels.native import pool
from kernels.native.library import library
from placement.machines.cpus import choose_cpus
from tools.bench.flags import counts, positive
from tools.bench.kernel_rows.attention import attention_groups
from tools.bench.kernel_rows.block import latent_block_groups
from tools.bench.kernel_rows.experts import PRECISIONS, ffn_groups, product_groups
from tools.bench.kernel_rows.floats import rms_norm_groups, rope_groups, router_groups
from tools.bench.kernel_rows.matrices import dequantize_groups, linear_groups
from tools.bench.kernel_rows.measure import TIERS, Group, Measured, Reads, Setup, measure
from tools.bench.kernel_rows.peer import Peer, peer_groups
from tools.bench.kernel_rows.shapes import SHAPES
from tools.bench.table import Cell, show

OPS: dict[str, Callable[[Setup], Iterator[Group]]] = {
    "linear": linear_groups,
    "expert_ffn": ffn_groups,
    "product": product_groups,
    "attention": attention_groups,
    "rms_norm": rms_norm_groups,
    "rope": rope_groups,
    "router": router_groups,
    "dequantize": dequantize_groups,
    "latent_block": latent_block_groups,
}
FORMATS = ("Q8_0", "Q4_0", "IQ4_NL", "Q4_K", "Q6_K")
COLUMNS = (
    "op",
    "format",
    "tier",
    "activations",
    "shape",
    "tokens",
    "threads",
    "time us",
    "best us",
    "read GB/s",
    "of read",
    "G MAC/s",
    "vs first",
    "error",
)


def main(words: Sequence[str] | None = None) -> None:
    arguments = _arguments(words)
    setup = _setup(arguments)
    peer = Peer(arguments.peer) if arguments.peer else None
    try:
        groups = [group for op in arguments.ops for group in OPS[op](setup)]
        groups += peer_groups(setup, peer) if peer else ()
        found, reads = measure(groups, setup, arguments.rounds)
    finally:
        if peer:
            peer.close()
    show(_title(setup, reads), COLUMNS, [row(measured) for measured in found])


def row(measured: Measured) -> list[Cell]:
    """Cells of COLUMNS; "-" where a figure means nothing."""
    group, work, median_s = measured.group, measured.work, measured.median_s
    shares = measured.shares
    return [
        *(group.op, group.format, work.tier, work.precision, group.shape),
        *(work.tokens or "-", work.threads, median_s * 1e6, min(measured.seconds) * 1e6),
        work.nbytes / median_s / 1e9 if shares else "-",
        statistics.median(shares) if shares else "-",
        work.macs / median_s / 1e9 if work.macs else "-",
        statistics.median(measured.ratios),
        measured.error,
    ]


def _title(setup: Setup, reads: Reads) -> str:
    told = [
        f"{threads} threads read {statistics.median(gb_s):.1f} GB/s"
        for threads, gb_s in ((setup.threads, reads.all_threads), (1, reads.one_thread))
        if gb_s
    ]
    return f"kernels ({', '.join(told)})" if told else "kernels"


def _setup(arguments: argparse.Namespace) -> Setup:
    cpus = choose_cpus(arguments.threads)
    for note in cpus.notes:
        print(note, file=sys.stderr)
    pool.start(cpus.cpus, cpus.nodes)
    threads = len(cpus.cpus)
    torch.set_num_threads(threads)  # what the machine's line tells
    return Setup(
        shapes={name: SHAPES[name] for name in arguments.shapes},
        formats=[BY_NAME[name] for name in arguments.formats],
        tiers=tiers_here(arguments.tiers),
        precisions=arguments.activations,
        tokens=arguments.tokens,
        threads=threads,
        cpus=cpus.cpus,
        seconds=arguments.seconds,
    )


def tiers_here(asked: Sequence[str]) -> list[str]:
    """Those that this processor has, others skipped by name on stderr; exits when none is left."""
    if "best" in asked:
        best = library().hybrid_best_tier()
        named = next(name for name, number in TIERS.items() if number == best)
        asked = list(dict.fromkeys(named if tier == "best" else tier for tier in asked))
    here = [tier for tier in asked if library().hybrid_has_tier(TIERS[tier])]
    for tier in asked:
        if tier not in here:
            print(f"skipped {tier}: this processor has none", file=sys.stderr)
    if not here:
        raise SystemExit(f"error: this processor has no {', '.join(asked)}\n  try   --tiers best")
    return here


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for flag, known, default in (
        ("ops", OPS, ()),
        ("formats", BY_NAME, FORMATS),
        ("tiers", {**TIERS, "best": -1}, ("best",)),
        ("activations", PRECISIONS, ("rounded",)),
        ("shapes", SHAPES, ("lite",)),
    ):
        told = f"of {', '.join(known)}, or all (default {','.join(default) or 'all'})"
        parser.add_argument(f"--{flag}", type=_names(known), default=list(default), help=told)
    parser.add_argument("--tokens", type=counts, default=[1, 64], help="default 1,64")
    parser.add_argument("--threads", type=positive, help="default: one for each physical core")
    parser.add_argument("--rounds", type=positive, default=3, help="default 3")
    parser.add_argument("--seconds", type=float, default=0.1, help="of one timing, about")
    parser.add_argument("--peer", metavar="PYTHON", help="interpreter that has ik_llama_cpp")
    arguments = parser.parse_args(words)
    if not arguments.ops and not arguments.peer:
        arguments.ops = list(OPS)
    return arguments


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    every = [name for name in known if name != "best"]

    def parse(text: str) -> list[str]:
        names = every if text == "all" else text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return list(dict.fromkeys(names))

    return parse


if __name__ == "__main__":
    main()
