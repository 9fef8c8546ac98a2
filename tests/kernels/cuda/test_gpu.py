import gc
import mmap
import weakref

import pytest
import torch

from kernels.cuda import driver, host_memory
from kernels.errors import CudaCallFailed, KernelInputError
from tests.kernels.cuda.samples import SAMPLES, SampleRecord, sample

pytestmark = pytest.mark.gpu
BLOCKS, THREADS = 64, 128


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda:0")


@pytest.mark.parametrize("overlap", [False, True])
def test_launches_in_a_row_see_what_their_predecessors_wrote(device, overlap):
    x = torch.randn(100_000, device=device)
    out = torch.zeros(1 + BLOCKS, device=device)
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    kernel = SAMPLES.kernel("total<4>", device)
    record = sample(x, out, counter)
    for _ in range(50):
        kernel.launch((BLOCKS, 1, 1), THREADS, record, overlap=overlap)
    assert out[0].item() == pytest.approx(50 * x.double().sum().item(), rel=1e-4, abs=0.5)
    assert counter.item() == 0


@pytest.mark.parametrize("overlap", [False, True])
def test_a_captured_graph_is_replayed_with_other_contents(device, overlap):
    x = torch.zeros(10_000, device=device)
    out = torch.zeros(1 + BLOCKS, device=device)
    counter = torch.zeros(1, dtype=torch.int32, device=device)
    kernel = SAMPLES.kernel("total<4>", device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(3):
            kernel.launch((BLOCKS, 1, 1), THREADS, sample(x, out, counter), overlap=overlap)
    for value in (1.0, 2.0):
        x.fill_(value)
        out.zero_()
        graph.replay()
        assert out[0].item() == 3 * value * 10_000


def test_a_gpu_gives_what_the_emulator_gives(device):
    numbers = torch.cat([torch.linspace(-3, 70000, 500), torch.randn(500) * 1e-5])
    kept = []
    for place in (torch.device("cpu"), device):
        x, out = numbers.to(place), torch.zeros(2000, device=place)
        SAMPLES.kernel("floats", place).launch((1, 1, 1), 64, sample(x, out))
        lanes = torch.zeros(6, 32, device=place)
        SAMPLES.kernel("shuffles", place).launch((1, 1, 1), 32, sample(x, lanes))
        three = torch.zeros(3, device=place)
        SAMPLES.kernel("bytes", place).launch((1, 1, 1), 1, sample(x, three))
        kept.append([tensor.cpu() for tensor in (out, lanes, three)])
    assert all(torch.equal(one, other) for one, other in zip(*kept, strict=True))


def test_a_block_gets_more_than_48_kib_of_shared_memory(device):
    x, out = torch.randn(1000, device=device), torch.zeros(1000, device=device)
    kernel = SAMPLES.kernel("reverse", device)
    kernel.launch((1, 1, 1), 1000, sample(x, out), shared_bytes=90 << 10)
    assert torch.equal(out, x.flip(0))


def test_a_record_of_another_size_is_refused(device):
    class Longer(SampleRecord):
        _fields_ = (("more", SampleRecord),)

    with pytest.raises(KernelInputError, match="takes a record of 32 bytes and was given 64"):
        SAMPLES.kernel("largest", device).launch((1, 1, 1), 32, Longer())


def test_a_stream_waits_for_the_cpu_and_a_kernel_sees_what_it_writes(device):
    mailbox = torch.zeros(1024, dtype=torch.int32)
    host_memory.register(mailbox.data_ptr(), 4096)
    try:
        pointer = host_memory.device_pointer(mailbox.data_ptr())
        out = torch.zeros(32, device=device)
        kernel = SAMPLES.kernel("wait_for_cpu", device)
        host_memory.wait_value(pointer + 4, 1, device)
        kernel.launch((1, 1, 1), 32, SampleRecord(0, out.data_ptr(), pointer, 0), overlap=False)
        host_memory.write_value(pointer + 8, 3, device)
        assert not torch.cuda.current_stream(device).query()
        mailbox[1] = 1
        mailbox[0] = 7
        torch.cuda.synchronize(device)
        assert mailbox[2].item() == 3
        assert (out == 7).all()
    finally:
        host_memory.unregister(mailbox.data_ptr())


@pytest.fixture
def shared_pages():
    """Two tensors over registered CPU memory, which is let go of afterwards."""
    pages = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory = torch.frombuffer(pages, dtype=torch.uint8).zero_()
    host_memory.register(memory.data_ptr(), memory.nbytes)
    yield memory
    torch.cuda.synchronize()
    host_memory.unregister(memory.data_ptr())


def test_a_mapped_tensor_is_the_cpu_memory_itself(device, shared_pages):
    mapped = host_memory.mapped_tensor(shared_pages[64 : 64 + 4096], device)
    assert mapped.device == device
    floats = mapped.view(torch.float32).view(-1, 16)
    floats[3] = torch.arange(16, device=device)
    torch.cuda.synchronize(device)
    seen = shared_pages[64 : 64 + 4096].view(torch.float32).view(-1, 16)
    assert seen[3].tolist() == list(range(16))
    seen[5] = 7
    assert floats[5].sum().item() == 7 * 16
    assert shared_pages[:64].sum() == shared_pages[64 + 4096 :].sum() == 0


def test_a_mapped_tensor_keeps_its_memory_alive(device, shared_pages):
    part = shared_pages[:4096]
    mapped = host_memory.mapped_tensor(part, device)
    alive = weakref.ref(part)
    del part
    gc.collect()
    assert alive() is not None
    mapped.fill_(9)
    torch.cuda.synchronize(device)
    assert shared_pages[4095].item() == 9
    del mapped
    gc.collect()
    assert alive() is None


def test_what_another_gpu_registered_is_mapped_or_refused_but_never_copied(device, shared_pages):
    if torch.cuda.device_count() < 2:
        pytest.skip("one GPU")
    other = torch.device("cuda", 1)
    try:
        mapped = host_memory.mapped_tensor(shared_pages, other)
    except CudaCallFailed:
        return
    assert mapped.device == other
    mapped.fill_(9)
    torch.cuda.synchronize(other)
    assert shared_pages.unique().tolist() == [9]


def test_the_device_is_new_enough_for_the_kernels(device):
    driver.check_capability(device, driver.capability(0))
    assert driver.capability(0) == torch.cuda.get_device_capability(0)
