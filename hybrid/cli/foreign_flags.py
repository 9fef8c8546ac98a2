"""Flags of llama.cpp and ik_llama.cpp that have no meaning here: accepted, so that command lines of
guides run unchanged, with a note that says what became of them.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from hybrid.cli.foreign_flag import ForeignFlag, ForeignUse, foreign, harmless
from hybrid.cli.foreign_program_flags import PROGRAM_FLAGS

ON_OFF = ("on", "off", "auto", "0", "1")


_CACHE = "cache rows are kept as they are computed; -ctk sets their format"
_GRAPH = "blocks are not divided over GPUs: only one token's activations go from one to the next"
_FUSED = "tensors are used as they stand in the file"
_FUSED_ATTENTION = "attention always runs fused, but for --kernels exact on GPUs"
_TERMINAL = "text goes to stdout, everything else to stderr"
_CHAT = "`hybrid chat` is the conversation, `hybrid run` the bare prompt"
_HOST = "host memory has huge pages and a NUMA policy; --mmap leaves weights in the file's map"
_STREAM = (
    "long micro-batches (-ub) bring experts in RAM to the GPUs, short ones leave them; see `plan`"
)
_FIT = "the plan always fits or says what would; see `hybrid plan`"

FLAGS = (
    harmless(
        "-mla --mla-use",
        "the latent cache is always used: absorbed for single tokens, expanded for prompts",
        "one",
    ),
    harmless("-fa --flash-attn", _FUSED_ATTENTION, "switch"),
    harmless("-fmoe --fused-moe", "an expert's gate, up and down are one operation already"),
    harmless(
        "-no-fmoe --no-fused-moe --no-fmoe", "an expert's gate, up and down stay one operation"
    ),
    harmless("-rtr --run-time-repack", "weights stay in the file's own blocks"),
    harmless("-nr --no-repack --repack", "weights stay in the file's own blocks"),
    foreign("-ser --smart-expert-reduction", "every chosen expert is computed", "one"),
    foreign(
        "-ctv --cache-type-v", "keys and values share one latent row; -ctk sets its format", "one"
    ),
    harmless(
        "-b --batch-size", "-ub alone sets how many prompt tokens are computed at once", "one"
    ),
    foreign("-tb --threads-batch", "-t sets the threads of prompt and decode", "one"),
    foreign(
        "--repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty",
        "repeated tokens are not penalised",
        "one",
    ),
    harmless("-cb --cont-batching -nocb --no-cont-batching", "one sequence is computed at a time"),
    harmless("--no-context-shift", "text ends where the context ends"),
    foreign("--context-shift", "text ends where the context ends"),
    harmless("--prio --poll", "threads keep the system's own priority", "one"),
    harmless("--swa-full --verbose-prompt --offline", "nothing here depends on it"),
    harmless("--mlock", "weights are copied into memory of our own"),
    harmless("-dio --direct-io", _HOST),
    harmless("-thp --transparent-huge-pages", _HOST),
    foreign("-lm --load-mode", _HOST, "one"),
    harmless("--no-host", _HOST),
    harmless("--defer-experts", _HOST),
    harmless("--prefetch-experts", _HOST),
    foreign("-op --offload-policy", _STREAM, "one"),
    foreign("--op-offload --no-op-offload", _STREAM),
    foreign("-ooae --offload-only-active-experts", _STREAM),
    foreign("-no-ooae --no-offload-only-active-experts", _STREAM),
    foreign("-cuda --cuda-params", _STREAM, "one"),
    harmless("-muge --merge-up-gate-experts", _FUSED),
    harmless("-mqkv --merge-qkv", _FUSED),
    harmless(
        "-gr --graph-reuse -no-gr --no-gr --no-graph-reuse",
        "decode steps on GPUs are captured graphs, always reused",
    ),
    foreign("-ger --grouped-expert-routing", "experts are chosen as the model was trained"),
    harmless("-no-fug --no-fug --no-fused-up-gate", _FUSED),
    harmless("-no-mmad --no-mmad --no-fused-mul-multiadd", _FUSED),
    foreign("-khad --k-cache-hadamard -vhad --v-cache-hadamard", _CACHE),
    harmless("-dt --defrag-thold", _CACHE, "one"),
    harmless("-sas --scheduler-async --scheduler_async", _GRAPH),
    harmless("-smf16 --split-mode-f16 -smf32 --split-mode-f32", _GRAPH),
    harmless("-smgs --split-mode-graph-scheduling", _GRAPH),
    harmless("-grt --graph-reduce-type --max-gpu", _GRAPH, "one"),
    foreign("-vq --validate-quants --check-tensors", "blocks are read as they are in the file"),
    harmless("-wb --warmup-batch", "GPUs are rehearsed at every load"),
    harmless("--no-fa --no-flash-attn", _FUSED_ATTENTION),
    harmless("-kvu --kv-unified", "one sequence is cached, layer by layer"),
    harmless("-cram --cache-ram", "one sequence is cached; a common beginning is reused", "one"),
    foreign("--keep", "nothing is dropped from a full context; generation ends there", "one"),
    harmless("-fit --fit", _FIT, "switch"),
    foreign("-fitc --fit-ctx", _FIT, "one"),
    foreign("-gfm --gpu-fit-margin -wgt --worst-graph-tokens", _FIT, "one"),
    foreign("-dr --dry-run", "`hybrid plan` is the dry run; this command goes on"),
    harmless("--no-warmup --warmup", "`bench` always warms up; GPUs are rehearsed at every load"),
    foreign("-cnv --conversation", _CHAT),
    foreign("-no-cnv --no-conversation", _CHAT),
    foreign("-st --single-turn", _CHAT),
    harmless("--jinja", "chat templates are always rendered by jinja"),
    foreign("--no-jinja", "chat templates are always rendered by jinja"),
    harmless("-co --color", _TERMINAL, "switch"),
    harmless("--simple-io", _TERMINAL),
    harmless("--no-escape", "-p is taken literally unless -e is given"),
    harmless("--perf --no-perf", "timings are always printed to stderr"),
    harmless("-v --verbose", _TERMINAL),
    harmless("--log-disable", _TERMINAL),
    *PROGRAM_FLAGS,
)


def add_foreign_flags(parser: argparse.ArgumentParser) -> None:
    """All of them that the command does not define itself; add them last."""
    group = parser.add_argument_group("accepted for llama.cpp's and ik_llama.cpp's sake")
    group.description = "Without effect; a note on stderr names those that are given."
    parser.set_defaults(foreign_uses=())
    own = parser._option_string_actions  # argparse has no other way to ask
    for flag in FLAGS:
        names = [name for name in flag.names if name not in own]
        if names:
            add_foreign_flag(group, flag, names)


def add_foreign_flag(
    group: argparse._ArgumentGroup, flag: ForeignFlag, names: Sequence[str]
) -> None:
    """One of them under `names`, which are not all of its own where the command has some."""
    group.add_argument(
        *names,
        action=NoteAction,
        flag=flag,
        nargs={"none": 0, "one": None, "switch": "?"}[flag.value],
        choices=ON_OFF if flag.value == "switch" else None,
        metavar=None if flag.value == "none" else "X",
        dest=argparse.SUPPRESS,
        help=flag.became,
    )


class NoteAction(argparse.Action):
    """Collects what to tell the user, in the order of the command line."""

    def __init__(self, *, flag: ForeignFlag, **settings: Any) -> None:
        super().__init__(**settings)
        self.flag = flag

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        typed = f"{option_string} {values}" if isinstance(values, str) else str(option_string)
        namespace.foreign_uses = (*namespace.foreign_uses, ForeignUse(typed, self.flag))
