"""The system's own calls about pages: what they answer, and how their refusals read."""

import ctypes
import mmap
import platform
import sys
from types import SimpleNamespace

import pytest

from hybrid.runtime import numa_calls
from hybrid.runtime.host_pages import HostPages
from hybrid.runtime.numa_calls import NumaPolicy, pages_by_node, set_policy

MIB = 1 << 20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="calls of Linux")


@pytest.fixture
def memory() -> HostPages:
    """Four MiB, half of them touched, on a kernel that tells of pages."""
    pages = HostPages(4 * MIB, NumaPolicy.OFF)
    ctypes.memset(pages.address, 1, 2 * MIB)
    try:
        pages_by_node(pages.address, pages.nbytes)
    except OSError as error:
        pytest.skip(f"this kernel tells nothing of pages: {error.strerror}")
    return pages


def touched(counts: dict[int, int]) -> int:
    return sum(counts.values()) * mmap.PAGESIZE


def test_touched_pages_are_counted_and_others_are_not(memory):
    assert touched(pages_by_node(memory.address, memory.nbytes)) == 2 * MIB


def test_large_memory_is_sampled(memory, monkeypatch):
    monkeypatch.setattr(numa_calls, "ASKED_AT_MOST", 100)
    monkeypatch.setattr(numa_calls, "ASKED_AT_ONCE", 7)
    monkeypatch.setattr(numa_calls, "STRIDE_PAGES", 3)
    assert touched(pages_by_node(memory.address, memory.nbytes)) == pytest.approx(2 * MIB, rel=0.01)


def test_a_sample_sees_every_node_of_an_interleaving():
    for nodes in range(2, 65):
        assert len({page * numa_calls.STRIDE_PAGES % nodes for page in range(nodes)}) == nodes


def test_a_refusal_says_why(memory):
    with pytest.raises(OSError, match="mbind: refused") as error:
        set_policy(memory.address, memory.nbytes, NumaPolicy.SHARD, [1023])
    assert error.value.errno == 22


def test_the_policy_off_makes_no_call(monkeypatch):
    called = []
    monkeypatch.setattr(numa_calls, "_call", lambda name: lambda *_: called.append(name))
    set_policy(4096, 8192, NumaPolicy.OFF, [0, 1])
    assert called == []
    set_policy(4096, 8192, NumaPolicy.LOCAL, [0, 1])
    assert called == ["mbind"]  # a call would have been seen


@pytest.mark.parametrize(
    ("policy", "nodes", "expected"),
    [
        (NumaPolicy.INTERLEAVE, [0, 1], (3, [0b11], 65)),
        (NumaPolicy.SHARD, [3], (2, [0b1000], 65)),
        (NumaPolicy.SHARD, [65], (2, [0, 0b10], 129)),
        (NumaPolicy.LOCAL, [0, 1], (1, None, 0)),
    ],
)
def test_a_policy_becomes_mode_and_mask(monkeypatch, policy, nodes, expected):
    seen = []
    monkeypatch.setattr(numa_calls, "_call", lambda name: lambda *given: seen.append(given))
    set_policy(4096, 8192, policy, nodes)
    [(address, nbytes, mode, mask, bits, flags)] = seen
    words = None if mask is None else list(mask._obj)
    assert (address.value, nbytes.value, flags.value) == (4096, 8192, 0)
    assert (mode.value, words, bits.value) == expected


def test_an_unusual_processor_is_served_by_libnuma(memory, monkeypatch):
    by_number = pages_by_node(memory.address, memory.nbytes)
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    try:
        by_library = pages_by_node(memory.address, memory.nbytes)
    except OSError as error:
        pytest.skip(error.strerror)
    assert by_library == by_number


def test_a_missing_libnuma_on_an_unusual_processor_is_named(memory, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    monkeypatch.setitem(sys.modules, "numa", SimpleNamespace())
    with pytest.raises(OSError, match="install libnuma1"):
        set_policy(memory.address, memory.nbytes, NumaPolicy.SHARD, [0])
