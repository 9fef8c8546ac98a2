import threading
import time

import pytest
import torch

from kernels.cuda import Kernel
from kernels.errors import EmulationFailed, KernelCompileFailed, KernelInputError
from tests.kernels.cuda.samples import SAMPLES, SampleRecord, sample

NAMES = (
    *("total<1>", "largest", "reverse", "shuffles", "early_return", "floats", "bytes"),
    *("unwritten", "neighbours<true>", "neighbours<false>", "ten_rounds", "wait_for_cpu"),
    *(f"faulty<{fault}>" for fault in range(8)),
)


@pytest.fixture(scope="module")
def emulated() -> dict[str, Kernel]:
    return SAMPLES.compile(NAMES, "cpu")


@pytest.mark.parametrize(("blocks", "threads", "count"), [(1, 32, 7), (3, 64, 1000), (5, 96, 481)])
def test_a_sum_goes_through_warps_blocks_and_the_last_block(emulated, blocks, threads, count):
    x = torch.randn(count)
    out, counter = torch.zeros(1 + blocks), torch.zeros(1, dtype=torch.int32)
    for times in (1, 2):
        emulated["total<1>"].launch((blocks, 1, 1), threads, sample(x, out, counter))
        assert out[0].item() == pytest.approx(times * x.double().sum().item(), abs=1e-4)
        assert counter.item() == 0


def test_every_thread_gets_the_maximum_of_its_block(emulated):
    x, out = torch.randn(1000) - 10, torch.zeros(96)
    emulated["largest"].launch((1, 1, 1), 96, sample(x, out))
    assert (out == x.max()).all()


def test_dynamic_shared_memory_is_one_for_all_threads(emulated):
    x, out = torch.randn(50), torch.empty(50)
    emulated["reverse"].launch((1, 1, 1), 64, sample(x, out), shared_bytes=200)
    assert torch.equal(out, x.flip(0))


def test_shuffles_and_votes_give_what_the_lanes_brought(emulated):
    out = torch.empty(6, 32)
    emulated["shuffles"].launch((1, 1, 1), 32, sample(torch.zeros(1), out))
    lanes = torch.arange(32)
    assert (out[0] == 5).all()
    assert torch.equal(out[1].int(), (lanes ^ 3).int())
    assert torch.equal(out[2].int(), torch.where(lanes < 28, lanes + 4, lanes).int())
    assert (out[3] == 0xAA).all()
    assert (out[4] == 1).all()
    assert (out[5] == 9).all()


def test_a_warp_that_returned_is_not_waited_for(emulated):
    out = torch.zeros(96)
    emulated["early_return"].launch((2, 1, 1), 96, sample(torch.zeros(1), out))
    assert torch.equal(out.view(3, 32)[:, 0], torch.tensor([32.0, 0.0, 32.0]))


def test_short_floats_round_as_torch_does(emulated):
    edges = [0.0, -0.0, 65504.0, 65519.9, 65520.0, -1e9, 6e-8, 2.9e-8, 3e-8, 6.1e-5, 1.0009766]
    ties = 1 + torch.arange(64) * 2.0**-11
    x = torch.cat([torch.tensor(edges), ties, ties * 2.0**-20, torch.randn(500) * 100])
    out = torch.empty(2, x.numel())
    emulated["floats"].launch((1, 1, 1), 32, sample(x, out))
    assert torch.equal(out[0], x.half().float())
    assert torch.equal(out[1], x.bfloat16().float())


def test_bytes_are_signed_chosen_and_loaded_by_sixteen(emulated):
    x, out = torch.arange(4.0), torch.empty(3)
    emulated["bytes"].launch((1, 1, 1), 1, sample(x, out))
    # 0x80017fff . 0x02030405, byte by byte: -128 * 2 + 1 * 3 + 127 * 4 - 1 * 5
    assert out.tolist() == [1000 - 256 + 3 + 508 - 5, 0xFF8066, 3.0]


def test_shared_memory_is_poisoned_before_each_block(emulated):
    out = torch.zeros(6)
    emulated["unwritten"].launch((3, 1, 1), 1, sample(torch.zeros(1), out), shared_bytes=64)
    assert out.isnan().all()


