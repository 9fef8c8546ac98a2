"""What a frame costs: `python -m tests.tui.frame_time`, milliseconds of the drawing thread's CPU.

Each frame has new numbers in every part, as at four a second; once with new expert counts too. The
largest shape is 61 layers of 256 experts on 16 GPUs at 200x60.
"""

import io
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from hybrid.live.snapshot import Snapshot
from hybrid.tui.look import UNICODE
from hybrid.tui.painter import Painter
from hybrid.tui.screen import View, screen
from tests.tui.recorded import SCENES, SIZES

FRAMES = 40


class Sink:
    """Stands in for a terminal: takes what is written."""

    stream = io.StringIO()
    encoding = "utf-8"


def frame_ms(scene: str, size: tuple[int, int], *, new_counts: bool) -> tuple[float, float, int]:
    """Medians of drawing and of painting, and the bytes of a frame."""
    sink = Sink()
    sink.stream = io.StringIO()
    painter = Painter(sink)  # type: ignore[arg-type]
    painter.console = Console(file=sink.stream, force_terminal=True, color_system="standard")
    painter.start()
    drawn, painted = [], []
    for snapshot in played(SCENES[scene](), new_counts=new_counts):
        begin = time.thread_time()
        lines = screen(snapshot, *size, UNICODE, View())
        middle = time.thread_time()
        painter.paint(lines, size)
        drawn.append(middle - begin)
        painted.append(time.thread_time() - middle)
    painter.stop()
    written = len(sink.stream.getvalue().encode()) // FRAMES
    return statistics.median(drawn) * 1e3, statistics.median(painted) * 1e3, written


def played(scene: Snapshot, *, new_counts: bool) -> Iterator[Snapshot]:
    for number in range(FRAMES):
        scale = 1 + 0.01 * (number % 7)
        devices = tuple(
            replace(each, seconds={part: value * scale for part, value in each.seconds.items()})
            for each in scene.devices
        )
        layers = scene.layers
        if new_counts:
            layers = tuple(
                replace(each, usage=tuple(count + number for count in each.usage))
                for each in layers
            )
        history = scene.rates.history[number:]
        yield replace(
            scene,
            at=scene.at + number / 4,
            devices=devices,
            layers=layers,
            rates=replace(scene.rates, history=history),
            text=scene.text + " word" * number,
        )


def main() -> None:
    say = sys.stdout.write
    say(f"python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}; ms of CPU, medians\n")
    say("scene   size     counts  draw  paint  bytes a frame\n")
    for scene in ("gpu1", "gpu16"):
        for width, height in SIZES:
            for new_counts in (False, True):
                draw, paint, written = frame_ms(scene, (width, height), new_counts=new_counts)
                counts = "new" if new_counts else "same"
                size = f"{width}x{height}"
                say(f"{scene:6}  {size:7}  {counts:6}  {draw:4.1f}  {paint:5.1f}  {written}\n")


if __name__ == "__main__":
    main()
