"""One row per device: what fills its memory against the plan, and where a token's time went.

    CUDA0  mem   ▓▓▓▚▒███████░░▞▞·····│··  plan 16.3 · actual 16.1 · peak 16.9 of 24.0 GiB
           time  ▓▓▓▓══··················  101.7 ms  ▓attention 12.1  ═crossing 3.0  ·waiting 80.2

Four forms, the largest that fits: with sensors, two lines, one line, two devices in one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hybrid.live.snapshot import DeviceView, MemoryView, Snapshot
from hybrid.tui.amounts import ms, short_size, size
from hybrid.tui.bars import marked, stacked
from hybrid.tui.findings import memory_warning, wall_seconds
from hybrid.tui.lines import Line, beside, fitted, joined, width_of
from hybrid.tui.look import Look, memory_groups
from hybrid.tui.sensors import sensor_lines

NAME = 6
SIZE_CELLS, TIME_CELLS = 17, 8  # of a single line
WIDE = 150  # columns from which both bars stand in one line with their numbers
BAR_SHARE = 0.36  # of what is beside the name
MOST_SENSOR_LINES = 2
FEW = 4  # devices that each have a line of their own
HALF = 38  # the least columns of a device that shares its line


@dataclass(frozen=True, slots=True)
class Scale:
    """What all rows share. wall_s   the longest token time: a full time bar"""

    width: int
    wall_s: float
    look: Look


def devices(snapshot: Snapshot, width: int, height: int, look: Look) -> list[Line]:
    """All devices in at most `height` lines; those that do not fit are counted in the last."""
    shown = snapshot.devices
    scale = Scale(width, wall_seconds(snapshot), look)
    if not shown or height < 1:
        return []
    for more in range(MOST_SENSOR_LINES, -1, -1):
        if height >= bar_rows(width) * len(shown):
            lines = [line for device in shown for line in _large(device, scale, more)]
            if len(lines) <= height:
                return lines
    if height >= len(shown):
        return [_single(device, scale) for device in shown]
    return _columns(shown, scale, height)


def levels(snapshot: Snapshot, width: int, look: Look) -> list[int]:
    """Heights that it has a form for, ascending."""
    count, bars = len(snapshot.devices), bar_rows(width)
    columns = max(width // HALF, 1)
    forms = {count if count <= FEW else -(-count // columns), count}
    found = [
        len(sensor_lines(device, width, MOST_SENSOR_LINES, look)) for device in snapshot.devices
    ]
    for more in range(MOST_SENSOR_LINES + 1):
        forms.add(sum(bars + min(lines, more) for lines in found))
    return sorted(forms)


def bar_rows(width: int) -> int:
    """Lines that the bars of one device take."""
    return 1 if width >= WIDE else 2


def _large(device: DeviceView, scale: Scale, more: int) -> list[Line]:
    return [*_pair(device, scale), *sensor_lines(device, scale.width, more, scale.look)]


def _pair(device: DeviceView, scale: Scale) -> list[Line]:
    """Memory and time, each a bar and its numbers; side by side where it is wide."""
    if scale.width >= WIDE:
        half = (scale.width - NAME - 2) // 2
        left = [("mem ", "faint"), *_memory(device, half - 5, scale.look)]
        right = [("time ", "faint"), *_time(device, half - 5, scale)]
        name = [(f"{device.name:{NAME}} ", "strong")]
        return [fitted([*name, *fitted(left, half), (" ", ""), *right], scale.width)]
    room = scale.width - NAME - 6
    memory, time = _memory(device, room, scale.look), _time(device, room, scale)
    return [
        fitted([(f"{device.name:{NAME}} ", "strong"), ("mem  ", "faint"), *memory], scale.width),
        fitted([(" " * (NAME + 1), ""), ("time ", "faint"), *time], scale.width),
    ]


def _memory(device: DeviceView, width: int, look: Look) -> Line:
    cells = max(int(width * BAR_SHARE), 4)
    numbers = joined(_memory_numbers(device, look), "  ", width - cells - 2)
    return [*memory_bar(device, cells, look), ("  ", ""), *numbers]


def memory_bar(device: DeviceView, cells: int, look: Look) -> Line:
    """The plan's parts, what is free, other programs' bytes at the end; the budget's mark."""
    memory = device.memory
    whole = memory.total_bytes
    line = stacked(memory_parts(memory), whole, cells, look)
    if has_mark(memory):
        line = marked(line, min(memory.budget_bytes * cells // whole, cells - 1), look.mark)
    return line


def memory_parts(memory: MemoryView) -> dict[str, int]:
    """Bytes of the bar by what they are, in its order."""
    foreign = 0
    if memory.used_by_all_bytes is not None and memory.actual_bytes is not None:
        foreign = max(memory.used_by_all_bytes - memory.actual_bytes, 0)
    return {
        **memory_groups(memory.weights),
        "cache": memory.cache_bytes,
        "compute": memory.compute_bytes,
        "other": memory.other_bytes,
        "free": max(memory.total_bytes - memory.planned_bytes - foreign, 0),
        "foreign": foreign,
    }


def has_mark(memory: MemoryView) -> bool:
    """Whether the budget ends inside of the bar."""
    return 0 < memory.budget_bytes < memory.total_bytes


def _memory_numbers(device: DeviceView, look: Look) -> list[Line]:
    memory = device.memory
    amiss = bool(memory_warning(memory))
    held, total = memory.actual_bytes, memory.total_bytes
    parts: list[Line] = []
    if held is None:
        of = f"{size(memory.planned_bytes, total)} of {size(total)}"
        parts.append([(f"plan {of if total else size(memory.planned_bytes)}", "")])
    else:
        text = f"{size(held, total)} of {size(total)}"
        parts += [[(text, "warning" if amiss else "strong")]]
        parts += [[(f"plan {size(memory.planned_bytes, total)}", "")]]
    if memory.peak_bytes is not None:
        parts.append([(f"peak {size(memory.peak_bytes, total)}", "")])
    if memory.budget_bytes and memory.budget_bytes != total:
        parts.append([(f"budget {look.mark}{size(memory.budget_bytes, total)}", "")])
    return parts


def _time(device: DeviceView, width: int, scale: Scale) -> Line:
    cells = max(int(width * BAR_SHARE), 4)
    if not device.seconds:
        return [(" " * cells, ""), ("  not measured yet", "faint")]
    total = sum(device.seconds.values())
    bar = stacked(device.seconds, scale.wall_s, cells, scale.look)
    numbers: Line = [(f"{ms(total)} ms", "strong"), (" ", "")]
    room = width - cells - 2 - len(numbers[0][0]) - 1
    return [*bar, ("  ", ""), *numbers, *part_numbers(device, room, scale.look)]


def part_numbers(device: DeviceView, width: int, look: Look, without: str = "") -> Line:
    """Milliseconds by part with its glyph, the longest first: what does not fit is the least."""
    order = sorted(device.seconds.items(), key=lambda part: -part[1])
    texts: list[Line] = [
        [(look.glyphs[name], name), (f"{name} {ms(seconds)}", "")]
        for name, seconds in order
        if seconds > 0 and name != without
    ]
    return joined(texts, " ", width)


def _single(device: DeviceView, scale: Scale) -> Line:
    """Both bars with one number each, then the longest parts but for waiting."""
    look, width = scale.look, scale.width
    memory = device.memory
    total = memory.total_bytes
    held = f" {size(held_bytes(device), total)}/{size(total)}"
    time = f" {ms(sum(device.seconds.values()))} ms " if device.seconds else " - "
    cells = max((width - NAME - 1 - SIZE_CELLS - TIME_CELLS) // 3, 4)
    line: Line = [(f"{device.name:{NAME}} ", "strong"), *memory_bar(device, cells, look)]
    line += [(f"{held:{SIZE_CELLS}} ", "warning" if memory_warning(memory) else "")]
    line += [*stacked(device.seconds, scale.wall_s, cells, look), (f"{time:>9}", "strong")]
    numbers = part_numbers(device, width - width_of(line), look, without="waiting")
    return fitted([*line, *numbers], width)


def held_bytes(device: DeviceView) -> int:
    """What it holds; what is planned where nothing tells."""
    actual = device.memory.actual_bytes
    return device.memory.planned_bytes if actual is None else actual


def _columns(shown: Sequence[DeviceView], scale: Scale, height: int) -> list[Line]:
    """As many columns as it takes and as fit, devices downwards in each."""
    columns = min(-(-len(shown) // height), max(scale.width // HALF, 1))
    width = (scale.width - columns + 1) // columns
    inner = Scale(width, scale.wall_s, scale.look)
    lines = [fitted(_half(device, inner), width) for device in shown]
    hidden = len(shown) - columns * height
    if hidden > 0:
        lines = lines[: columns * height - 1]
        text = f"and {hidden + 1} more: see the devices' own screen"
        lines.append(fitted([(text, "faint")], width, scale.look.more))
    rows = -(-len(lines) // columns)
    block: list[Line] = lines[:rows]
    for column in range(1, columns):
        used = (width + 1) * column - 1
        block = beside(block, lines[column * rows : (column + 1) * rows], used, width)
    return [fitted(line, scale.width) for line in block]


def _half(device: DeviceView, scale: Scale) -> Line:
    memory = device.memory
    cells = max((scale.width - NAME - 1 - 7 - 7) // 2, 3)
    time = ms(sum(device.seconds.values())) if device.seconds else "-"
    name = "warning" if memory_warning(memory) else ""
    return [
        (f"{device.name:{NAME}} ", "strong"),
        *memory_bar(device, cells, scale.look),
        (f" {short_size(held_bytes(device)):>5} ", name),
        *stacked(device.seconds, scale.wall_s, cells, scale.look),
        (f" {time}", "strong"),
    ]
