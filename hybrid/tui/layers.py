"""Where each layer's attention and experts live, and what they take: a column per layer.

              0         10        20        30        40        50        60
    attention 0000000000000001111111111111112222222222222223333333333333333
    time      ▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃
    experts   ---CCCCCCCCCCCC000CCCCCCCCCCCC111CCCCCCCCCCCC222CCCCCCCCCCCC333
    time         ▇▇▇▇▇▇▇▇▇▇▇▇▁▁▁▇▇▇▇▇▇▇▇▇▇▇▇▁▁▁▇▇▇▇▇▇▇▇▇▇▇▇▁▁▁▇▇▇▇▇▇▇▇▇▇▇▇▁▁▁

More layers than columns share a column (their time is the mean); fewer get several each.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from hybrid.live.snapshot import LayerView, Snapshot
from hybrid.tui.amounts import ms
from hybrid.tui.bars import coloured, folded, heights
from hybrid.tui.lines import Line, fitted, joined
from hybrid.tui.look import Look, heat_name

NAME = 10
MIXED, NONE, UNKNOWN = "+", "-", "?"
GPU_LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"
MOST_CELLS = 3  # a layer's, on a wide screen


def layers(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """With two lines only the places, coloured by time; then the ruler; then times; then a key."""
    shown = snapshot.layers
    if not shown or width - NAME < 8 or height < 1:
        return []
    groups, wide = columns(len(shown), width)
    letters = device_letters(tuple(device.name for device in snapshot.devices))
    attention = [_attention_place(shown, group, letters) for group in groups]
    experts = [_experts_place(shown, group, letters) for group in groups]
    times = [
        [_mean(shown, group, attention_seconds) for group in groups],
        [_mean(shown, group, experts_seconds) for group in groups],
    ]
    most = max((value for row in times for value in row if value is not None), default=0.0)
    places = [
        _place_line("attention", attention, times[0], most, wide),
        _place_line("experts", experts, times[1], most, wide),
    ]
    lines = [fitted(line, width) for line in places[:height]]
    if height >= 5 and most > 0:
        marks = [_time_line(row, most, wide, look) for row in times]
        lines = [lines[0], fitted(marks[0], width), lines[1], fitted(marks[1], width)]
    if height > len(lines):
        lines.insert(0, fitted(_ruler(groups, wide), width))
    if height > len(lines):
        lines.append(_key(snapshot, letters, most, width, look))
    return lines


def columns(count: int, width: int) -> tuple[list[range], int]:
    """The layers of each column, and the cells that a column has."""
    groups = folded(count, width - NAME)
    return groups, min(max((width - NAME) // len(groups), 1), MOST_CELLS)


def levels(snapshot: Snapshot) -> Sequence[int]:
    """Heights that the strip has something to say in: never without the layers' numbers."""
    if not snapshot.layers:
        return ()
    return (3, 5, 6) if is_timed(snapshot) else (3, 4)


def is_timed(snapshot: Snapshot) -> bool:
    return any(
        layer.attention_s is not None or layer.experts_s is not None for layer in snapshot.layers
    )


def attention_seconds(layer: LayerView) -> float | None:
    return layer.attention_s


def experts_seconds(layer: LayerView) -> float | None:
    return layer.experts_s


@lru_cache(maxsize=16)
def device_letters(names: tuple[str, ...]) -> Mapping[str, str]:
    """CUDA0 -> 0, CUDA10 -> a, CPU -> C; what looks like neither by its place."""
    letters: dict[str, str] = {}
    for index, name in enumerate(names):
        number = name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
        if name.startswith("CPU"):
            letters[name] = "C"
        elif number.isdigit() and int(number) < len(GPU_LETTERS):
            letters[name] = GPU_LETTERS[int(number)]
        else:
            letters[name] = GPU_LETTERS[index % len(GPU_LETTERS)]
    return letters


def _letter(name: str, letters: Mapping[str, str]) -> str:
    return letters.get(name, "C" if name.startswith("CPU") else UNKNOWN)


def _attention_place(shown: Sequence[LayerView], group: range, letters: Mapping[str, str]) -> str:
    found = {_letter(shown[index].attention, letters) for index in group}
    return found.pop() if len(found) == 1 else MIXED


def _experts_place(shown: Sequence[LayerView], group: range, letters: Mapping[str, str]) -> str:
    """A layer over several devices is mixed, a dense one has none."""
    found = {
        tuple(dict.fromkeys(_letter(name, letters) for name in shown[index].experts))
        for index in group
    }
    if len(found) > 1:
        return MIXED
    devices = found.pop()
    return NONE if not devices else devices[0] if len(devices) == 1 else MIXED


def _mean(
    shown: Sequence[LayerView], group: range, seconds: Callable[[LayerView], float | None]
) -> float | None:
    values = [value for index in group if (value := seconds(shown[index])) is not None]
    return sum(values) / len(values) if values else None


def _place_line(
    title: str, places: Sequence[str], times: Sequence[float | None], most: float, wide: int
) -> Line:
    text = "".join(place * wide for place in places)
    return [(f"{title:{NAME}}", ""), *coloured(text, _heats(times, most, wide))]


def _heats(times: Sequence[float | None], most: float, wide: int) -> list[str]:
    """A style for each cell."""
    names = [heat_name(value / most if value is not None and most > 0 else None) for value in times]
    return [name for name in names for _ in range(wide)]


def _time_line(times: Sequence[float | None], most: float, wide: int, look: Look) -> Line:
    values = [0.0 if value is None else value for value in times for _ in range(wide)]
    names = _heats(times, most, wide)
    return [(f"{'  time':{NAME}}", "faint"), *coloured(heights(values, most, look), names)]


def _ruler(groups: Sequence[range], wide: int) -> Line:
    """Numbers of layers above their columns, every tenth or where a number has room."""
    text = ""
    last = groups[-1].stop
    step = next(step for step in (10, 20, 50, 100, 1000) if step * len(groups) * wide >= 5 * last)
    for cell, group in enumerate(groups):
        for index in group:
            if index % step == 0 and len(text) <= cell * wide:
                text = f"{text:{cell * wide}}{index}"
    return [(f"{'layer':{NAME}}", "faint"), (text, "faint")]


def _key(
    snapshot: Snapshot, letters: Mapping[str, str], most: float, width: int, look: Look
) -> Line:
    """Which character is which device; what the colours mean."""
    gpus = [device.name for device in snapshot.devices if device.kind == "gpu"]
    words = [f"{letters[name]} {name}" for name in gpus]
    if len(gpus) > 4:
        words = [f"{letters[gpus[0]]}..{letters[gpus[-1]]} {gpus[0]}..{gpus[-1]}"]
    words += ["C CPU", f"{MIXED} several", f"{NONE} dense"]
    parts: list[Line] = [[("  ".join(words), "faint")]]
    if most > 0:
        heats: Line = [(look.full, heat_name(share)) for share in (0.3, 0.6, 1.0)]
        times: Line = [("time ", "faint"), (look.full, heat_name(0)), (" 0 ", "faint"), *heats]
        parts.append([*times, (f" {ms(most)} ms", "faint")])
    return fitted([(" " * NAME, ""), *joined(parts, "  ", width - NAME)], width)
