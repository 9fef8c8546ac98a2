"""Flags of llama.cpp and ik_llama.cpp that have no meaning here: accepted, so that command lines of
guides run unchanged, with one line each that says what became of them.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from hybrid.cli.foreign_flag import ForeignFlag
from hybrid.cli.foreign_flag import foreign as _flag
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
    _flag(
        "-mla --mla-use",
        "the latent cache is always used: absorbed for single tokens, expanded for prompts",
        "one",
    ),
    _flag("-fa --flash-attn", _FUSED_ATTENTION, "switch"),
    _flag("-fmoe --fused-moe", "an expert's gate, up and down are one operation already"),
    _flag("-no-fmoe --no-fused-moe --no-fmoe", "an expert's gate, up and down stay one operation"),
    _flag("-rtr --run-time-repack", "weights stay in the file's own blocks"),
    _flag("-nr --no-repack --repack", "weights stay in the file's own blocks"),
    _flag("-ser --smart-expert-reduction", "every chosen expert is computed", "one"),
    _flag(
        "-ctv --cache-type-v", "keys and values share one latent row; -ctk sets its format", "one"
    ),
    _flag("-b --batch-size", "-ub alone sets how many prompt tokens are computed at once", "one"),
    _flag("-tb --threads-batch", "-t sets the threads of prompt and decode", "one"),
    _flag(
        "--repeat-penalty --repeat-last-n --presence-penalty --frequency-penalty",
        "repeated tokens are not penalised",
        "one",
    ),
    _flag("-cb --cont-batching -nocb --no-cont-batching", "one sequence is computed at a time"),
    _flag("--no-context-shift --context-shift", "text ends where the context ends"),
    _flag("--prio --poll", "threads keep the system's own priority", "one"),
    _flag("--swa-full --verbose-prompt --offline", "nothing here depends on it"),
    _flag("--mlock", "weights are copied into memory of our own"),
    _flag("-dio --direct-io", _HOST),
    _flag("-thp --transparent-huge-pages", _HOST),
    _flag("-lm --load-mode", _HOST, "one"),
    _flag("--no-host", _HOST),
    _flag("--defer-experts", _HOST),
    _flag("--prefetch-experts", _HOST),
    _flag("-op --offload-policy", _STREAM, "one"),
    _flag("--op-offload --no-op-offload", _STREAM),
    _flag("-ooae --offload-only-active-experts", _STREAM),
    _flag("-no-ooae --no-offload-only-active-experts", _STREAM),
    _flag("-cuda --cuda-params", _STREAM, "one"),
    _flag("-muge --merge-up-gate-experts", _FUSED),
    _flag("-mqkv --merge-qkv", _FUSED),
    _flag(
        "-gr --graph-reuse -no-gr --no-gr --no-graph-reuse",
        "decode steps on GPUs are captured graphs, always reused",
    ),
    _flag("-ger --grouped-expert-routing", "experts are chosen as the model was trained"),
    _flag("-no-fug --no-fug --no-fused-up-gate", _FUSED),
    _flag("-no-mmad --no-mmad --no-fused-mul-multiadd", _FUSED),
    _flag("-khad --k-cache-hadamard -vhad --v-cache-hadamard", _CACHE),
    _flag("-dt --defrag-thold", _CACHE, "one"),
    _flag("-sas --scheduler-async --scheduler_async", _GRAPH),
    _flag("-smf16 --split-mode-f16 -smf32 --split-mode-f32", _GRAPH),
    _flag("-smgs --split-mode-graph-scheduling", _GRAPH),
    _flag("-grt --graph-reduce-type --max-gpu", _GRAPH, "one"),
    _flag("-vq --validate-quants --check-tensors", "blocks are read as they are in the file"),
    _flag("-wb --warmup-batch", "GPUs are rehearsed at every load"),
    _flag("--no-fa --no-flash-attn", _FUSED_ATTENTION),
    _flag("-kvu --kv-unified", "one sequence is cached, layer by layer"),
    _flag("-cram --cache-ram", "one sequence is cached; a common beginning is reused", "one"),
    _flag("--keep", "nothing is dropped from a full context; generation ends there", "one"),
    _flag("-fit --fit", _FIT, "switch"),
    _flag("-fitc --fit-ctx", _FIT, "one"),
    _flag("-gfm --gpu-fit-margin -wgt --worst-graph-tokens", _FIT, "one"),
    _flag("-dr --dry-run", "`hybrid plan` is the dry run; this command goes on"),
    _flag("--no-warmup --warmup", "`bench` always warms up; GPUs are rehearsed at every load"),
    _flag("-cnv --conversation", _CHAT),
    _flag("-no-cnv --no-conversation", _CHAT),
    _flag("-st --single-turn", _CHAT),
    _flag("--jinja --no-jinja", "chat templates are always rendered by jinja"),
    _flag("-co --color", _TERMINAL, "switch"),
    _flag("--simple-io", _TERMINAL),
    _flag("--no-escape", "-p is taken literally unless -e is given"),
    _flag("--perf --no-perf", "timings are always printed to stderr"),
    _flag("-v --verbose", _TERMINAL),
    _flag("--log-disable", _TERMINAL),
    *PROGRAM_FLAGS,
)


def add_foreign_flags(parser: argparse.ArgumentParser) -> None:
    """All of them that the command does not define itself; add them last."""
    group = parser.add_argument_group("accepted for llama.cpp's and ik_llama.cpp's sake")
    group.description = "Without effect; each says on stderr what stands in its place."
    parser.set_defaults(foreign_notes=())
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
        line = f"{typed} has no effect here: {self.flag.became}"
        namespace.foreign_notes = (*namespace.foreign_notes, line)
