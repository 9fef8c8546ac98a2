"""The CUDA kernels of attention, emulated against float64 and compiled for GPUs."""

import ctypes
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from kernels.attention import gpu_merge_cuda, gpu_wgmma
from kernels.attention.gpu_plan import HOPPER, SPLIT_GRANULE, Splits, partial_in, split_buffers
from kernels.attention.split_results import SplitResults
from kernels.cuda import nvrtc
from kernels.cuda.program import MOST_SHARED_BYTES
from kernels.cuda.sources import KERNELS, Source
from kernels.testing import assert_close
from tests.kernels.aot import CAPABILITIES, cuda_resources

HEADS = 3
SCALE = 0.07
TYPES = (torch.float32, torch.float16, torch.bfloat16)
ROWS = (torch.bfloat16, torch.float16)
HALF_ERROR = {torch.float16: 1e-3, torch.bfloat16: 6e-3}  # of rows, queries, weights and means


@dataclass(frozen=True)
class Step:
    """Inputs of the split for Hopper; as `gpu.absorbed_split` takes them."""

    q: Tensor
    cache: Tensor
    seen: Tensor
    splits: Splits
    scale: float = SCALE
    first_row: Tensor | None = None


def results_of(dtype: torch.dtype, splits: Splits, seen: list[int], latent: int) -> SplitResults:
    """Random means; NaN behind each token's last split."""
    generator = torch.Generator().manual_seed(4)
    size = (len(seen), HEADS, splits.cap)
    partial = torch.randn(*size, latent, generator=generator).to(dtype)
    statistics = torch.randn(*size, 2, generator=generator) * 4
    statistics[..., 1].abs_().add_(0.5)
    for token, count in enumerate(map(splits.count, seen)):
        partial[token, :, count:] = torch.nan
        statistics[token, :, count:] = torch.nan
    lengths = torch.tensor(seen, dtype=torch.int32)
    return SplitResults(partial, statistics, lengths, splits.min_tokens, SPLIT_GRANULE)


def merged(results: SplitResults, splits: Splits) -> Tensor:
    out = []
    for token, seen in enumerate(results.seen.tolist()):
        used = slice(splits.count(seen))
        largest, sums = results.statistics[token, :, used].double().unbind(-1)
        weight = torch.exp2(largest - largest.amax(-1, keepdim=True)) * sums
        mean = (weight[..., None] * results.partial[token, :, used].double()).sum(1)
        out.append(mean / weight.sum(-1, keepdim=True))
    return torch.stack(out)


def step(
    seen: list[int], heads: int = 5, dtype: torch.dtype = torch.float16, cap: int = 2
) -> tuple[Step, SplitResults]:
    """A step of the split for Hopper over random rows, and where it leaves NaN so far."""
    generator = torch.Generator().manual_seed(heads)
    width = gpu_wgmma.WIDTH
    q = torch.randn(len(seen), heads, width, generator=generator)
    cache = torch.randn(max(seen) + 100, width, generator=generator).to(dtype)
    lengths, splits = torch.tensor(seen, dtype=torch.int32), Splits(cap)
    buffers = split_buffers(
        len(seen), heads, gpu_wgmma.LATENT, splits, torch.device("cpu"), cache.dtype
    )
    for buffer in buffers:
        buffer.fill_(torch.nan)
    given = Step(q, cache, lengths, splits)
    return given, SplitResults(*buffers, lengths, splits.min_tokens, SPLIT_GRANULE)


def attention(given: Step) -> Tensor:
    out = []
    for token, seen in enumerate(given.seen.tolist()):
        first = 0 if given.first_row is None else int(given.first_row[token])
        rows = given.cache[first : first + seen].double()
        scores = given.scale * given.q[token].double() @ rows.T
        out.append(scores.softmax(-1) @ rows[:, : gpu_wgmma.LATENT])
    return torch.stack(out)


def split(given: Step, results: SplitResults) -> Tensor:
    """Runs it and merges in float64."""
    gpu_wgmma.split(
        *(given.q, given.cache, given.seen, results.partial, results.statistics, given.scale),
        splits=given.splits,
        first_row=given.first_row,
    )
    return merged(results, given.splits)


@pytest.mark.parametrize("dtype", ROWS, ids=str)
@pytest.mark.parametrize("seen", [1, 31, 64, 65, 223, 449], ids=str)
def test_a_split_for_hopper_is_attention(seen: int, dtype: torch.dtype) -> None:
    given, results = step([seen], dtype=dtype)
    assert_close(split(given, results), attention(given), HALF_ERROR[dtype])


@pytest.mark.parametrize("heads", [33, 45, 66])
def test_every_token_and_head_has_rows_of_its_own(heads: int) -> None:
    given, results = step([330, 1, 129], heads=heads)
    given = replace(given, first_row=torch.tensor([3, 70, 0]))
    assert_close(split(given, results), attention(given), HALF_ERROR[torch.float16])


def test_surplus_splits_for_hopper_write_nothing() -> None:
    given, results = step([100], cap=4)
    split(given, results)
    for buffer in (results.partial, results.statistics):
        assert buffer[:, :, :2].isfinite().all()
        assert buffer[:, :, 2:].isnan().all()


