"""argparse in our manner: errors as UsageError, no abbreviations, did-you-mean, the model as a flag
or a bare word.
"""

import argparse
import shlex
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hybrid.cli.flag_hints import unknown_flag
from hybrid.cli.foreign_flags import NoteAction
from hybrid.errors import UsageError
from hybrid.runtime.options import MAX_THREADS
from placement.units import token_count

MAX_COUNT = 1 << 62
DEMO = "demo"  # the model included, as `hybrid.runtime.prepare` knows it


class Parser(argparse.ArgumentParser):
    """One command's flags."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"hybrid {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The parsed flags; one bare word is the model.

        Raises UsageError for anything that is not understood.
        """
        args, rest = self.parse_known_args([self._with_dashes(word) for word in words])
        rest = [word for word in rest if word != "--"]
        for word in rest:
            if word.startswith("-") and word != "-":
                raise self._unknown_flag(word)
        if rest and hasattr(args, "model") and args.model is None:
            args.model = rest.pop(0)
        if rest:
            raise self._nothing_takes(rest[0], getattr(args, "model", None))
        return args

    def _nothing_takes(self, word: str, model: str | None) -> UsageError:
        """A word too many."""
        if model is not None and (word == DEMO or word.lower().endswith(".gguf")):
            return UsageError(
                f"two models are given: {model} and {word}",
                f"{self.prog} takes one: -m MODEL, or a bare word",
                remedy=[f"{self.prog} {shlex.quote(one)}" for one in dict.fromkeys((model, word))],
            )
        return UsageError(
            f"{word!r} is not a flag and nothing here takes it",
            remedy=f"{self.prog} --help; quote texts with blanks: -p 'Once upon a time'",
        )

    def _with_dashes(self, word: str) -> str:
        """--ctx_size as --ctx-size, which llama.cpp takes for the same."""
        flag, equals, value = word.partition("=")
        dashed = flag.replace("_", "-")
        known = self._option_string_actions
        is_theirs = flag.startswith("--") and flag not in known and dashed in known
        return f"{dashed}{equals}{value}" if is_theirs else word

    def error(self, message: str) -> NoReturn:
        remedy = [f"{self.prog} --help"]
        if "expected" in message:
            remedy = [*self._with_value(message), *remedy]
            remedy.append("write FLAG=VALUE for a value that begins with -")
        raise UsageError(message.removeprefix("argument "), remedy=remedy)

    def _with_value(self, message: str) -> list[str]:
        """What to write in place of a flag alone: "--metrics PORT"."""
        name = message.removeprefix("argument ").partition(":")[0].rpartition("/")[2]
        action = self._option_string_actions.get(name)
        return [f"{name} {action.metavar}"] if action and isinstance(action.metavar, str) else []

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        # argparse would read -muge as -m uge: a one-letter flag glued to its value.
        return []

    def _unknown_flag(self, word: str) -> UsageError:
        flag = word.partition("=")[0]
        actions = self._option_string_actions.items()
        known = [name for name, action in actions if not isinstance(action, NoteAction)]
        return unknown_flag(flag, known, f"{self.prog} --help")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", "--model", metavar="MODEL", help="GGUF file, any part of a split one, or `demo`"
    )


def need_model(args: argparse.Namespace) -> str:
    """-m or the bare word. Raises UsageError without one."""
    plan = getattr(args, "plan", None)
    if not args.model and plan:
        raise UsageError(
            "no model is given",
            f"the plan {plan} says where tensors go and names no file",
            remedy=f"-m MODEL --plan {plan}",
        )
    if not args.model:
        raise UsageError("no model is given", remedy=["-m FILE.gguf", "-m demo"])
    return str(args.model)


def whole(least: int, most: int = MAX_COUNT) -> Callable[[str], int]:
    """An argparse type: a whole number within bounds."""

    def read(text: str) -> int:
        digits = text.strip().removeprefix("-")
        number = int(text) if digits.isdecimal() and len(digits) <= 20 else None
        if number is None or not least <= number <= most:
            upper = f" and at most {most}" if most < MAX_COUNT else ""
            raise argparse.ArgumentTypeError(
                f"{text[:40]!r} is not a whole number of at least {least}{upper}"
            )
        return number

    return read


def tokens(least: int) -> Callable[[str], int]:
    """An argparse type: a number of tokens, 32768 or 32k."""

    def read(text: str) -> int:
        number = token_count(text.strip())
        return whole(least)(text if number is None else str(number))

    return read


def threads(text: str) -> int | None:
    """An argparse type: how many; None for llama.cpp's -1, as many as there are cores."""
    return _or_minus_one(text, MAX_THREADS)


def whole_or_all(text: str) -> int | None:
    """An argparse type: how many; None for llama.cpp's -1, all."""
    return _or_minus_one(text, MAX_COUNT)


def _or_minus_one(text: str, most: int) -> int | None:
    try:
        return None if text.strip() == "-1" else whole(1, most)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor -1") from None


def real(text: str) -> float:
    """An argparse type: a number; its bounds are checked where it is used."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number") from None
