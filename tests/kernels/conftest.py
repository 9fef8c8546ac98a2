"""Triton's interpreter for tests, in a process of its own.

Triton reads TRITON_INTERPRET when it is imported and cannot do both: a process that interprets
kernels does not compile them. So tests that compile stay in pytest's process, and functions that
interpret run in one other process, which the fixture starts once.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing import get_context

import pytest

BROKEN_FROM_NUMPY = (2, 4)  # triton before 3.7 turns one-element arrays into scalars, as it forbids


@pytest.fixture(scope="session")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    """`interpreter.submit(function, ...).result()` runs a test module's function interpreted."""
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


def _release(package: str) -> tuple[int, int]:
    major, minor = version(package).split(".")[:2]
    return int(major), int(minor)
