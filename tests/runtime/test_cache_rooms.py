"""Cache that a GPU maps: a card of host memory stands for the GPU, a registrar keeps count."""

import gc
import mmap
from dataclasses import replace

import pytest
import torch

import hybrid
from hybrid.errors import MachineError
from hybrid.runtime import cache_rooms, machines, memory, prepare
from hybrid.runtime.loader import reserve_memory
from kernels.errors import CudaCallFailed
from placement.errors import DoesNotFit
from placement.machines.machine import CPU, DeviceKind, Machine
from placement.machines.probe import probe_machine

MIB = 1 << 20
TWO_GPUS = {"CUDA0": 160 * MIB, "CUDA1": 160 * MIB}
PROMPT = "Once upon a time"


class Driver:
    """Keeps what is registered; `refuses` all when told."""

    def __init__(self) -> None:
        self.registered: dict[int, int] = {}
        self.mapped: list[int] = []
        self.refuses = False

    def register(self, address: int, nbytes: int, device: torch.device) -> None:
        assert address % mmap.PAGESIZE == nbytes % mmap.PAGESIZE == 0
        if self.refuses:
            raise CudaCallFailed("cuMemHostRegister_v2 failed: CUDA_ERROR_OUT_OF_MEMORY (2)")
        self.registered[address] = nbytes

    def unregister(self, address: int, device: torch.device) -> None:
        del self.registered[address]

    def mapped_tensor(self, room: torch.Tensor, device: torch.device) -> torch.Tensor:
        first = room.data_ptr()
        ranges = self.registered.items()
        assert any(at <= first and first + room.nbytes <= at + size for at, size in ranges)
        assert not room.any(), "a cache that was not zeroed"
        self.mapped.append(first)
        return room


@pytest.fixture
def driver(monkeypatch) -> Driver:
    """GPUs that are real to planner and loader; their memory is the CPU's."""
    counting = Driver()

    def probe(**given: object) -> Machine:
        found = probe_machine(**given)
        kinds = {True: DeviceKind.GPU, False: DeviceKind.CPU}
        return replace(
            found,
            devices=tuple(replace(d, kind=kinds[d.is_gpu], process_bytes=0) for d in found.devices),
        )

    monkeypatch.setattr(machines, "probe_machine", probe)
    monkeypatch.setattr("hybrid.runtime.load.check_gpu", lambda *_, **__: None)
    monkeypatch.setattr(memory, "cuda_device", lambda device: torch.device("cpu"))
    monkeypatch.setattr(cache_rooms.GpuRegistrar, "register", _method(counting.register))
    monkeypatch.setattr(cache_rooms.GpuRegistrar, "unregister", _method(counting.unregister))
    monkeypatch.setattr(cache_rooms, "mapped_tensor", counting.mapped_tensor)
    return counting


def _method(call):
    return lambda self, *arguments: call(*arguments, self.device)


def load(**options):
    # mapped: nothing but cache is pinned
    usual = {"simulate": TWO_GPUS, "budgets": TWO_GPUS, "context": 256, "mmap": True}
    usual |= {"shares": (1.0, 1.0), "rules": ["exps=CPU"]}
    return hybrid.load("demo", **usual | {"cache_in_ram": True} | options)


def greedy(engine) -> list[int]:
    return [token.id for token in engine.generate(PROMPT, max_tokens=8, temperature=0)]


def test_each_gpu_maps_an_arena_with_the_cache_of_its_layers(driver):
    engine = load()
    used = {use.name: use for use in engine.plan.devices}
    assert set(engine.plan.layers) == {"CUDA0", "CUDA1"}
    assert len(driver.registered) == 2
    assert len(driver.mapped) == len(engine.plan.layers)
    assert sum(driver.registered.values()) >= used[CPU].cache_bytes > 0
    for name, room in engine.memories.items():
        assert room.used.get("cache", 0) == used[name].cache_bytes
        assert (used[name].cache_bytes > 0) == (name == CPU)
    assert greedy(engine) == greedy(load(cache_in_ram=False))


def test_layers_on_the_cpu_keep_their_cache_in_its_own_arena(driver):
    engine = load(gpu_layers=2)
    on_gpus = sum(home != CPU for home in engine.plan.layers)
    assert on_gpus == 1
    assert len(driver.mapped) == on_gpus
    planned = next(use.cache_bytes for use in engine.plan.devices if use.name == CPU)
    assert engine.memories[CPU].used["cache"] == planned


def test_without_the_option_nothing_is_mapped(driver):
    engine = load(cache_in_ram=False)
    assert not driver.mapped
    assert CPU not in [name for name, room in engine.memories.items() if room.used.get("cache")]


def test_cache_is_unregistered_before_its_memory_is_freed_and_not_earlier(driver):
    engine = load()
    caches = engine._caches
    del engine
    gc.collect()
    assert len(driver.registered) == 2
    del caches
    gc.collect()
    assert driver.registered == {}


def test_a_driver_that_refuses_is_an_error_with_remedies_before_weights_are_read(driver):
    driver.refuses = True
    read = []
    with pytest.raises(MachineError) as error:
        load(progress=lambda done, total: read.append(done))
    told = str(error.value)
    assert "CUDA0 cannot reach 2.0 MiB of cache in RAM" in told
    assert "CUDA_ERROR_OUT_OF_MEMORY" in told
    assert all(word in told for word in ("leave out -nkvo", "-c", "ulimit -l", "cache_in_ram for"))
    assert read == []


def test_mapped_cache_counts_towards_the_budget_of_the_ram(driver):
    options = prepare.LoadOptions(
        simulate=TWO_GPUS, shares=(1.0, 1.0), cache_in_ram=True, context=256
    )
    found = prepare.prepare("demo", options)
    [host] = [use for use in found.plan.devices if use.name == CPU]
    placed = host.total_bytes - host.other_bytes  # the rest is not the arenas' business

    def reserve(budget_bytes: int) -> None:
        memories = memory.open_memories(found.plan.devices, found.machine, found.layout)
        memories[CPU].budget_bytes = budget_bytes
        reserve_memory(found.plan, memories, found.inventory.shape, found.layout, mapped=False)

    reserve(placed)
    with pytest.raises(DoesNotFit, match="CPU"):
        reserve(placed - 1)
