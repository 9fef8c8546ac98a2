"""What `run`, `chat`, `bench` and `perplexity` share: the plan said first, then the model loaded
under a progress bar.
"""

import argparse
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from hybrid.cli.live_flags import LiveView
from hybrid.cli.output import note, notes, say
from hybrid.cli.parser import need_model
from hybrid.cli.placement_flags import load_options
from hybrid.cli.progress import progress_bar
from hybrid.runtime.machine_here import need_machine_here
from hybrid.runtime.prepare import Prepared, prepare
from hybrid.runtime.prompt import open_tokenizer
from hybrid.tokenizer.tokenizer import Tokenizer
from placement.machines.machine import CPU
from placement.memory.file_map import without_map
from placement.plan import PlacementPlan
from placement.report.device_memory import with_mark
from placement.report.text import cache_text
from placement.units import format_bytes

if TYPE_CHECKING:
    from hybrid.runtime.engine import Engine

# Half a minute the first time on a machine, when they are compiled.
PREPARING = "preparing the GPUs' kernels"


def load_engine(
    args: argparse.Namespace,
    before: Callable[[Prepared, Tokenizer | None], object] | None = None,
    live: LiveView | None = None,
) -> "Engine":
    """Print notes and the plan's short form on stderr, then load.

    before   called when all but the weights is there: the last chance to find a mistake early
    live     told of the plan, of bytes read and of the engine
    """
    live = live or LiveView.unseen()
    model = need_model(args)
    options, heard = load_options(args)
    need_machine_here(options.machine)
    options = replace(options, sequences=1)
    notes(heard)
    prepared = prepare(model, options)
    prepared.file.require_data()
    notes(prepared.notes)
    say(short_plan(prepared.plan))
    say(f"  kernels on the CPU: {prepared.kernels.text()}")
    tokenizer = open_tokenizer(prepared, options.conventions)
    if before is not None:
        before(prepared, tokenizer)
    live.planned(prepared)
    # torch takes 1.5 s to import: mistakes in flags, file or plan are told before it.
    with interrupts_held():
        from hybrid.runtime.load import load_prepared  # noqa: PLC0415

    on_gpus = any(home != CPU for home in prepared.plan.layers)
    with progress_bar("loading", "bytes") as bar:

        def report(done: int, total: int) -> None:
            preparing = on_gpus and done == total
            bar(done, total, PREPARING if preparing else "")
            live.loading(done, total)

        engine = load_prepared(prepared, tokenizer, options, report)
    heard_of_engine = engine.notes
    notes(heard_of_engine)
    live.loaded(engine, heard_of_engine)
    return engine


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C inside counts at the end: torch's import loses it, or aborts the process."""
    came = []
    try:
        before = signal.signal(signal.SIGINT, lambda *_: came.append(True))
    except ValueError:  # only the main thread has a say about signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def short_plan(plan: PlacementPlan) -> str:
    """One line for the model, one per device in use."""
    load = plan.workload
    lines = [
        f"{plan.model} ({plan.architecture}), {format_bytes(plan.model_bytes)}, context "
        f"{load.context_tokens}, micro-batch {load.ubatch_tokens}, cache {cache_text(load)}"
    ]
    names = [with_mark(use.name, simulated=use.simulated) for use in plan.devices]
    width = max(map(len, names))
    for name, use in zip(names, plan.devices, strict=True):
        if use.total_bytes:
            parts = f"weights {format_bytes(use.weights_bytes)}, cache "
            parts += f"{format_bytes(use.cache_bytes)}, compute {format_bytes(use.compute_bytes)}"
            parts += f", other {format_bytes(use.other_bytes)}" if use.other_bytes else ""
            budget = format_bytes(without_map(plan, use).budget_bytes)
            lines.append(f"  {name:{width}}  {parts}; {format_bytes(use.total_bytes)}/{budget}")
    return "\n".join(lines)


def say_context_full(context_tokens: int, remedy: str) -> None:
    """One line for a text that ended because no token more fits."""
    note(f"the text ends here: all {context_tokens} tokens of context are used; {remedy}")


def say_when_nearly_full(used_tokens: int, context_tokens: int, remedy: str) -> None:
    """One line when less than an eighth of the context is left."""
    if used_tokens > context_tokens - context_tokens // 8:
        note(f"{used_tokens} of {context_tokens} tokens of context are used; {remedy}")
