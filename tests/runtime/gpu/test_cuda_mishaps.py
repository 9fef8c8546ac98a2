"""What goes wrong on a real GPU: one error each, never a hang; what can go on is right."""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import hybrid
from hybrid.errors import MachineError
from hybrid.runtime import load
from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu import build
from tests.runtime.gpu.mishaps import (
    BEFORE,
    chain_of,
    cpu_of,
    greedy,
    raised_by,
    stalled_worker,
    thrown_worker,
)
from tests.runtime.gpu.placements import ignored_warnings
from tools.make_model import make_model

pytestmark = [pytest.mark.gpu, ignored_warnings]

WAITED_S = 0.5  # of the GPU for the CPU
LATE_S = 3 * WAITED_S
SOON_S = 8
HOLDER = """
import sys, torch
free = torch.cuda.mem_get_info(0)[0]
held = torch.empty(free - (4 << 20), dtype=torch.uint8, device="cuda:0")
print("held", flush=True)
sys.stdin.read()
"""
LOST = """
import sys, torch
from hybrid.cli.main import main
from hybrid.runtime.engine import Engine
usual = Engine._generate
def lost(*given):
    stream = usual(*given)
    yield next(stream)
    values = torch.zeros(4, device="cuda:0")
    values[torch.tensor([1 << 20], device="cuda:0")] += 1  # asserts there, which ends its context
    yield from stream
Engine._generate = lost
options = ["--device", "CUDA0", "-c", "256", "-n", "32", "--temp", "0", "-p", "Once upon a time"]
sys.exit(main(["run", "demo", *options, "-ot", sys.argv[1]]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "f32.gguf", type="F32")


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[Engine]:
    """The GPU waits for the CPU only shortly: the limit is part of what is captured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "GPU_LIMIT_S", WAITED_S)
        yield hybrid.load(
            model, devices=("CUDA0",), context=64, ubatch=16, rules=["exps=CPU"], threads=1
        )


@contextmanager
def late_cpu(engine: Engine) -> Iterator[None]:
    """The CPU's side of a step stands still for longer than the GPU waits."""
    service = cpu_of(chain_of(engine)).service
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_check_step", lambda *_: time.sleep(LATE_S))
        yield


@contextmanager
def interrupted(engine: Engine) -> Iterator[None]:
    """SIGINT while the GPU waits for the CPU's answer."""
    timer = threading.Timer(WAITED_S / 3, lambda: signal.raise_signal(signal.SIGINT))
    with late_cpu(engine):
        timer.start()
        yield
    timer.join()


@contextmanager
def thrown(engine: Engine) -> Iterator[None]:
    with thrown_worker(chain_of(engine)):
        yield


@contextmanager
def stalled(engine: Engine) -> Iterator[None]:
    with stalled_worker(chain_of(engine)):
        yield


MISHAPS = {
    "thrown worker": (thrown, MachineError, "a thread of the CPU failed"),
    "stalled worker": (stalled, MachineError, "start the program again"),
    "late CPU": (late_cpu, MachineError, f"waited {WAITED_S:g} s for the CPU"),
    "interrupt": (interrupted, KeyboardInterrupt, ""),
}


@pytest.mark.parametrize("name", MISHAPS)
def test_a_step_that_fails_is_one_error_and_the_next_generation_is_right(
    name: str, engine: Engine
) -> None:
    happens, kind, words = MISHAPS[name]
    engine.forget()
    expected = greedy(engine)
    engine.forget()
    stream = engine.generate([3, 17, 5], max_tokens=5, temperature=0)
    before = [next(stream).id for _ in range(BEFORE)]
    cached = list(engine._cached_ids)
    with happens(engine):
        began = time.monotonic()
        error = raised_by(lambda: next(stream))
        seconds = time.monotonic() - began
    assert isinstance(error, kind), error
    assert words in str(error)
    assert seconds < SOON_S
    assert engine._cached_ids == cached
    assert before == expected[:BEFORE]
    assert greedy(engine) == expected
    engine.forget()
    assert greedy(engine) == expected


@contextmanager
def memory_of_another_process() -> Iterator[None]:
    """All of CUDA0 but 4 MiB."""
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        try:
            assert other.stdout.readline() == "held\n"
            yield
        finally:
            other.stdin.close()
            other.wait()


@pytest.mark.alone
def test_memory_that_another_process_holds_is_told_before_loading() -> None:
    with memory_of_another_process(), pytest.raises(hybrid.HybridError) as raised:
        hybrid.load("demo", devices=("CUDA0",), rules=[".*=CUDA0"], gpu_layers=99)
    assert "CUDA0" in str(raised.value)
    assert "budget" in str(raised.value)


def load_beside_another(monkeypatch: pytest.MonkeyPatch, *, scratch_kept: bool) -> Engine:
    """While weights are read another process takes all that this one has not."""
    read, held = load.read_weights, memory_of_another_process()

    def read_late(*given: object, **named: object) -> object:
        if not scratch_kept:
            torch.cuda.empty_cache()
        held.__enter__()
        return read(*given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(load, "read_weights", read_late)
        try:
            return hybrid.load("demo", devices=("CUDA0",), context=65536, rules=[".*=CUDA0"])
        finally:
            held.__exit__(None, None, None)


@pytest.mark.alone
def test_memory_that_another_process_takes_while_loading_ends_in_one_error_or_right_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Weights, cache and scratch are taken before weights are read; whether the driver needs more
    for graphs and kernels depends on what was loaded before.
    """
    expected = greedy(hybrid.load("demo", devices=("CUDA0",), rules=[".*=CUDA0"]))
    torch.cuda.empty_cache()
    try:
        found = greedy(load_beside_another(monkeypatch, scratch_kept=True))
    except MachineError as error:
        assert "a GPU's memory ran out" in str(error)  # noqa: PT017  either is right
        assert "--device none" in str(error)  # noqa: PT017
    else:
        assert found == expected


@pytest.mark.alone
def test_memory_that_another_process_gets_while_loading_is_one_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(MachineError, match="a GPU's memory ran out") as raised:
        load_beside_another(monkeypatch, scratch_kept=False)
    assert "--device none" in str(raised.value)


@pytest.mark.parametrize("rule", [".*=CUDA0", "exps=CPU"])
def test_a_gpu_lost_while_generating_ends_in_one_error(rule: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", LOST, rule], capture_output=True, text=True, timeout=120, check=False
    )
    assert "error: a kernel made a mistake on a GPU" in found.stderr
    # CUDA's own words, which the cause quotes, have "error: " too.
    assert len(re.findall(r"^error: ", found.stderr, re.M)) == 1
    assert "terminate called" not in found.stderr
    assert found.returncode == 1
