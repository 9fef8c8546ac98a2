"""The prompt: from -p, a file, a pipe, or as token ids. And how tokens are drawn."""

import argparse
import re
import secrets
import sys
from pathlib import Path
from typing import BinaryIO

from hybrid.cli.parser import real, whole
from hybrid.errors import UsageError
from hybrid.runtime.options import MAX_SEED, SamplingOptions

LIMIT_BYTES = 256 << 20  # more than any context holds; /dev/zero ends here too
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{2}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--temp", "--temperature", type=real, default=0.8, metavar="T", help="0 is greedy (0.8)"
    )
    group.add_argument("--top-k", type=whole(0), default=40, metavar="K", help="0 keeps all (40)")
    group.add_argument("--top-p", type=real, default=0.95, metavar="P", help="1 keeps all (0.95)")
    group.add_argument("--min-p", type=real, default=0.05, metavar="P", help="0 keeps all (0.05)")
    group.add_argument(
        "-s",
        "--seed",
        type=whole(-1, MAX_SEED),
        default=-1,
        metavar="N",
        help="the same seed gives the same text; -1: a fresh one",
    )
    group.add_argument("--ignore-eos", action="store_true", help="go on past stop tokens")
    group.add_argument(
        "-n",
        "--predict",
        "--n-predict",
        type=whole(-1),
        default=-1,
        metavar="N",
        help="tokens to generate; -1, the default: until the model stops or the context is full",
    )


def sampling(args: argparse.Namespace) -> SamplingOptions:
    """How tokens are drawn; a fresh seed is drawn here so that it can be told.

    Raises UsageError for a value out of range.
    """
    return SamplingOptions(
        temperature=args.temp,
        top_k=args.top_k,
        top_p=args.top_p,
        min_p=args.min_p,
        seed=secrets.randbits(32) if args.seed < 0 else args.seed,
    )


def max_tokens(args: argparse.Namespace) -> int | None:
    return None if args.predict < 0 else int(args.predict)


def read_prompt(args: argparse.Namespace) -> str | list[int]:
    """The prompt that the flags name, else stdin's when it is not a terminal.

    A file's last line end is left out, as in llama.cpp. Raises UsageError for none, an empty or an
    unreadable one, or more than one.
    """
    given = [args.prompt, args.file, args.prompt_ids]
    if sum(value is not None for value in given) > 1:
        raise UsageError("more than one prompt", remedy="one of -p TEXT, -f FILE, --prompt-ids IDS")
    if args.prompt_ids is not None:
        return _ids(args.prompt_ids)
    if args.prompt is not None:
        text = args.prompt
    elif args.file is None and sys.stdin.isatty():
        raise UsageError("no prompt is given", remedy=["-p TEXT", "-f FILE", "-f - for stdin"])
    else:
        text = read_text(args.file or "-").removesuffix("\n")
    if args.escape:
        text = _ESCAPE.sub(_unescaped, text)
    if not text:
        raise UsageError("the prompt is empty", remedy="give at least one letter: -p TEXT")
    return str(text)


def read_text(path: str) -> str:
    """A UTF-8 file, "-" for stdin. Raises UsageError naming the file, and the byte when it is not
    UTF-8.
    """
    name = "stdin" if path == "-" else path
    try:
        if path == "-":
            data = _limited(sys.stdin.buffer, name)
        else:
            with Path(path).open("rb") as file:
                data = _limited(file, name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"{name} cannot be read: {reason}", remedy="-f takes a readable text file, - for stdin"
        ) from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text",
            f"byte {error.start} is 0x{data[error.start]:02x}: {error.reason}",
            remedy="convert it: iconv -f LATIN1 -t UTF-8",
        ) from error


def _limited(file: BinaryIO, name: str) -> bytes:
    data = file.read(LIMIT_BYTES + 1)
    if len(data) > LIMIT_BYTES:
        raise UsageError(
            f"{name} holds more than {LIMIT_BYTES >> 20} MiB of text", remedy="give a part of it"
        )
    return data


def _ids(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    if not words:
        raise UsageError("the prompt is empty", remedy="--prompt-ids 0,1,2")
    if wrong := [word for word in words if not (word.isdecimal() and len(word) < 12)]:
        raise UsageError(f"{wrong[0][:40]!r} is not a token id", remedy="--prompt-ids 0,1,2")
    return [int(word) for word in words]


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) == 3:
        return chr(int(code[1:], 16))
    return _ESCAPED.get(code, found[0])
