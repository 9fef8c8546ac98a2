"""What every test can rely on: a tiny model, `shared` where it is there, NaN in fresh memory,
Triton's interpreter.
"""

import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.shared_folder import SHARED
from tools.make_model import make_model

BROKEN_FROM_NUMPY = (2, 4)  # triton before 3.7 turns one-element arrays into scalars, as it forbids


def pytest_configure(config: pytest.Config) -> None:
    # Determinism is asked for below only for its fresh memory; torch warns of GPU ops that lack it.
    config.addinivalue_line(
        "filterwarnings", "ignore:.*does not have a deterministic implementation"
    )
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of shells' background jobs
        signal.signal(signal.SIGINT, signal.default_int_handler)  # programs of tests are to hear it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def nan_in_fresh_memory() -> Iterator[None]:
    """torch.empty gives NaN, so that a kernel which skips a row fails. Torch-free tests stay so."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the DeepSeek-V3 kind, a few hundred kilobytes."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository: conformance kit and trained models."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """`interpreter.submit(function, ...).result()` runs a test module's function interpreted.

    Triton reads TRITON_INTERPRET when it is imported and cannot do both: a process that interprets
    kernels does not compile them. So what compiles stays in pytest's process, and what interprets
    runs in one other, started once.
    """
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    if _release("triton") < (3, 7) and _release("numpy") >= BROKEN_FROM_NUMPY:
        pytest.skip(f"triton {version('triton')} cannot interpret with numpy {version('numpy')}")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRITON_INTERPRET", "1")
        environment.setenv("CUDA_VISIBLE_DEVICES", "")
        pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        pool.submit(int).result()
    with pool:
        yield pool


def _has_cuda() -> bool:
    import torch  # noqa: PLC0415  a run without gpu tests does not need it

    return torch.cuda.is_available()


def _release(package: str) -> tuple[int, int]:
    major, minor = version(package).split(".")[:2]
    return int(major), int(minor)
