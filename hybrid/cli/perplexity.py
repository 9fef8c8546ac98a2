"""`hybrid perplexity`: mean negative log likelihood and perplexity of a text file."""

import argparse
import sys
from time import perf_counter

from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine
from hybrid.cli.output import print_json
from hybrid.cli.parser import add_model, need_model, whole_or_all
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.progress import progress_bar
from hybrid.cli.prompts import read_text
from hybrid.errors import UsageError
from hybrid.runtime.perplexity import Score, empty_text, score_windows, text_windows
from hybrid.runtime.prepare import Prepared
from hybrid.runtime.prompt import need_tokenizer
from hybrid.tokenizer.tokenizer import Tokenizer

METHOD = """\
The text is cut into windows of -c tokens, each begun by the begin-of-text token. Every token but
that first one is scored, once, from those before it in its window; ± is the standard error.
llama.cpp scores the second half of each window alone, so the two programs' figures differ."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = METHOD
    add_model(parser)
    parser.add_argument("-f", "--file", metavar="FILE", help="the text, - for stdin")
    parser.add_argument(
        "--chunks",
        "--limit-windows",
        type=whole_or_all,
        metavar="N",
        help="only the first N windows of -c tokens; -1, the default: all",
    )
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    add_live_flags(parser)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    need_model(args)
    with live_view(args, "perplexity") as live:
        return _scored(args, live)


def _scored(args: argparse.Namespace, live: LiveView) -> int:
    if args.file is None and sys.stdin.isatty():
        raise UsageError("no text is given", remedy=["-f FILE", "-f - for stdin"])
    text = read_text(args.file or "-")
    if not text:
        raise empty_text()
    windows: list[list[int]] = []

    def before(prepared: Prepared, tokenizer: Tokenizer | None) -> None:
        known = need_tokenizer(prepared, tokenizer, "perplexity of a text needs a file with one")
        size = prepared.plan.workload.context_tokens
        windows.extend(text_windows(known, text, size)[: args.chunks])

    engine = load_engine(args, before, live)
    started, score = perf_counter(), Score()
    with progress_bar("perplexity", "windows") as bar:
        bar(0, len(windows))
        for done, score in enumerate(score_windows(engine, windows), 1):
            bar(done, len(windows), f"{score.perplexity:.4f}")
    seconds = perf_counter() - started
    if args.json:
        print_json(
            {
                "model": engine.plan.model,
                "context_tokens": engine.context_tokens,
                "windows": len(windows),
                "tokens": score.tokens,
                "mean_negative_log_likelihood": score.mean,
                "perplexity": score.perplexity,
                "perplexity_standard_error": score.perplexity_error,
                "seconds": seconds,
                "tokens_per_s": score.tokens / seconds,
            }
        )
    else:
        print(f"tokens                        {score.tokens}")
        print(f"mean negative log likelihood  {score.mean:.6f}")
        error = "" if score.perplexity_error is None else f" ± {score.perplexity_error:.4f}"
        print(f"perplexity                    {score.perplexity:.4f}{error}", flush=True)
    return 0
