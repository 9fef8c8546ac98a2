"""Many tensors in few words: "blk.3-60.ffn_{gate,up,down}_exps" for 174 names."""

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix

MOST_KINDS = 6  # that are named of the tensors of one block

_IN_BLOCK = re.compile(r"blk\.([0-9]+)\.(.+)")


def number_ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers with runs joined: "0-2, 5, 7-9"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def layers_text(numbers: Iterable[int]) -> str:
    """Blocks as a sentence names them: "layer 3", "layers 3-5, 9"."""
    ranges = number_ranges(numbers)
    return f"layer{'' if ranges.isdecimal() else 's'} {ranges}"


def device_ranges(names: Sequence[str]) -> str:
    """Device names with runs of GPUs joined: "CPU, CUDA0-15"."""
    gpus = [int(name[4:]) for name in names if name.startswith("CUDA")]
    others = [name for name in names if not name.startswith("CUDA")]
    return ", ".join([*others, *([f"CUDA{number_ranges(gpus)}"] if gpus else [])])


def family(name: str) -> str:
    """The name without its block and without ".weight": what it has in common with its likes in
    other blocks.
    """
    found = _IN_BLOCK.fullmatch(name)
    return (found[2] if found else name).removesuffix(".weight")


def name_ranges(names: Iterable[str]) -> list[str]:
    """All names, compressed; in the order in which each kind appears first."""
    layers: dict[str, list[int]] = {}
    outside: list[str] = []
    for name in names:
        found = _IN_BLOCK.fullmatch(name)
        if found:
            layers.setdefault(family(name), []).append(int(found[1]))
        else:
            outside.append(family(name))
    alike: dict[str, list[str]] = {}
    for kind, numbers in layers.items():
        alike.setdefault(number_ranges(numbers).replace(", ", ","), []).append(kind)
    inside = [f"blk.{numbers}.{joined(kinds)}" for numbers, kinds in alike.items()]
    return [*inside, *dict.fromkeys(outside)]


def joined(words: Iterable[str]) -> str:
    """Words as a shell would expand them: ["ffn_up_exps", "ffn_down_exps"] ->
    "ffn_{up,down}_exps"; whole words between underscores only.
    """
    unlike = list(dict.fromkeys(words))
    if len(unlike) == 1:
        return unlike[0]
    pieces = [word.split("_") for word in unlike]
    shortest = min(map(len, pieces))
    first = len(commonprefix(pieces))
    last = min(len(commonprefix([piece[::-1] for piece in pieces])), shortest - first)
    middles = ["_".join(piece[first : len(piece) - last]) for piece in pieces]
    if "" in middles:
        return _listed(unlike)
    head, tail = pieces[0][:first], pieces[0][len(pieces[0]) - last :]
    return "_".join([*head, _listed(middles), *tail])


def _listed(words: list[str]) -> str:
    """In braces, as many as a line holds, then how many more: "{attn_q,attn_k,+7}"."""
    more = len(words) - MOST_KINDS
    shown = words if more <= 0 else [*words[: MOST_KINDS - 1], f"+{more + 1}"]
    return "{" + ",".join(shown) + "}"


def number_pattern(numbers: Iterable[int]) -> str:
    """A regular expression for exactly these numbers below 1000: [8, 9, 10, 11] -> "([89]|1[01])".

    Numbers that differ in the last digit only are one alternative.
    """
    tens: dict[str, list[int]] = {}
    for number in sorted(set(numbers)):
        tens.setdefault(str(number)[:-1], []).append(number % 10)
    alike: dict[tuple[int, ...], list[str]] = {}
    for start, digits in tens.items():
        alike.setdefault(tuple(digits), []).append(start)
    pieces = []
    for last, starts in alike.items():
        for head in _merged(starts):
            pieces.append(head + _digits(last))
    return pieces[0] if len(pieces) == 1 else f"({'|'.join(pieces)})"


def _merged(starts: Iterable[str]) -> list[str]:
    """Beginnings of one digit as one set: ["", "1", "2"] -> ["", "[12]"]."""
    single = [int(start) for start in starts if len(start) == 1]
    merged = [start for start in starts if len(start) != 1]
    return [*merged, _digits(single)] if single else merged


def _digits(digits: Iterable[int]) -> str:
    """One digit as it is, several as a set: "5", "[34]", "[3-9]"."""
    shown = [str(digit) for digit in digits]
    if len(shown) > 3 and int(shown[-1]) - int(shown[0]) == len(shown) - 1:
        shown = [shown[0], "-", shown[-1]]
    return shown[0] if len(shown) == 1 else f"[{''.join(shown)}]"
