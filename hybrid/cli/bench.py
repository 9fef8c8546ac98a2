"""`hybrid bench`: prompt and decode tokens per second at several depths of context.

A table on stdout in the manner of llama-bench, then all of it as one line of JSON.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.cli.auditing import add_audit_flag, say_audit
from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine
from hybrid.cli.output import print_json_line, say, table
from hybrid.cli.parser import add_model, need_model, whole
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.progress import progress_bar
from hybrid.runtime.bench import (
    BenchCase,
    BenchResult,
    Work,
    bench_cases,
    check_context,
    context_of,
    measure,
)
from placement.report.audit import Measured
from placement.units import format_bytes

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

MAX_REPETITIONS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    for flags, default, what in (
        (("-p", "--n-prompt"), "128,512", "prompt tokens, read at once; 0: none"),
        (("-n", "--n-gen"), "32", "tokens decoded one by one; 0: none"),
        (("-d", "--n-depth"), "0", "tokens in the cache before each test"),
    ):
        parser.add_argument(
            *flags,
            type=_counts,
            default=_counts(default),
            metavar="N,...",
            help=f"{what} ({default})",
        )
    parser.add_argument(
        "-r",
        "--repetitions",
        type=whole(1, MAX_REPETITIONS),
        default=3,
        metavar="N",
        help="counted runs of each test, after one that is not (3)",
    )
    parser.add_argument("--json", action="store_true", help="only the line of JSON on stdout")
    add_audit_flag(parser)
    add_live_flags(parser, counts=False)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    need_model(args)
    with live_view(args, "bench") as live:
        return _benched(args, live)


def _benched(args: argparse.Namespace, live: LiveView) -> int:
    cases = bench_cases(args.n_prompt, args.n_gen, args.n_depth)
    if args.ctx_size is None and args.plan is None:
        args.ctx_size = context_of(cases)
    engine = load_engine(
        args,
        lambda prepared, _: check_context(cases, prepared.plan.workload.context_tokens),
        live,
    )
    if args.audit:
        say_audit(engine)
    # It needs torch, whose 1.5 s are spent by now.
    from hybrid.runtime.bandwidth import ram_read_gb_s  # noqa: PLC0415

    read_gb_s = ram_read_gb_s(engine.threads)
    say(f"the RAM reads {read_gb_s:.1f} GB/s with {engine.threads} threads")
    results = _measured(engine, cases, args.repetitions, read_gb_s)
    if not args.json:
        print(results_table(results))
    audited = (
        {"audit": say_audit(engine, _rates(results), profiles=args.profiles)} if args.audit else {}
    )
    print_json_line({**_summary(engine, args, read_gb_s, results), **audited})
    return 0


def results_table(results: Sequence[BenchResult]) -> str:
    """One row per test; columns that no test has a value for are left out."""
    columns = {
        "test": [result.case.name for result in results],
        "   tok/s": [f"{result.median_tok_s:8.2f}" for result in results],
        "  min .. max": [f"{min(r.tok_s):8.2f} .. {max(r.tok_s):.2f}" for r in results],
        "RAM/token": [_shown(r.ram_bytes, format_bytes) for r in results],
        "RAM limit tok/s": [_shown(r.limit_tok_s, "{:.2f}".format) for r in results],
        "of limit": [_shown(r.share_of_limit, "{:.1%}".format) for r in results],
        "outside native": [_shown(r.outside_native, "{:.1%}".format) for r in results],
    }
    kept = {title: cells for title, cells in columns.items() if set(cells) != {"-"}}
    return table([list(kept), *(list(row) for row in zip(*kept.values(), strict=True))])


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(0)(word) for word in text.split(","))


def _measured(
    engine: "Engine", cases: Sequence[BenchCase], repetitions: int, read_gb_s: float
) -> list[BenchResult]:
    """All results, each said on stderr as it comes: a long bench may be interrupted."""
    results: list[BenchResult] = []
    with progress_bar("bench", "tests") as bar:
        bar(0, len(cases))
        for result in measure(engine, cases, repetitions, read_gb_s):
            results.append(result)
            say(f"  {result.case.name}: {result.median_tok_s:.2f} tok/s")
            bar(len(results), len(cases))
    return results


def _rates(results: Sequence[BenchResult]) -> tuple[Measured, ...]:
    """For the audit; tokens that are decoded lie on average in the middle of a test."""
    names = {Work.PROMPT: "prompt", Work.DECODE: "decode"}
    rates = []
    for result in results:
        case = result.case
        middle = case.tokens // 2 if case.work is Work.DECODE else 0
        depth = case.depth_tokens + middle
        rates.append(Measured(names[case.work], depth, case.tokens, result.median_tok_s))
    return tuple(rates)


def _shown(value: Any, text: Callable[[Any], str]) -> str:
    return "-" if value is None else text(value)


def _summary(
    engine: "Engine", args: argparse.Namespace, read_gb_s: float, results: Sequence[BenchResult]
) -> dict[str, Any]:
    plan, machine = engine.plan, engine.prepared.machine
    return {
        "bench": "hybrid",
        "model": {
            "name": plan.model,
            "architecture": plan.architecture,
            "path": str(engine.prepared.file.path),
            "bytes": plan.model_bytes,
        },
        "machine": [device.description or device.name for device in machine.devices],
        "threads": engine.threads,
        "kernels": args.kernels,
        "context_tokens": engine.context_tokens,
        "ubatch_tokens": plan.workload.ubatch_tokens,
        "cache_format": plan.workload.cache_format,
        "cache_in_ram": plan.workload.cache_in_ram,
        "devices": {use.name: use.total_bytes for use in plan.devices},
        "ram_read_gb_s": read_gb_s,
        "tests": [result.record() for result in results],
    }