def test_rows_that_a_token_does_not_see_do_not_matter() -> None:
    given, results = step([70])
    before = split(given, results)
    given.cache[70:] = 6e4
    assert torch.equal(split(given, results), before)


@pytest.mark.parametrize("growth", [-3, 3, 7, 9, 40])
def test_scores_may_grow_or_fall_from_tile_to_tile(growth: int) -> None:
    given, results = step([449], cap=1)
    given.q[..., 0] = 1
    in_base_2 = torch.arange(len(given.cache)) // gpu_wgmma.ROWS * growth
    given.cache[:, 0] = (in_base_2 * math.log(2) / SCALE).half()
    assert_close(split(given, results), attention(given), HALF_ERROR[torch.float16])


@pytest.mark.parametrize("size", [1e6, 1e-6])
def test_queries_beyond_float16_keep_each_heads_range(size: float) -> None:
    given, results = step([80])
    given.q[:, 0] *= size
    given = replace(given, scale=SCALE / size)
    assert_close(split(given, results), attention(given), HALF_ERROR[torch.float16])


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("cap", [1, 5, 132, 300])
def test_splits_merge_by_their_weights(cap: int, dtype: torch.dtype, columns: int) -> None:
    splits = Splits(cap)
    results = results_of(dtype, splits, [100_000, 1, 300], 128)
    out = torch.full((3, HEADS, 128), torch.nan)
    gpu_merge_cuda.merge(results, out, columns)
    assert_close(out, merged(results, splits), 1e-6)


def test_a_merge_has_blocks_for_a_device_and_warps_for_whole_splits() -> None:
    def columns(heads: int, latent: int, dtype: torch.dtype) -> int | None:
        return gpu_merge_cuda.columns_of(torch.empty(1, heads, 2, latent, dtype=dtype))

    assert columns(128, 512, torch.float16) == 256
    assert columns(128, 512, torch.float32) == 128
    assert columns(16, 512, torch.float16) == columns(1, 64, torch.float32) == 64
    assert columns(16, 96, torch.float16) is None


def test_merging_blocks_spread_over_a_hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, reserved = torch.device("cuda"), 1024  # of each block's shared memory
    monkeypatch.setattr(gpu_merge_cuda, "overlaps", lambda _: True)
    monkeypatch.setattr(gpu_merge_cuda, "processors", lambda _: 132)
    monkeypatch.setattr(gpu_merge_cuda, "capability_of", lambda _: HOPPER)
    for blocks, share in ((1, 1), (128, 1), (256, 2), (1024, 8)):
        nbytes = gpu_merge_cuda.spread_bytes(cuda, blocks) + reserved
        assert gpu_merge_cuda.HOPPER_SHARED_BYTES // nbytes == share
    monkeypatch.setattr(gpu_merge_cuda, "capability_of", lambda _: (12, 0))
    assert gpu_merge_cuda.spread_bytes(cuda, 128) == 0


@pytest.mark.parametrize("capability", CAPABILITIES, ids=lambda c: f"sm_{c[0]}{c[1]}")
def test_a_merge_keeps_its_loads_in_registers(capability: tuple[int, int]) -> None:
    names = [
        gpu_merge_cuda.kernel_name(dtype, columns)
        for dtype in TYPES
        for columns in (64, gpu_merge_cuda.MOST_COLUMNS[dtype.itemsize])
    ]
    for name, needs in cuda_resources("attention/merge.cu", names, capability).items():
        assert (needs.spill_bytes, needs.stack_bytes) == (0, 0), name
        assert needs.registers <= 64, name  # four blocks of a multiprocessor


def test_a_split_for_hopper_fits_its_registers_and_its_products_overlap() -> None:
    names = [gpu_wgmma.kernel_name(dtype) for dtype in ROWS]
    path = "attention/split_hopper.cu"
    for name, needs in cuda_resources(path, names, (9, 0)).items():
        assert (needs.spill_bytes, needs.stack_bytes) == (0, 0), name
        assert needs.static_shared_bytes == 0  # all that a block can have is counted by hand
    assert gpu_wgmma.SHARED_BYTES <= MOST_SHARED_BYTES
    said = nvrtc.build(Source(path, (KERNELS,)), names, (9, 0)).log
    assert "serialized" not in said
    assert "'setmaxnreg' ignored" not in said


def test_a_splits_record_is_as_the_kernel_reads_it() -> None:
    assert ctypes.sizeof(gpu_wgmma.SplitRecord) == 192  # of 64-byte units: so is its map
    assert gpu_wgmma.SplitRecord.rows.offset == 0
    assert gpu_wgmma.SplitRecord.scale.offset == 168


def test_only_hopper_takes_the_split_for_hopper() -> None:
    cache, partial = torch.zeros(9, 576).half(), torch.zeros(1, 64, 1, 512).half()
    assert not gpu_wgmma.is_faster(torch.zeros(1, 64, 576), cache, partial)


def test_means_of_16_bits_lie_in_the_room_of_floats() -> None:
    room = torch.zeros(2, 3, 4, 8)
    for dtype in ROWS:
        found = partial_in(room, dtype)
        assert (found.dtype, found.shape) == (dtype, room.shape)
        assert found.data_ptr() == room.data_ptr()
        assert found.is_contiguous()
    assert partial_in(room, torch.uint8) is room
