"""How llama.cpp and ik_llama.cpp place tensors by -ngl, -ts, -ot, -cmoe and -ncmoe: written from a
description of their code, for tests of what we say to them.

    -ot      split at commas, then at the first "="; std::regex_search; the first match wins
    -ngl     llama.cpp: the last n of blocks and head;  ik_llama.cpp: the last n blocks, the head
             with them when n is larger than their number
    -ts      running sums over their total; a layer's share is (layer - first) / offloaded layers
    -ncmoe   llama.cpp: the first n blocks, in the order of flags;  ik_llama.cpp: the last n blocks
             of one GPU, behind all -ot
"""

import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

EXPERTS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"


@dataclass
class Line:
    """What the words of a command line say."""

    layers: int
    gpu_layers: int = 999
    split: tuple[float, ...] = ()
    rules: list[tuple[str, str]] = field(default_factory=list)
    late: list[tuple[str, str]] = field(default_factory=list)


def read(words: Sequence[str], layers: int, program: str) -> Line:
    line = Line(layers)
    pairs = zip(words, [*words[1:], ""], strict=True)
    for word, value in pairs:
        if word in ("-ngl", "--n-gpu-layers"):
            line.gpu_layers = int(value)
        elif word in ("-ts", "--tensor-split"):
            line.split = tuple(float(part) for part in re.split("[,/]", value))
        elif word in ("-ot", "--override-tensor"):
            for piece in value.split(","):
                pattern, _, device = piece.partition("=")
                line.rules.append((pattern, device))
        elif word in ("-cmoe", "--cpu-moe"):
            line.rules.append((EXPERTS, "CPU"))
        elif word in ("-ncmoe", "--n-cpu-moe"):
            first = 0 if program == "llama.cpp" else layers - int(value)
            numbers = range(max(first, 0), max(first, 0) + int(value))
            target = line.rules if program == "llama.cpp" else line.late
            target += [(rf"blk\.{number}{EXPERTS}", "CPU") for number in numbers]
    return line


def device_of(name: str, line: Line, program: str, gpus: Sequence[str]) -> str:
    for pattern, device in (*line.rules, *line.late):
        if re.search(pattern, name):
            return device
    if name.startswith("token_embd"):
        return "CPU"
    found = re.match(r"blk\.(\d+)\.", name)
    layer = int(found[1]) if found else line.layers
    return layer_device(layer, line, program, gpus)


def layer_device(layer: int, line: Line, program: str, gpus: Sequence[str]) -> str:
    """Of a block; `line.layers` stands for the head."""
    count, wanted = line.layers, line.gpu_layers
    offloaded = min(wanted, count + 1)
    if program == "llama.cpp":
        first = max(count + 1 - wanted, 0)
        place = layer - first
    else:
        first = max(count - wanted, 0)
        if layer == count and wanted <= count:
            return "CPU"
        place = offloaded - 1 if layer == count else layer - first
    if layer < first or not offloaded or not gpus:
        return "CPU"
    split = (*line.split, *[0.0] * len(gpus))[: len(gpus)] if line.split else (1.0,) * len(gpus)
    total, ends = 0.0, []
    for part in split:
        total = single(total + part)
        ends.append(total)
    ends = [single(end / total) for end in ends]
    return gpus[min(bisect_right(ends, single(place / offloaded)), len(gpus) - 1)]


def single(value: float) -> float:
    """Rounded to float32, as these programs compute."""
    return struct.unpack("f", struct.pack("f", value))[0]
