"""Memory under a policy, and the comparison of what was asked with what came of it."""

import mmap
import sys

import pytest

from hybrid.runtime import host_pages
from hybrid.runtime.host_pages import (
    HUGE_PAGE_BYTES,
    PAGES_IN_A_HUGE_PAGE,
    HostPages,
    PagePlacement,
    read_placement,
)
from hybrid.runtime.numa_calls import NumaPolicy

MIB = 1 << 20
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's /proc")
MANY = 100 * PAGES_IN_A_HUGE_PAGE


def asked(policy: NumaPolicy, nodes: tuple[int, ...], pages: dict[int, int]) -> list[str]:
    """Faults of memory made under a policy when the kernel tells of these pages."""
    memory = HostPages(HUGE_PAGE_BYTES)
    memory.policy, memory.nodes = policy, nodes
    huge = sum(pages.values()) * mmap.PAGESIZE
    return memory.faults(PagePlacement(pages, huge))


def test_memory_of_nothing_can_be_made():
    assert HostPages(0).nbytes == HUGE_PAGE_BYTES


def test_an_even_interleaving_has_no_fault():
    assert asked(NumaPolicy.INTERLEAVE, (0, 1), {0: MANY, 1: MANY}) == []
    assert asked(NumaPolicy.INTERLEAVE, (0, 1), {0: MANY, 1: int(0.92 * MANY)}) == []


def test_an_uneven_interleaving_is_told():
    [fault] = asked(NumaPolicy.INTERLEAVE, (0, 1), {0: MANY, 1: int(0.88 * MANY)})
    assert "not spread evenly: node0 53.2 %, node1 46.8 %" in fault
    [fault] = asked(NumaPolicy.INTERLEAVE, (0, 1, 2), {0: MANY, 1: MANY})
    assert "not spread evenly" in fault


def test_few_huge_pages_may_differ_by_one():
    huge = PAGES_IN_A_HUGE_PAGE
    assert asked(NumaPolicy.INTERLEAVE, (0, 1), {0: 2 * huge, 1: huge}) == []
    assert asked(NumaPolicy.INTERLEAVE, (0, 1), {0: 4 * huge, 1: huge}) != []


def test_pages_bound_to_a_node_that_lie_elsewhere_are_told():
    assert asked(NumaPolicy.SHARD, (1,), {1: MANY}) == []
    [fault] = asked(NumaPolicy.SHARD, (1,), {0: 3, 1: MANY})
    assert f"3 of {MANY + 3} pages are not on node1" in fault


@pytest.mark.parametrize("policy", [NumaPolicy.LOCAL, NumaPolicy.OFF])
def test_what_the_system_decides_is_no_fault(policy):
    assert asked(policy, (0, 1), {0: MANY, 1: 1}) == []


def test_small_pages_where_huge_ones_were_asked_for_are_told():
    memory = HostPages(HUGE_PAGE_BYTES)
    [fault] = memory.faults(PagePlacement({0: MANY}, HUGE_PAGE_BYTES))
    assert "2.0 MiB of 200.0 MiB in huge pages" in fault
    assert "transparent_hugepage" in fault
    assert memory.faults(PagePlacement({0: MANY}, 190 * MIB)) == []
    memory.policy, memory.nodes = NumaPolicy.OFF, (0, 1)
    assert memory.faults(PagePlacement({0: MANY}, 0)) == []


@linux_only
def test_a_policy_that_the_kernel_refuses_is_noted():
    memory = HostPages(1, NumaPolicy.SHARD, [1023])
    assert len(memory.notes) == 1
    assert "shard over node1023 not set: mbind: " in memory.notes[0]
    memory.touch()


def test_one_node_needs_no_call(monkeypatch):
    def refuse(*_):
        raise OSError(1, "called")

    monkeypatch.setattr(host_pages, "set_policy", refuse)
    assert HostPages(1, NumaPolicy.INTERLEAVE, [0]).notes == []
    assert HostPages(1, NumaPolicy.LOCAL, [0]).notes == []
    assert HostPages(1, NumaPolicy.INTERLEAVE, [0, 1]).notes == [
        "interleave over node0, node1 not set: called"
    ]


def test_placement_counts_only_touched_pages():
    memory = HostPages(8 * MIB)
    found = memory.placement()
    if found is None:
        pytest.skip("this kernel tells nothing of pages")
    memory.view()[: 4 * MIB] = bytes(4 * MIB)
    found = memory.placement()
    assert 4 * MIB <= found.touched_bytes <= 6 * MIB


def test_neighbours_that_numa_maps_counts_are_left_out(monkeypatch):
    memory = HostPages(4 * MIB)
    memory.touch()
    joined = PagePlacement({0: 100 * MANY}, 1 << 40)
    monkeypatch.setattr(host_pages, "read_placement", lambda *_: joined)
    monkeypatch.setattr(host_pages, "pages_by_node", lambda *_: {0: 1000, 1: 24})
    assert memory.placement() == PagePlacement({0: 1000, 1: 24}, 4 * MIB)

    def refuse(*_):
        raise OSError(38, "no such call")

    monkeypatch.setattr(host_pages, "pages_by_node", refuse)
    assert memory.placement() == joined


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
