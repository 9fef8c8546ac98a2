"""Steps of an emulated GPU that go wrong half way, and what the engine is like afterwards."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hybrid.runtime.engine import Engine
from hybrid.runtime.gpu.blocks import GpuBlock
from hybrid.runtime.gpu.chain import CpuSide, GpuChain
from hybrid.runtime.gpu.step import BlockStep
from kernels.errors import EmulationFailed, WorkerFailed
from kernels.mailbox.serve import Service
from kernels.native import pool
from kernels.native.library import library
from tests.runtime.gpu.emulated import load_emulated

OPTIONS = {
    "context": 64,
    "ubatch": 16,
    "cache_format": "f32",
    "simulate": {"CUDA0": 1 << 30},
    "rules": ["exps=CPU"],
    "threads": 1,
}
PROMPT, TOKENS, BEFORE = [3, 17, 5], 5, 2
LIMIT_S = 0.3
STALLED = 4  # the fault of a worker that sleeps


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was raised, and what the engine did before and after it.

    again      what further calls raised before things were put right
    advanced   whether the cache holds more ids than before the step
    """

    error: str
    cause: str
    message: str
    seconds: float
    again: list[str]
    advanced: bool
    expected: list[int]
    before: list[int]
    after: list[int]
    from_nothing: list[int]


def greedy(engine: Engine) -> list[int]:
    return [token.id for token in engine.generate(PROMPT, max_tokens=TOKENS, temperature=0)]


def aftermath(path: Path, name: str) -> Aftermath:
    """Of a decode step in the middle of a generation in which MISHAPS[name] happens."""
    engine = load_emulated(path, **OPTIONS)
    expected = greedy(engine)
    engine.forget()
    stream = engine.generate(PROMPT, max_tokens=TOKENS, temperature=0)
    before = [next(stream).id for _ in range(BEFORE)]
    cached = list(engine._cached_ids)
    again: list[str] = []
    with MISHAPS[name](chain_of(engine)):
        began = time.monotonic()
        error = raised_by(lambda: next(stream))
        seconds = time.monotonic() - began
        advanced = engine._cached_ids != cached
        if name == "stalled worker":
            again.append(type(raised_by(lambda: greedy(engine))).__name__)
    after = greedy(engine)
    engine.forget()
    return Aftermath(
        error=type(error).__name__,
        cause=type(error.__cause__).__name__,
        message=str(error),
        seconds=seconds,
        again=again,
        advanced=advanced,
        expected=expected,
        before=before,
        after=after,
        from_nothing=greedy(engine),
    )


def raised_by(call: Callable[[], object]) -> BaseException:
    try:
        call()
    except BaseException as error:  # noqa: BLE001  an interrupt too
        return error
    raise AssertionError("nothing was raised")


def chain_of(engine: Engine) -> GpuChain:
    first = engine._model.blocks[0]
    assert isinstance(first, GpuBlock)
    assert first.chain is not None
    return first.chain


def cpu_of(chain: GpuChain) -> CpuSide:
    assert chain._cpu is not None
    return chain._cpu


@contextmanager
def thrown_worker(chain: GpuChain) -> Iterator[None]:
    cpu = cpu_of(chain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Service, "needs", lambda *_: 0)
        patch.setattr(chain, "_cpu", replace(cpu, workspace=cpu.workspace[:64]))
        yield


@contextmanager
def stalled_worker(chain: GpuChain) -> Iterator[None]:
    """Until the pool is stopped, which waits for the worker, nothing can be computed."""
    pool.start([-1, -1, -1], [0, 0, 0])
    pool.set_timeout(LIMIT_S)
    with pytest.raises(WorkerFailed):
        pool.check(library().hybrid_pool_try_fault(STALLED, 1, 3, 4 * LIMIT_S))
    yield
    pool.stop()
    pool.set_timeout(60)
    pool.start([-1], [0])


@contextmanager
def silent_gpu(chain: GpuChain) -> Iterator[None]:
    """Its last block does not run."""
    step = cpu_of(chain).service._step
    usual, step.limit_s = step.limit_s, LIMIT_S
    with last_block(lambda: None):
        yield
    step.limit_s = usual


@contextmanager
def failed_kernel(chain: GpuChain) -> Iterator[None]:
    """Its last block's launch raises in the thread that plays the GPU."""

    def fail() -> None:
        raise EmulationFailed("hidden: thread 3 of block 0 reads beyond")

    step = cpu_of(chain).service._step
    usual, step.limit_s = step.limit_s, LIMIT_S
    with last_block(fail):
        yield
    step.limit_s = usual


@contextmanager
def interrupt(chain: GpuChain) -> Iterator[None]:
    """SIGINT while the CPU waits for the last block."""
    timer = threading.Timer(0.2, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with last_block(lambda: None):
        yield
    timer.join()


@contextmanager
def stopped_process(chain: GpuChain) -> Iterator[None]:
    """The CPU's side of the step stands still for longer than the GPU waits, then goes on."""
    service = cpu_of(chain).service
    record = service.mailboxes[0].record
    usual, record.limit_ns = record.limit_ns, int(LIMIT_S * 1e9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_check_step", lambda *_: time.sleep(4 * LIMIT_S))
        yield
    record.limit_ns = usual


@contextmanager
def last_block(instead: Callable[[], None]) -> Iterator[None]:
    launch, launched = BlockStep.launch, []

    def some(step: BlockStep, buffers: object) -> None:
        launched.append(step)
        if len(launched) == 3:
            instead()
        else:
            launch(step, buffers)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BlockStep, "launch", some)
        yield


MISHAPS: dict[str, Callable[[GpuChain], AbstractContextManager[None]]] = {
    "thrown worker": thrown_worker,
    "stalled worker": stalled_worker,
    "silent GPU": silent_gpu,
    "failed kernel": failed_kernel,
    "interrupt": interrupt,
    "stopped process": stopped_process,
}
