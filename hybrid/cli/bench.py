"""`hybrid bench`: prompt and decode tokens per second at several depths of context, of one or
several placements, each loaded when the one before is gone.

A table on stdout in the manner of llama-bench, then, where stdout is no terminal, all of it as one
line of JSON.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid.cli.auditing import add_audit_flag, say_audit
from hybrid.cli.bench_files import add_file_flags, check_files, write_files
from hybrid.cli.bench_foreign import add_bench_foreign_flags
from hybrid.cli.bench_placements import (
    Placement,
    add_placements_flag,
    placements_of,
    with_placement,
)
from hybrid.cli.bench_record import (
    Bench,
    Failure,
    PlacementRun,
    common_facts,
    placement_facts,
)
from hybrid.cli.bench_table import prediction_lines, predictions_ram, results_table
from hybrid.cli.failures import as_reported, report
from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine
from hybrid.cli.output import note, print_json_line, say
from hybrid.cli.parser import add_model, need_model, whole
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.progress import progress_bar
from hybrid.errors import (
    ContextError,
    GgufError,
    GpuLost,
    OutputError,
    UnsupportedModel,
    UsageError,
)
from hybrid.runtime.bench import BenchCase, Work, bench_cases, check_context, context_of, measure
from hybrid.runtime.bench_memory import free_engines
from placement.errors import RequestError
from placement.report.audit import Measured

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

MAX_REPETITIONS = 1000
# Every placement would meet them again: of the command line, the file, the process.
OF_ALL = (UsageError, RequestError, GgufError, UnsupportedModel, ContextError, OutputError, GpuLost)


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
    add_placements_flag(parser)
    parser.add_argument("--json", action="store_true", help="only one line of JSON on stdout")
    add_file_flags(parser)
    add_audit_flag(parser)
    add_live_flags(parser, counts=False)
    add_placement_flags(parser)
    add_bench_foreign_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 when a placement failed; an error that would stop all of them is raised, as Ctrl-C
    is, behind the table of what was measured.
    """
    bench = Bench(need_model(args), args.repetitions, args.kernels)
    cases = bench_cases(args.n_prompt, args.n_gen, args.n_depth)
    placements = placements_of(args)
    check_files(args)
    if args.ctx_size is None and args.plan is None:
        args.ctx_size = context_of(cases)
    try:
        with live_view(args, "bench") as live:
            for placement in placements:
                if len(placements) > 1:
                    say(f"placement {placement.number} of {len(placements)}: {placement.text}")
                _run_placement(bench, placement, cases, args, live, is_alone=len(placements) == 1)
    except KeyboardInterrupt:
        bench.is_interrupted = True
        raise
    finally:
        if bench.rows or bench.failures:
            _show(bench, args)
    return int(bool(bench.failures))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(whole(0)(word) for word in text.split(","))


def _run_placement(
    bench: Bench,
    placement: Placement,
    cases: Sequence[BenchCase],
    args: argparse.Namespace,
    live: LiveView,
    *,
    is_alone: bool,
) -> None:
    """Its results into `bench`, or its error; nothing of its engine is left.

    Raises what would stop every placement; a lost GPU's memory is not touched then.
    """
    found = PlacementRun(placement)
    bench.runs.append(found)
    try:
        _measure_into(found, bench, cases, with_placement(args, placement), live)
    except Exception as error:  # noqa: BLE001  whatever it is, the next placement may do
        found.error = _failure(error, is_alone=is_alone, with_traceback=args.traceback)
    free_engines()


def _failure(error: Exception, *, is_alone: bool, with_traceback: bool) -> Failure:
    """The error told and put on record, or raised where no placement can do better."""
    reported = as_reported(error)
    if is_alone or isinstance(reported, OF_ALL):
        raise error
    report(error, with_traceback=with_traceback)
    return Failure.of(reported)


def _measure_into(
    found: PlacementRun,
    bench: Bench,
    cases: Sequence[BenchCase],
    args: argparse.Namespace,
    live: LiveView,
) -> None:
    """Each result is said on stderr as it comes: a long bench may be interrupted."""
    engine = load_engine(
        args,
        lambda prepared, _: check_context(cases, prepared.plan.workload.context_tokens),
        live,
    )
    found.facts, bench.common = placement_facts(engine), bench.common or common_facts(engine)
    if args.audit:
        say_audit(engine)
    if bench.ram_read_gb_s is None:
        bench.ram_read_gb_s = _ram_read_gb_s(engine)
    with progress_bar("bench", "tests") as bar:
        bar(0, len(cases))

        def filled(done: int, total: int) -> None:
            if not done:
                say(f"  reading {total} token{'s' if total > 1 else ''} of context")
            told = f"{done} of {total} tokens of context read" if done < total else ""
            bar(len(found.results), len(cases), told)

        for result in measure(engine, cases, bench.repetitions, bench.ram_read_gb_s, filled):
            found.results.append(result)
            say(f"  {result.case.name}: {result.median_tok_s:.2f} tok/s")
            bar(len(found.results), len(cases))
    if args.audit:
        found.audit = say_audit(engine, _rates(found), profiles=args.profiles)


def _ram_read_gb_s(engine: "Engine") -> float:
    # It needs torch, whose 1.5 s are spent by now.
    from hybrid.runtime.bandwidth import ram_read_gb_s  # noqa: PLC0415

    read_gb_s = ram_read_gb_s(engine.threads)
    threads = "1 thread" if engine.threads == 1 else f"{engine.threads} threads"
    say(f"the RAM reads {read_gb_s:.1f} GB/s with {threads}")
    if told := predictions_ram(engine.plan, engine.prepared.machine, read_gb_s):
        note(told)
    return read_gb_s


def _rates(found: PlacementRun) -> tuple[Measured, ...]:
    """For the audit."""
    names = {Work.PROMPT: "prompt", Work.DECODE: "decode"}
    return tuple(
        Measured(names[case.work], case.middle_tokens, case.tokens, result.median_tok_s)
        for result in found.results
        for case in [result.case]
    )


def _show(bench: Bench, args: argparse.Namespace) -> None:
    """The files last: whatever is wrong with them, the figures are out."""
    if not args.json:
        if bench.rows:
            shared = bench.runs[0].placement.shared
            print(f"placement: {shared}\n" if shared else "", end="")
            print(results_table(bench.rows, bench.micro_batches))
            told = [run.facts["prediction"] for run in bench.runs if run.facts is not None]
            print("".join(f"{line}\n" for line in prediction_lines(told)), end="")
        for placement, failure in bench.failures:
            print(f"{placement.label}: failed: {failure.cause}")
    if args.json or not sys.stdout.isatty():
        print_json_line(bench.record())
    write_files(args, bench)
