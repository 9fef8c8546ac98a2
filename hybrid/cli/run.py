"""`hybrid run`: continue a prompt. Text streams to stdout; --json gives one object at the end."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from hybrid.cli.auditing import add_audit_flag, say_audit
from hybrid.cli.live_flags import LiveView, add_live_flags, live_view
from hybrid.cli.loading import load_engine, say_context_full
from hybrid.cli.output import note, print_json, say
from hybrid.cli.parser import add_model, need_model
from hybrid.cli.placement_flags import add_placement_flags
from hybrid.cli.prompts import add_sampling_flags, max_tokens, read_prompt, sampling
from hybrid.gguf.reader import GgufFile
from hybrid.runtime.prepare import Prepared, model_path
from hybrid.runtime.prompt import checked, encode
from hybrid.tokenizer.tokenizer import Tokenizer
from placement.report.audit import run_rates

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine
    from hybrid.runtime.stats import RunStats


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "-p",
        "--prompt",
        metavar="TEXT",
        help=r"special tokens written in it are those tokens; \n and the like only with -e",
    )
    parser.add_argument("-f", "--file", metavar="FILE", help="prompt from a file, - for stdin")
    parser.add_argument("--prompt-ids", metavar="1,2,3", help="prompt as token ids")
    parser.add_argument("-e", "--escape", action="store_true", help=r"read \n, \t, \xHH in -p")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    add_audit_flag(parser)
    parser.add_argument(
        "--display-prompt",
        action=argparse.BooleanOptionalAction,
        help="repeat the prompt before the text; left out: on a terminal only",
    )
    add_sampling_flags(parser)
    add_live_flags(parser)
    add_placement_flags(parser)


def run(args: argparse.Namespace) -> int:
    _need_file(args)
    with live_view(args, "run") as live:
        return _continued(args, live)


def _continued(args: argparse.Namespace, live: LiveView) -> int:
    prompt = read_prompt(args)
    drawn = sampling(args)
    prompt_ids: list[int] = []

    def before(prepared: Prepared, tokenizer: Tokenizer | None) -> None:
        ids = encode(prepared, tokenizer, prompt, parse_special=True)
        prompt_ids.extend(checked(prepared, ids, max_tokens(args) or 0))
        if isinstance(prompt, str) and tokenizer and ids[:2] == [tokenizer.bos_id] * 2:
            note("the prompt begins with two begin-of-text tokens: leave out the one in the text")

    engine = load_engine(args, before, live)
    if args.audit:
        say_audit(engine)
    if isinstance(prompt, str) and _shows_prompt(args):
        print(prompt, end="", flush=True)
    tokens = engine.generate(
        prompt_ids, max_tokens=max_tokens(args), ignore_stop=args.ignore_eos, sampling=drawn
    )
    ids: list[int] = []
    texts: list[str] = []
    try:
        for token in tokens:
            ids.append(token.id)
            texts.append(token.text)
            if not args.json:
                shown = token.text if engine.tokenizer else f"{token.id} "
                print(shown, end="", flush=True)
    except KeyboardInterrupt:
        _end_text(args, engine)
        raise
    _end_text(args, engine)
    rates, kept_in = run_rates(engine.stats), args.profiles
    audited = {"audit": say_audit(engine, rates, profiles=kept_in)} if args.audit else {}
    if args.json:
        answer = {"prompt_tokens": prompt_ids, "token_ids": ids, "text": "".join(texts)}
        print_json({**answer, **_summary(engine), "seed": drawn.seed, **audited})
    if engine.finish_reason == "context":
        say_context_full(engine.context_tokens, "-c N reserves more")
    return 0


def _need_file(args: argparse.Namespace) -> None:
    """Raises what opening the model's file would, where it is missing: before a missing prompt."""
    path = model_path(need_model(args))
    if not path.exists():
        GgufFile.open(path).close()


def _end_text(args: argparse.Namespace, engine: "Engine") -> None:
    if not args.json:
        print(flush=True)
        say(timing_line(engine.stats))


def _shows_prompt(args: argparse.Namespace) -> bool:
    if args.json:
        return False
    return sys.stdout.isatty() if args.display_prompt is None else bool(args.display_prompt)


def timing_line(stats: "RunStats") -> str:
    """Tokens and rates of what the engine has done so far."""
    parts = [f"load {stats.load_s:.2f} s", f"prompt {stats.prompt_tokens} tokens"]
    if stats.prompt_tokens_per_s is not None:
        parts[-1] += f" in {stats.prompt_s:.2f} s, {stats.prompt_tokens_per_s:.1f} tok/s"
    if stats.decode_tokens_per_s is not None:
        parts.append(f"decode {stats.decode_tokens_per_s:.1f} tok/s")
    return "; ".join(parts)


def _summary(engine: "Engine") -> dict[str, Any]:
    plan, stats = engine.plan, engine.stats
    return {
        "finish_reason": engine.finish_reason,
        "model": {
            "name": plan.model,
            "architecture": plan.architecture,
            "path": str(engine.prepared.file.path),
            "bytes": plan.model_bytes,
        },
        "timings": {
            "load_s": stats.load_s,
            "prompt_tokens": stats.prompt_tokens,
            "prompt_s": stats.prompt_s,
            "prompt_tokens_per_s": stats.prompt_tokens_per_s,
            "decode_tokens": stats.decode_tokens,
            "decode_s": stats.decode_s,
            "decode_tokens_per_s": stats.decode_tokens_per_s,
            "device_s": stats.device_s,
            "crossing_bytes": stats.crossing_bytes,
        },
        "plan": {
            "context_tokens": plan.workload.context_tokens,
            "ubatch_tokens": plan.workload.ubatch_tokens,
            "cache_format": plan.workload.cache_format,
            "cache_in_ram": plan.workload.cache_in_ram,
            "devices": {use.name: use.total_bytes for use in plan.devices},
            "layers": list(plan.layers),
        },
    }
