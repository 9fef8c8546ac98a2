r"""Regular expressions of rules: checked before use, searched in tensor names, never for long.

They are written for llama.cpp, which compiles them as ECMAScript with POSIX classes ([[:digit:]]);
here they are Python's, which lacks only the classes.
"""

import re
import time
import warnings
from functools import lru_cache

from placement.errors import RuleError

MAX_PATTERN_LENGTH = 1000
SLOW_SEARCH_S = 0.2
# Names of real files are shorter; in a longer one even a few plain repetitions may take hours.
LONG_NAME = 64

_POSIX_CLASS = re.compile(r"\[([.:=])([^\]]+?)\1\]")
_POSIX_MEANING = {
    "digit": "0-9",
    "alpha": "A-Za-z",
    "alnum": "0-9A-Za-z",
    "lower": "a-z",
    "upper": "A-Z",
    "space": r"\s",
    "blank": r" \t",
    "xdigit": "0-9A-Fa-f",
    "punct": r"!-/:-@\[-`{-~",
    "cntrl": r"\x00-\x1f\x7f",
    "graph": "!-~",
    "print": " -~",
    "d": r"\d",
    "w": r"\w",
    "s": r"\s",
}

# how Python's message begins -> what to do
_CURES = {
    "missing )": ("close the bracket: (3|4)", r"where it is meant literally: \("),
    "unbalanced parenthesis": (
        "leave this bracket out, or open it further left: (3|4)",
        r"where it is meant literally: \)",
    ),
    "unterminated character set": ("close the set: [3-9]", r"where it is meant literally: \["),
    "nothing to repeat": (
        "write before it what is to be repeated: .* is any text",
        r"where it is meant literally: \* \+ \?",
    ),
    "multiple repeat": (
        "keep one of the two: .* is any text",
        r"where it is meant literally: \* \+ \?",
    ),
    "min repeat": ("the smaller number comes first: {2,4}",),
    "bad character range": (
        "the lower end comes first: [3-9]",
        r"where the - is meant literally: \-",
    ),
    "bad escape (end": ("leave out the backslash at the end", r"where it is meant literally: \\"),
    "bad escape": ("leave out the backslash", r"where it is meant literally: \\"),
    "invalid group reference": ("write the number without its backslash",),
}
_OTHER_CURE = (r"a backslash before what is meant literally: \( \* \?",)


class SlowSearch(Exception):
    """A search that would not end in good time; the caller knows whose rule it is."""


def quoted(text: str) -> str:
    """As typed, where repr() would double backslashes; what moves the cursor is escaped."""
    short = text if len(text) <= 80 else text[:77] + "..."
    return f"'{short}'" if short.isprintable() else repr(short)


def check_pattern(pattern: str, subject: str) -> None:
    """Raises RuleError, beginning with `subject`, when the pattern cannot be searched."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise RuleError(
            f"{subject} is too long: {len(pattern)} characters, at most {MAX_PATTERN_LENGTH}",
            remedy="split it into several rules; the first match wins",
        )
    try:
        _compiled(pattern)
    except _UnknownClass as error:
        raise RuleError(
            f"{subject}: the class {error.text} at position {error.position} is not known here",
            remedy=f"write the characters out; known are {', '.join(_POSIX_MEANING)}",
        ) from None
    except re.error as error:
        where = "" if error.pos is None else f" at position {error.pos}"
        raise RuleError(
            f"{subject} is not a regular expression: {error.msg}{where}",
            *(_pointer(error.pattern, error.pos)),
            remedy=_cures(error.msg),
        ) from None
    except (OverflowError, RecursionError) as error:
        raise RuleError(
            f"{subject} cannot be compiled: {error}",
            remedy="use smaller repetition counts and fewer nested groups",
        ) from None


@lru_cache(maxsize=1 << 17)  # a plan and each tried remedy ask the same of every tensor
def found(pattern: str, name: str) -> bool:
    """Whether the pattern is found anywhere in the name.

    A search that may take long is tried on growing prefixes first, so that it is caught while still
    quick. Raises SlowSearch.
    """
    regex = _compiled(pattern)
    if _may_explode(pattern) or len(name) > LONG_NAME:
        end = 6
        while end < len(name):
            start_s = time.perf_counter()
            regex.search(name[:end])
            if time.perf_counter() - start_s > SLOW_SEARCH_S:
                raise SlowSearch
            end += max(2, end // 16)
    return regex.search(name) is not None


class _UnknownClass(Exception):
    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "possible nested set" is no news to the user
        return re.compile(_without_posix_classes(pattern))


def _without_posix_classes(pattern: str) -> str:
    """[[:digit:]_] -> [0-9_]; outside of brackets [:digit:] is a set of letters, there and here."""
    if "[" not in pattern:
        return pattern
    pieces = []
    position, inside = 0, False
    while position < len(pattern):
        here = _POSIX_CLASS.match(pattern, position) if inside else None
        step = 2 if pattern[position] == "\\" else 1
        if here:
            pieces.append(_meaning(here))
            position = here.end()
            continue
        if not inside and pattern[position] == "[":
            inside = True
            # a "]" that stands first is one of the set
            step = len(re.match(r"\[\^?\]?", pattern[position:])[0])  # type: ignore[index]
        elif pattern[position] == "]":
            inside = False
        pieces.append(pattern[position : position + step])
        position += step
    return "".join(pieces)


def _meaning(posix: re.Match[str]) -> str:
    kind, name = posix.groups()
    if kind == ":" and name in _POSIX_MEANING:
        return _POSIX_MEANING[name]
    if kind != ":" and len(name) == 1:  # [.x.] and [=x=] are the character itself
        return re.escape(name)
    raise _UnknownClass(posix[0], posix.start())


@lru_cache(maxsize=1024)
def _may_explode(pattern: str) -> bool:
    """A repeated group, or many repetitions: the only ways to exponential or high polynomial time
    on short names.
    """
    return bool(re.search(r"\)[*+{]", pattern)) or len(re.findall(r"[*+}]", pattern)) > 4


def _cures(message: str) -> tuple[str, ...]:
    fitting = (cures for begin, cures in _CURES.items() if message.startswith(begin))
    return next(fitting, _OTHER_CURE)


def _pointer(pattern: str | bytes | None, position: int | None) -> tuple[str, ...]:
    if position is None or not isinstance(pattern, str) or len(pattern) > 90:
        return ()
    return (pattern, " " * position + "^")
