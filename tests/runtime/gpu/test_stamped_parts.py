"""What stamps say of each part of a step against steps without stamps, whose launches are watched
from outside: on an emulated GPU whose clock stands but for launches, each of which takes its own
number of microseconds.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hybrid.runtime.gpu import build, chain, stamps, step
from kernels.stamp import reference
from tests.runtime.gpu.emulated import load_emulated
from tests.runtime.listeners import Ear, Often
from tools.bench.gpu_step_parts import Launch, part_times, plain_steps
from tools.make_model import make_model

GIB = 1 << 30
OPTIONS = {"context": 64, "ubatch": 16, "cache_format": "f32", "threads": 1}
PLACES: dict[str, tuple[dict[str, Any], bool]] = {
    "experts in RAM": ({"simulate": {"CUDA0": GIB}, "rules": ["exps=CPU"]}, False),
    "all on the GPU": ({"simulate": {"CUDA0": GIB}, "rules": [".*=CUDA0"]}, True),
}
IDS, TOKENS = [(7 * i * i + 3) % 320 for i in range(19)], 24
COMPUTED = ("attention", "dense", "experts", "head")
# Microseconds of each launch; a pass of the emulation takes a thousand times as long, so that no
# part is cut to the pass.
TIMES_US = {
    build: {"begin_step": 2},
    stamps: {"stamp": 1},
    step: {
        **{"matvec": 3, "prepare": 5, "absorbed_split": 7, "unfold": 11, "route": 13},
        **{"expert_hidden": 17, "expert_down": 19, "receive": 23, "argmax": 29},
    },
}


class Clock:
    """Of the GPU and of the host that waits for it."""

    def __init__(self) -> None:
        self.us = 0
        self.launches: list[Launch] = []

    def taking(self, launch: Callable[..., None], name: str, us: int) -> Callable[..., None]:
        def run(*given: Any, **options: Any) -> None:
            began = self.us
            if name == "stamp":
                options["implementation"] = "reference"  # whose clock can be set
            launch(*given, **options)
            self.us += us
            self.launches.append(Launch(name, 0, began, self.us))

        return run

    def ns(self) -> int:
        return 1000 * self.us

    def seconds(self) -> float:
        return 1e-6 * self.us


def parts(path: Path, options: dict[str, Any], routed_here: bool) -> list[dict[str, float]]:
    """Medians over steps, microseconds: by launches of those without stamps, by stamps."""
    engine, ear, clock = load_emulated(path, **OPTIONS, **options), Ear(), Clock()
    engine._timing._intervals[False] = Often(2)
    engine.listen(ear)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "monotonic_ns", clock.ns)
        patch.setattr(chain, "perf_counter", clock.seconds)
        for room, times in TIMES_US.items():
            for name, us in times.items():
                patch.setattr(room, name, clock.taking(getattr(room, name), name, us))
        stream = engine.generate(IDS, max_tokens=TOKENS, temperature=0, ignore_stop=True)
        assert len(list(stream)) == TOKENS
    plain = [part_times(each, routed_here=routed_here) for each in plain_steps(clock.launches)]
    stamped = [times.parts["CUDA0"] for _, prompt, times in ear.times if not prompt]
    assert min(len(plain), len(stamped)) >= TOKENS // 2 - 1
    return [
        {name: median([each.get(name, 0.0) for each in plain[1:]]) for name in COMPUTED},
        {name: 1e6 * median([each.get(name, 0.0) for each in stamped[1:]]) for name in COMPUTED},
    ]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights that GPU kernels multiply without rounding."""
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.mark.parametrize(("options", "routed_here"), PLACES.values(), ids=PLACES.keys())
def test_stamped_parts_are_those_of_steps_without_stamps(options, routed_here, model, interpreter):
    plain, stamped = interpreter.submit(parts, model, options, routed_here).result()
    assert all(plain.values())
    assert stamped == pytest.approx(plain, rel=1e-3)
