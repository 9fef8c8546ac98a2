"""Chunks of the host arena pinned behind the readers, by a registrar that keeps count."""

import gc
import mmap
import threading

import pytest
import torch

from hybrid.gguf.reader import GgufFile
from hybrid.runtime import pinning as pinning_module
from hybrid.runtime.arena import PAGED_BYTES, HostArena
from hybrid.runtime.crossing import Place
from hybrid.runtime.memory import GpuMemory, HostMemory, SimulatedMemory
from hybrid.runtime.node_layout import HostLayout
from hybrid.runtime.numa_calls import NumaPolicy
from hybrid.runtime.pinning import GpuRegistrar, Pinning, pin_experts
from hybrid.runtime.reading import ReadHow, read_weights
from hybrid.runtime.shards import Piece
from kernels.errors import CudaCallFailed
from placement.plan import Assignment, PlacementPlan
from placement.workload import Workload
from tools.make_model import make_model

MIB = 1 << 20
REFUSAL = "cuMemHostRegister_v2 failed: CUDA_ERROR_OUT_OF_MEMORY (2), out of memory"


class Counting:
    """Keeps what is pinned; from `most` chunks on it refuses."""

    def __init__(self, most=1000):
        self.most = most
        self.pinned = {}
        self.changed = threading.Event()

    def register(self, address, nbytes):
        assert address % mmap.PAGESIZE == nbytes % mmap.PAGESIZE == 0
        for other, size in self.pinned.items():
            assert address + nbytes <= other or other + size <= address, "pinned twice"
        if len(self.pinned) >= self.most:
            raise CudaCallFailed(REFUSAL)
        self.pinned[address] = nbytes
        self.changed.set()

    def unregister(self, address):
        del self.pinned[address]


@pytest.fixture(autouse=True)
def chunks_of_two_mib(monkeypatch):
    monkeypatch.setattr(pinning_module, "CHUNK_BYTES", 2 * MIB)


def arena_of(*sizes):
    arena = HostArena(sum(sizes) + len(sizes) * mmap.PAGESIZE)
    return arena, [arena.take(nbytes) for nbytes in sizes]


def wait_for(registrar, chunks):
    while len(registrar.pinned) < chunks:
        assert registrar.changed.wait(10), f"{len(registrar.pinned)} of {chunks} chunks pinned"
        registrar.changed.clear()


