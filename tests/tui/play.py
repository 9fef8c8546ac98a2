"""The screen with a run that is played: `python -m tests.tui.play [gpu1] [--seconds 30]`.

Loads, reads a prompt and decodes in a minute's time or less, while the main thread prints the text
as a run would. `--crash` ends the run with an exception, `--break-panel` the drawing; `--top` looks
at two such runs as `hybrid top` does, `--top-one` at one; with `--fail` they say last that they
have failed. `--begun FILE` makes that file once the text has begun under the view.
"""

import argparse
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from hybrid.cli.output import abandon_broken_streams
from hybrid.live.snapshot import Phase, Progress, Rates, Snapshot
from hybrid.tui.app import RunChoice, show, top, watching
from tests.tui.recorded import SCENES, TEXT


class Play:
    """Snapshots of a scene as it would have come to be, a new one a quarter of a second."""

    def __init__(self, scene: Snapshot, seconds: float, fails: bool = False) -> None:
        self._scene = scene
        self._fails = fails
        self._seconds = seconds
        self._began = time.time()
        self._text = ""
        self._last: Snapshot | None = None

    def write(self, text: str) -> None:
        self._text += text

    def newest(self) -> Snapshot:
        now = time.time()
        if now - self._began > self._seconds:
            if not self._fails or self._last is None:
                raise EOFError
            self._fails = False
            return replace(self._last, phase=Phase.FAILED, error="no room for the cache")
        if self._last is None or now - self._last.at >= 0.25:
            self._last = self._at(now, (now - self._began) / self._seconds)
        return self._last

    def _at(self, now: float, share: float) -> Snapshot:
        facts = replace(self._scene.facts, started_at=self._began, pid=os.getpid())
        scene = replace(self._scene, at=now, facts=facts, text=self._text)
        if share < 0.15:
            return _before(scene, Phase.LOADING, "weights", "bytes", share / 0.15)
        if share < 0.3:
            return _before(scene, Phase.PROMPT, "prompt", "tokens", (share - 0.15) / 0.15)
        return _decoding(scene, share - 0.3)


def _before(scene: Snapshot, phase: Phase, what: str, unit: str, share: float) -> Snapshot:
    total = 377 << 30 if unit == "bytes" else 39210
    rate = 3.4e9 if unit == "bytes" else 463.0
    done = int(total * share)
    progress = Progress(what, unit, done, total, rate, (total - done) / rate)
    rates = Rates(prompt_now_tok_s=rate) if phase is Phase.PROMPT else Rates()
    devices = tuple(replace(each, seconds={}, read_bytes_s=None) for each in scene.devices)
    nodes = tuple(replace(each, read_bytes_s=None, experts_s=None) for each in scene.nodes)
    layers = tuple(
        replace(each, attention_s=None, experts_s=None, usage=()) for each in scene.layers
    )
    return replace(
        scene,
        phase=phase,
        rates=rates,
        progress=progress,
        devices=devices,
        nodes=nodes,
        layers=layers,
        text="",
    )


def _decoding(scene: Snapshot, share: float) -> Snapshot:
    wave = 1 + 0.05 * math.sin(scene.at * 2)
    count = max(int(share * 240), 2)
    devices = tuple(
        replace(each, seconds={part: value * wave for part, value in each.seconds.items()})
        for each in scene.devices
    )
    nodes = tuple(
        replace(each, read_bytes_s=each.read_bytes_s and each.read_bytes_s / wave)
        for each in scene.nodes
    )
    rates = replace(
        scene.rates,
        decode_now_tok_s=(scene.rates.decode_now_tok_s or 0.0) / wave,
        history=scene.rates.history[:count],
        decode_tokens=int(share * 2000),
    )
    return replace(scene, devices=devices, nodes=nodes, rates=rates)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("scene", nargs="?", default="gpu1", choices=sorted(SCENES))
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--crash", action="store_true")
    parser.add_argument("--break-panel", action="store_true")
    parser.add_argument("--top", action="store_true")
    parser.add_argument("--top-one", action="store_true")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--begun", type=Path)
    args = parser.parse_args()
    scene = SCENES[args.scene]()
    if args.break_panel:
        scene = replace(scene, devices=(replace(scene.devices[0], seconds={"unheard of": 1.0}),))
    if args.top:
        runs = [RunChoice(11, "first", time.time()), RunChoice(12, "second", time.time())]
        top(runs, lambda run: Play(_named(scene, run.model), args.seconds, args.fail).newest)
        return
    if args.top_one:
        show(Play(scene, args.seconds).newest)
        abandon_broken_streams()
        return
    _run(Play(scene, args.seconds), args)


def _named(scene: Snapshot, model: str) -> Snapshot:
    return replace(scene, facts=replace(scene.facts, model=model))


def _run(play: Play, args: argparse.Namespace) -> None:
    end = time.time() + args.seconds
    words = TEXT.split(" ")
    with watching(play.newest):
        for number in range(10**9):
            if time.time() > end:
                break
            text = words[number % len(words)] + " "
            play.write(text)
            sys.stdout.write(text)
            sys.stdout.flush()
            if args.begun and number == 0:
                args.begun.touch()
            time.sleep(0.02)
        if args.crash:
            raise RuntimeError("the run has failed")
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
