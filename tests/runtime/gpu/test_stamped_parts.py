"""What stamps say of each part of a step against steps without stamps, whose launches are watched
from outside: on an emulated GPU by the host's clock.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import pytest

from hybrid.runtime.gpu import build, stamps, step
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
MOST_APART = 0.2  # of a part's share of the step
UNSTEADY = 0.5  # of all parts together, on a machine that others use
LAUNCHES = {
    build: ["begin_step"],
    stamps: ["stamp"],
    step: [
        *("matvec", "prepare", "absorbed_split", "unfold", "route"),
        *("expert_hidden", "expert_down", "receive", "argmax"),
    ],
}


def watched(launch: Callable[..., None], name: str, found: list[Launch]) -> Callable[..., None]:
    def run(*given: Any, **options: Any) -> None:
        began = perf_counter()
        launch(*given, **options)
        found.append(Launch(name, 0, 1e6 * began, 1e6 * perf_counter()))

    return run


def parts(path: Path, options: dict[str, Any], routed_here: bool) -> list[dict[str, float]]:
    """Medians over steps, microseconds: by launches of those without stamps, by stamps."""
    engine, ear = load_emulated(path, **OPTIONS, **options), Ear()
    engine._timing._intervals[False] = Often(2)
    launches: list[Launch] = []
    engine.listen(ear)
    with pytest.MonkeyPatch.context() as patch:
        for room, names in LAUNCHES.items():
            for name in names:
                patch.setattr(room, name, watched(getattr(room, name), name, launches))
        stream = engine.generate(IDS, max_tokens=TOKENS, temperature=0, ignore_stop=True)
        assert len(list(stream)) == TOKENS
    plain = [part_times(each, routed_here=routed_here) for each in plain_steps(launches)]
    stamped = [times.parts["CUDA0"] for _, prompt, times in ear.times if not prompt]
    assert min(len(plain), len(stamped)) >= TOKENS // 2 - 1
    return [
        {name: median([each.get(name, 0.0) for each in plain[1:]]) for name in COMPUTED},
        {name: 1e6 * median([each.get(name, 0.0) for each in stamped[1:]]) for name in COMPUTED},
    ]


def shares(us: dict[str, float]) -> dict[str, float]:
    return {name: each / sum(us.values()) for name, each in us.items()}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Weights that GPU kernels multiply without rounding."""
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.mark.parametrize(("options", "routed_here"), PLACES.values(), ids=PLACES.keys())
def test_stamped_parts_are_those_of_steps_without_stamps(options, routed_here, model, interpreter):
    plain, stamped = interpreter.submit(parts, model, options, routed_here).result()
    assert all(plain.values())
    assert sum(stamped.values()) == pytest.approx(sum(plain.values()), rel=UNSTEADY)
    assert shares(stamped) == pytest.approx(shares(plain), rel=MOST_APART)
