"""`hybrid COMMAND ...`: the table of commands, and the one place where errors become exit codes.

A command's module is imported only when that command is asked for: `hybrid --help` and
`hybrid plan` never import torch. This is the only file that reads environment variables.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

import hybrid
from hybrid.cli.failures import as_reported, report
from hybrid.cli.output import abandon_broken_streams, prepare_streams
from hybrid.cli.parser import Parser
from hybrid.errors import GpuLost, UsageError
from hybrid.live.socket_folder import run_folders
from placement.machines.profile import profile_folder

COMMANDS = {
    "run": "continue a prompt",
    "chat": "talk with the model",
    "plan": "show what would lie on which device, without loading",
    "inspect": "show what a GGUF file holds",
    "bench": "measure tokens per second of prompts and decoding",
    "perplexity": "measure the model on a text",
    "top": "watch a run that lives: where its time goes, what each device holds",
    "doctor": "show what was found of this machine and from where",
}
# These only tell: whoever has read enough of it may go, as `head` does.
TELLING = ("plan", "inspect", "doctor", "help", "-h", "--help", "--version")
NOBODY_READS = 141  # 128 + SIGPIPE, as shells report it
USAGE = "usage: hybrid COMMAND [MODEL] [flags]      hybrid COMMAND --help"


class Command(Protocol):
    """A command's module."""

    def add_arguments(self, parser: Parser) -> None: ...

    def run(self, args: object) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line.

    returns  0; 1 when something failed, 2 when the command line is wrong, 130 after Ctrl-C, 141
             when nobody reads on what a command tells
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    # CUDA counts the fastest GPU first unless told; plans and rules count as NVML does.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    prepare_streams()
    try:
        code = _run(words)
        sys.stdout.flush()
    except SystemExit as finished:  # argparse's way out of --help
        code = int(finished.code or 0)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the last stop of every error
        if isinstance(error, BrokenPipeError) and (not words or words[0] in TELLING):
            code = NOBODY_READS
        else:
            code = _reported(error, with_traceback="--traceback" in words)
        if isinstance(error, Exception) and isinstance(as_reported(error), GpuLost):
            abandon_broken_streams()
            os._exit(code)  # while the traceback keeps alive what can no longer be freed
    abandon_broken_streams()
    return code


def _run(words: list[str]) -> int:
    if not words:
        print(help_text())
        return 2
    name, flags = words[0], words[1:]
    if name in ("-h", "--help", "help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"hybrid {hybrid.__version__}")
        return 0
    if name not in COMMANDS:
        raise _unknown_command(name)
    command = cast(Command, importlib.import_module(f"hybrid.cli.{name}"))
    parser = Parser(name, COMMANDS[name])
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    parser.set_defaults(
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
        profiles=profile_folder(os.environ.get("XDG_CACHE_HOME")),
        run_folders=run_folders(os.environ.get("XDG_RUNTIME_DIR")),
    )
    command.add_arguments(parser)
    return command.run(parser.read(flags))


def help_text() -> str:
    width = max(map(len, COMMANDS))
    commands = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            USAGE,
            "",
            *commands,
            "",
            "MODEL is a GGUF file, any part of a split one, or `demo`, a small model included.",
            "",
            "  hybrid plan demo",
            "  hybrid run demo -p 'Once upon a time' -n 64",
        ]
    )


def _unknown_command(name: str) -> UsageError:
    if name.startswith("-"):
        return UsageError(f"the command comes before {name}", remedy=f"hybrid run {name} ...")
    near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
    remedy = [f"hybrid {near[0]}"] if near else []
    return UsageError(
        f"unknown command {name[:60]!r}", remedy=[*remedy, f"one of {', '.join(COMMANDS)}"]
    )


def _reported(error: BaseException, *, with_traceback: bool) -> int:
    try:
        return report(error, with_traceback=with_traceback)
    except OSError:  # stderr is gone too: nobody is left to tell
        return 1