def test_a_chunk_is_pinned_when_its_last_byte_has_arrived():
    arena, (first, second, third) = arena_of(MIB, MIB + 5, MIB)
    registrar = Counting()
    pinning = Pinning([arena], registrar)
    pinning.arrived(second)
    pinning.arrived(first[: MIB // 2])
    pinning.arrived(third[:10])
    pinning.arrived(first[MIB // 2 :])
    wait_for(registrar, 1)
    end = second.data_ptr() + second.numel()
    assert registrar.pinned == {arena.address: -(-(end - arena.address) // 4096) * 4096}
    pinning.finish(rest=False)
    assert len(registrar.pinned) == 1


def test_the_end_pins_what_nothing_is_read_into():
    arena, (weights, cache) = arena_of(2 * MIB, 3 * MIB)
    registrar = Counting()
    pinning = Pinning([arena], registrar)
    pinning.arrived(weights)
    pinning.finish(rest=True)
    assert sorted(registrar.pinned) == [weights.data_ptr(), cache.data_ptr()]
    assert pinning.pinned_bytes == 5 * MIB
    assert arena.notes == []


def test_no_tensor_lies_in_two_chunks():
    sizes = [100, 3 * MIB, 64, 700_000, MIB + 1, 5 * MIB + 77, 10, MIB, MIB]
    arena, tensors = arena_of(*sizes)
    registrar = Counting()
    Pinning([arena], registrar).finish(rest=True)
    assert len(registrar.pinned) > 2
    for tensor in tensors:
        inside = [
            at
            for at, nbytes in registrar.pinned.items()
            if at <= tensor.data_ptr() and tensor.data_ptr() + tensor.numel() <= at + nbytes
        ]
        assert len(inside) == 1, tensor.numel()


def test_a_refusal_is_one_note_and_leaves_nothing_pinned():
    arena, tensors = arena_of(*[2 * MIB] * 5)
    registrar = Counting(most=2)
    pinning = Pinning([arena], registrar)
    for tensor in tensors:
        pinning.arrived(tensor)
    pinning.finish(rest=True)
    assert registrar.pinned == {}
    assert pinning.pinned_bytes == 0
    [note] = arena.notes
    assert "not pinned" in note
    assert "after 4.0 MiB" in note
    assert REFUSAL in note
    assert "ulimit -l" in note


def test_memory_is_unpinned_before_it_is_freed_and_not_earlier():
    arena, tensors = arena_of(2 * MIB, 2 * MIB)
    registrar = Counting()
    Pinning([arena], registrar).finish(rest=True)
    del arena, tensors[0]
    gc.collect()
    assert len(registrar.pinned) == 2
    tensors.clear()
    gc.collect()
    assert registrar.pinned == {}


def test_a_driver_that_has_gone_at_the_end_is_no_error():
    class Gone(Counting):
        def unregister(self, address):
            super().unregister(address)
            raise CudaCallFailed("cuMemHostUnregister failed: CUDA_ERROR_DEINITIALIZED (4)")

    arena, tensors = arena_of(2 * MIB, 2 * MIB)
    registrar = Gone()
    Pinning([arena], registrar).finish(rest=True)
    del arena, tensors
    gc.collect()
    assert registrar.pinned == {}


def test_memory_of_others_is_passed_over():
    arena, _ = arena_of(2 * MIB)
    pinning = Pinning([arena], Counting())
    own = torch.zeros(2 * MIB, dtype=torch.uint8)
    pinning.arrived(own)
    pinning.finish(rest=False)
    assert pinning.pinned_bytes == 0


def test_large_tensors_begin_pages_and_small_ones_do_not():
    arena, (_, large, small) = arena_of(100, PAGED_BYTES, 100)
    assert (large.data_ptr() - arena.address) == mmap.PAGESIZE
    assert small.data_ptr() == large.data_ptr() + PAGED_BYTES


def test_reading_pins_all_of_it_and_a_read_that_fails_ends_the_thread(tmp_path, monkeypatch):
    with GgufFile.open(make_model(tmp_path / "tiny.gguf")) as file:
        tensors = list(file.tensors.values())
        arena, targets = arena_of(*(tensor.nbytes for tensor in tensors))
        pieces = [Piece(t, 0, (at,)) for t, at in zip(tensors, targets, strict=True)]
        registrar = Counting()
        pinning = Pinning([arena], registrar)
        read_weights(file, pieces, lambda *_: None, ReadHow(3), None, pinning)
        assert pinning.pinned_bytes >= sum(tensor.nbytes for tensor in tensors)
        monkeypatch.setattr(file, "read_into", lambda *_: 1 // 0)
        other, targets = arena_of(*(tensor.nbytes for tensor in tensors))
        pieces = [Piece(t, 0, (at,)) for t, at in zip(tensors, targets, strict=True)]
        registrar = Counting()
        with pytest.raises(ZeroDivisionError):
            read_weights(
                file, pieces, lambda *_: None, ReadHow(3), None, Pinning([other], registrar)
            )
    assert registrar.pinned == {}
    assert not [t for t in threading.enumerate() if t.name == "hybrid-pin"]


def plan_of(*devices):
    """Experts of one layer per device."""
    assignments = tuple(
        Assignment(f"blk.{layer}.ffn_up_exps.weight", None, device, 10, None, "")
        for layer, device in enumerate(devices)
    )
    workload = Workload(context_tokens=1)
    return PlacementPlan("model", "deepseek2", 10, assignments, (), (), (), workload)


@pytest.fixture
def memories(monkeypatch):
    """A CPU with two arenas and a GPU; what would be pinned by whom."""
    monkeypatch.setattr(
        pinning_module, "Pinning", lambda arenas, registrar: (list(arenas), registrar)
    )
    host = HostMemory(
        Place("CPU", torch.device("cpu")), MIB, layout=HostLayout(NumaPolicy.SHARD, (0, 1))
    )
    host.reserve([10], 0, {0: [10]})
    return {"CPU": host, "CUDA0": GpuMemory(Place("CUDA0", torch.device("cuda", 1)), MIB)}


def test_experts_in_ram_are_pinned_for_a_gpu(memories):
    host = memories["CPU"]
    found = pin_experts(plan_of("CUDA0", "CPU"), memories, mapped=False)
    assert found == ([host.arena, host.bound[0]], GpuRegistrar(torch.device("cuda", 1)))


def test_nothing_is_pinned_where_no_gpu_copies_experts_out_of_the_arena(memories):
    assert pin_experts(plan_of("CUDA0"), memories, mapped=False) is None
    assert pin_experts(plan_of("CPU"), memories, mapped=True) is None
    simulated = SimulatedMemory(Place("CUDA0", torch.device("cpu")), MIB)
    without = {"CPU": memories["CPU"], "CUDA0": simulated}
    assert pin_experts(plan_of("CPU"), without, mapped=False) is None


@pytest.mark.gpu
def test_a_gpu_pins_an_arena_and_copies_out_of_it():
    arena, tensors = arena_of(3 * MIB, 5 * MIB)
    for value, tensor in enumerate(tensors):
        tensor.fill_(value + 1)
    torch.cuda.init()
    pinning = Pinning([arena], GpuRegistrar(torch.device("cuda", 0)))
    pinning.finish(rest=True)
    assert arena.notes == []
    assert pinning.pinned_bytes == 8 * MIB
    assert all(tensor.is_pinned() for tensor in tensors)
    for value, tensor in enumerate(tensors):
        copied = torch.empty_like(tensor, device="cuda")
        copied.copy_(tensor, non_blocking=True)
        torch.cuda.synchronize()
        assert (copied == value + 1).all()
    address = arena.address
    del arena, tensors, tensor, pinning
    gc.collect()
    again = HostArena(8 * MIB)
    again.take(8 * MIB)
    second = Pinning([again], GpuRegistrar(torch.device("cuda", 0)))
    second.finish(rest=True)
    assert again.notes == [], f"{address:x} was left pinned"
