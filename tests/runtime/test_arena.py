import pytest
import torch

from hybrid.runtime.arena import (
    ALIGNMENT_BYTES,
    HUGE_PAGE_BYTES,
    HostArena,
    NumaPolicy,
    aligned,
    online_nodes,
    read_placement,
)


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


def test_an_arena_of_nothing_can_be_made():
    assert HostArena(0).nbytes == HUGE_PAGE_BYTES


def test_memory_lives_as_long_as_a_tensor_in_it():
    tensor = HostArena(100, NumaPolicy.OFF).take(100).fill_(3)
    assert tensor.sum() == 300


def test_placement_counts_only_touched_pages():
    arena = HostArena(8 << 20)
    arena.take(4 << 20).fill_(1)
    found = arena.placement()
    if found is None:
        pytest.skip("this kernel has no /proc/self/numa_maps")
    page_bytes = 4096
    touched = sum(found.pages_per_node.values()) * page_bytes
    assert 4 << 20 <= touched <= 6 << 20


def test_online_nodes_reads_ranges(tmp_path):
    folder = tmp_path / "devices/system/node"
    folder.mkdir(parents=True)
    (folder / "has_memory").write_text("0-1,4\n")
    assert online_nodes(tmp_path) == [0, 1, 4]
    assert online_nodes(tmp_path / "nothing") == [0]


def test_placement_of_two_nodes_is_read_from_proc(tmp_path):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/numa_maps").write_text(
        "7f0000000000 interleave:0-1 anon=4 dirty=4 N0=2 N1=2 kernelpagesize_kB=4\n"
        "7f0000200000 default anon=9 N0=9 kernelpagesize_kB=4\n"
    )
    (tmp_path / "self/smaps").write_text(
        "7f0000000000-7f0000100000 rw-p 00000000 00:00 0 \nAnonHugePages:      2048 kB\n"
        "7f0000200000-7f0000300000 rw-p 00000000 00:00 0 \nAnonHugePages:      4096 kB\n"
    )
    found = read_placement(0x7F0000000000, 0x7F0000100000, tmp_path)
    assert found is not None
    assert found.pages_per_node == {0: 2, 1: 2}
    assert found.huge_page_bytes == 2 << 20
    assert read_placement(0, 1, tmp_path / "nothing") is None


def test_taking_more_than_reserved_is_our_own_mistake():
    arena = HostArena(10)
    arena.take(HUGE_PAGE_BYTES)
    with pytest.raises(AssertionError, match="sized for less"):
        arena.take(1)


def test_views_are_writable_bytes():
    assert HostArena(16).take(16).dtype == torch.uint8
