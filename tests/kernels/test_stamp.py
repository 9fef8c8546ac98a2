"""`kernels.stamp`: by reference, emulated, and on a GPU where there is one."""

import pytest
import torch

from kernels.errors import KernelInputError
from kernels.stamp import cases, count, stamp
from tests.kernels.aot import CAPABILITIES, cuda_resources


@pytest.fixture(params=["reference", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def how(request):
    """Device and implementation."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    name = "reference" if request.param == "reference" else "gpu"
    return torch.device("cuda" if request.param == "cuda" else "cpu"), name


def test_stamps_in_a_row_grow_and_leave_other_slots_alone(how):
    device, name = how
    times = torch.full((5,), -1, dtype=torch.int64, device=device)
    for slot in (1, 2, 3):
        stamp(times, slot, implementation=name)
    first, *stamped, last = times.tolist()
    assert (first, last) == (-1, -1)
    assert stamped == sorted(stamped)
    assert stamped[0] > 0


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize(("shape", "experts"), cases.CHOICES)
def test_every_choice_is_counted_once_more(shape, experts, kind, how):
    device, name = how
    chosen = torch.randint(experts, shape, generator=torch.Generator().manual_seed(experts))
    wanted = torch.bincount(chosen.flatten(), minlength=experts)
    chosen = chosen.to(device, kind)
    usage = torch.arange(experts, dtype=torch.int32, device=device)
    count(chosen, usage, implementation=name)
    assert torch.equal(usage.cpu(), wanted + torch.arange(experts))
    times = torch.zeros(1, dtype=torch.int64, device=device)
    stamp(times, 0, chosen, usage, implementation=name)
    assert torch.equal(usage.cpu(), 2 * wanted + torch.arange(experts))
    assert times.item() > 0


@pytest.mark.gpu
@pytest.mark.alone
def test_a_stamp_in_a_graph_waits_for_what_is_before_it():
    times = torch.zeros(2, dtype=torch.int64, device="cuda")
    wide = torch.randn(4096, 4096, device="cuda")
    stamp(times, 0)
    out = wide @ wide
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        stamp(times, 0)
        for _ in range(8):
            torch.mm(wide, wide, out=out)
        stamp(times, 1)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    graph.replay()
    end.record()
    torch.cuda.synchronize()
    spent_ms = (times[1] - times[0]).item() * 1e-6
    assert 0.9 * begin.elapsed_time(end) < spent_ms < 1.02 * begin.elapsed_time(end)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_it_compiles_without_spills(capability):
    names = ["stamp<32, int32_t>", "stamp<32, int64_t>"]
    for needs in cuda_resources("stamp/gpu.cu", names, capability).values():
        assert needs.spill_bytes == needs.stack_bytes == 0
        assert needs.registers <= 32


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: stamp(torch.zeros(2), 0),
        lambda: stamp(torch.zeros(2, dtype=torch.int64), 2),
        lambda: stamp(torch.zeros(2, dtype=torch.int64), 0, torch.zeros(2, dtype=torch.int32)),
        lambda: count(torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        lambda: count(torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)),
        lambda: stamp(torch.zeros(2, dtype=torch.int64), 0, implementation="fast"),
    ],
)
def test_what_does_not_fit_is_refused(wrong):
    with pytest.raises(KernelInputError):
        wrong()