@pytest.mark.parametrize("distance", [1, 63])
def test_a_missing_barrier_shows_whichever_way_the_neighbour_lies(emulated, distance):
    for name, whole in (("neighbours<true>", True), ("neighbours<false>", False)):
        out = torch.zeros(64)
        emulated[name].launch((1, 1, 1), 64, sample(torch.zeros(distance), out))
        assert bool((out == 1).all()) is whole


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (0, "deadlock, 0 of 64 threads have returned.*16 waits at __syncthreads"),
        (1, "threads diverge: .* waits at __shfl_xor_sync .*samples.cu"),
        (2, "reads lane .*, which has returned"),
        (3, "threads diverge: 0 waits at __syncthreads .* and 1 at __syncthreads"),
        (4, "takes 16 bytes from .*, no multiple of 16"),
        (5, "wrote 0 bytes behind its 256 of dynamic shared memory"),
        (6, "needs more than 262144 bytes of stack"),
        (7, "thread 0 is not in the mask of its __shfl_sync"),
    ],
)
def test_what_a_gpu_leaves_undefined_is_an_error(emulated, fault, told):
    kernel = emulated[f"faulty<{fault}>"]
    with pytest.raises(EmulationFailed, match=rf"faulty<{fault}>: block \(0, 0, 0\): .*{told}"):
        kernel.launch((1, 1, 1), 64, sample(torch.zeros(64), torch.zeros(64)), shared_bytes=256)


def test_a_kernel_runs_after_another_launch_failed(emulated):
    x, out = torch.randn(64), torch.zeros(64)
    with pytest.raises(EmulationFailed):
        emulated["faulty<0>"].launch((1, 1, 1), 64, sample(x, out))
    emulated["largest"].launch((1, 1, 1), 64, sample(x, out))
    assert (out == x.max()).all()


def test_a_record_of_another_size_is_an_error(emulated):
    class Shorter(SampleRecord):
        _fields_ = (("more", SampleRecord),)

    with pytest.raises(EmulationFailed, match="takes a record of 32 bytes and was given 64"):
        emulated["largest"].launch((1, 1, 1), 32, Shorter())


@pytest.mark.parametrize(
    ("grid", "threads", "shared_bytes"),
    [((0, 1, 1), 32, 0), ((1, 65536, 1), 32, 0), ((1, 1, 1), 1025, 0), ((1, 1, 1), 32, 1 << 20)],
)
def test_a_launch_that_no_gpu_takes_is_refused(emulated, grid, threads, shared_bytes):
    with pytest.raises(KernelInputError):
        emulated["largest"].launch(grid, threads, SampleRecord(), shared_bytes)


def test_a_fault_in_the_source_comes_with_the_compilers_log():
    with pytest.raises(KernelCompileFailed, match=r"samples.cu does not compile.*missing_kernel"):
        SAMPLES.kernel("missing_kernel<3>", "cpu")


def test_a_kernel_sees_what_another_thread_of_the_program_writes(emulated):
    counter, out = torch.zeros(1, dtype=torch.int32), torch.zeros(32)
    record = sample(torch.zeros(1), out, counter)
    waiting = threading.Thread(target=emulated["wait_for_cpu"].launch, args=((1, 1, 1), 32, record))
    waiting.start()
    time.sleep(0.02)
    assert waiting.is_alive()
    counter.fill_(7)
    waiting.join(timeout=10)
    assert (out == 7).all()


def test_two_threads_of_a_program_have_their_own_shared_memory(emulated):
    x = torch.randn(4, 3000)
    outs = [torch.zeros(64) for _ in x]

    def run(row: int) -> None:
        for _ in range(20):
            emulated["largest"].launch((1, 1, 1), 64, sample(x[row], outs[row]))

    threads = [threading.Thread(target=run, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row, out in enumerate(outs):
        assert (out == x[row].max()).all()


def test_a_block_of_128_threads_meets_20_times_within_a_millisecond(emulated):
    out = torch.zeros(50)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        emulated["ten_rounds"].launch((50, 1, 1), 128, sample(torch.zeros(1), out))
        seconds.append((time.process_time() - start) / 50)
    assert (out == 1).all()
    assert min(seconds) < 1e-3
