"""Rooms of bytes: budgets, and which torch device a probed card is."""

from types import SimpleNamespace

import pytest
import torch

from hybrid.errors import MachineError
from hybrid.runtime.crossing import Place
from hybrid.runtime.memory import HostMemory, SimulatedMemory, cuda_device
from hybrid.runtime.node_layout import HostLayout
from hybrid.runtime.numa_calls import NumaPolicy
from placement.errors import DoesNotFit
from placement.machines.machine import Device, DeviceKind


def gpu(name: str, uuid: str | None) -> Device:
    return Device(name, DeviceKind.GPU, 1 << 30, 1 << 30, uuid=uuid)


@pytest.fixture
def two_cards(monkeypatch):
    """torch counts them the other way round than NVML."""
    cards = [SimpleNamespace(uuid="bbbb"), SimpleNamespace(uuid="aaaa")]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: cards[index])


@pytest.mark.usefixtures("two_cards")
def test_a_card_is_found_by_its_uuid_whatever_its_number():
    assert cuda_device(gpu("CUDA0", "GPU-aaaa")) == torch.device("cuda", 1)
    assert cuda_device(gpu("CUDA1", "GPU-bbbb")) == torch.device("cuda", 0)
    assert cuda_device(gpu("CUDA1", None)) == torch.device("cuda", 1)


@pytest.mark.usefixtures("two_cards")
def test_a_card_that_torch_does_not_see_is_an_error():
    with pytest.raises(MachineError, match="cannot reach CUDA0") as error:
        cuda_device(gpu("CUDA0", "GPU-cccc"))
    assert "--device none" in str(error.value)


@pytest.mark.parametrize("kind", [HostMemory, SimulatedMemory])
def test_a_budget_holds_for_weights_cache_and_scratch_together(kind):
    place = Place("CUDA0", torch.device("cpu"))
    kind(place, 1000).reserve([400, 500], 100)
    with pytest.raises(DoesNotFit, match="CUDA0"):
        kind(place, 1000).reserve([400, 500], 101)


def test_what_is_taken_is_counted_by_category():
    memory = HostMemory(Place("CPU", torch.device("cpu")), 1000)
    memory.reserve([10, 20, 30], 0)
    memory.take(10, "weights")
    memory.take(20, "weights")
    memory.take(30, "cache")
    assert memory.used == {"weights": 30, "cache": 30}


def test_notes_of_an_arena_reach_the_reader():
    memory = HostMemory(Place("CPU", torch.device("cpu")), 1000)
    assert memory.notes == ()
    memory.reserve([10], 0)
    memory.arena.notes.append("no huge pages")
    assert memory.notes == ("CPU: no huge pages",)


def test_parts_bound_to_nodes_count_towards_the_budget():
    memory = HostMemory(Place("CPU", torch.device("cpu")), 1000)
    with pytest.raises(DoesNotFit, match="CPU"):
        memory.reserve([400], 100, {0: [300], 1: [100, 101]})
    memory.reserve([400], 100, {0: [300], 1: [100, 100]})
    whole, part = memory.take(400, "weights"), memory.take(100, "weights", 1)
    assert memory.used == {"weights": 500}
    assert memory.bound[1].address <= part.data_ptr() < memory.bound[1].address + 1000
    assert memory.arena.address <= whole.data_ptr() < memory.arena.address + 1000


def test_pages_by_node_are_told_where_there_is_a_choice():
    place = Place("CPU", torch.device("cpu"))
    memory = HostMemory(place, 1 << 23, layout=HostLayout(NumaPolicy.SHARD, (0, 1)))
    memory.reserve([1 << 21], 0, {0: [1 << 21]})
    memory.take(1 << 21, "cache").fill_(1)
    memory.take(1 << 21, "weights", 0).fill_(1)
    if memory.arena.placement() is None:
        pytest.skip("this kernel tells nothing of pages")
    told = [note for note in memory.notes if "pages by NUMA node" in note]
    assert len(told) == 2
    assert told[0].startswith("CPU: pages by NUMA node: node0 ")
    assert "pages by NUMA node of node0's parts: node0 " in told[1]
    assert "in huge pages" in told[1]
