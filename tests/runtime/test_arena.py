import pytest
import torch

from hybrid.runtime.arena import ALIGNMENT_BYTES, HostArena, aligned
from hybrid.runtime.host_pages import HUGE_PAGE_BYTES
from hybrid.runtime.numa_calls import NumaPolicy


def test_tensors_start_on_cache_lines_and_do_not_overlap():
    arena = HostArena(10_000)
    first, second = arena.take(3), arena.take(5_000)
    assert first.data_ptr() % ALIGNMENT_BYTES == 0
    assert second.data_ptr() - first.data_ptr() == aligned(3) == ALIGNMENT_BYTES
    first.fill_(7)
    second.fill_(9)
    assert first.tolist() == [7, 7, 7]


def test_an_arena_starts_on_a_huge_page_and_holds_what_it_was_sized_for():
    arena = HostArena(HUGE_PAGE_BYTES + 1)
    assert arena.address % HUGE_PAGE_BYTES == 0
    assert arena.nbytes == 2 * HUGE_PAGE_BYTES
    arena.take(2 * HUGE_PAGE_BYTES)[-1] = 1


def test_memory_lives_as_long_as_a_tensor_in_it():
    tensor = HostArena(100, NumaPolicy.OFF).take(100).fill_(3)
    assert tensor.sum() == 300


def test_taking_more_than_reserved_is_our_own_mistake():
    arena = HostArena(10)
    arena.take(HUGE_PAGE_BYTES)
    with pytest.raises(AssertionError, match="sized for less"):
        arena.take(1)


def test_views_are_writable_bytes():
    assert HostArena(16).take(16).dtype == torch.uint8
