"""Decode: absorbed attention over the latent cache, cut into splits of the context, then merged.

One program holds the queries of a group of heads and walks one split of the cached rows. A tile of
rows is loaded once: it is the keys, and its first columns are the values. Three kernels do it:
`gpu_split` anywhere, `gpu_split_hopper` where the bulk copy engine can read the rows, and
`gpu_wgmma`, CUDA C++, for DeepSeek's rows on sm_90.

    grid (splits, head groups, tokens)        grid (heads, column tiles, tokens)
    split 0  | rows 0 .. n-1 |  partial 0 --.
    split 1  | rows n ..     |  partial 1 ---+->  mean of the partials by weight
    surplus  |               |  untouched   -'    2^(high_i - max) sum_i

Lengths are device memory and the grid is always that of `Splits.cap`, so a captured graph is
replayed while the context grows; surplus programs end at once.
"""

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.attention import gpu_merge, gpu_merge_cuda, gpu_split, gpu_split_hopper, gpu_wgmma
from kernels.attention.gpu_plan import (
    BULK_ALIGNMENT,
    SPLIT_GRANULE,
    Splits,
    Tiles,
    overlaps,
    partial_type,
    split_buffers,
    splits_of,
    tiles_of,
)
from kernels.attention.split_results import SplitResults
from kernels.errors import KernelInputError

Q8_0_WORDS = 17  # int16 words of a block of 32 values
WHOLE_SUMS_ARE_FEW = 32  # heads x tokens up to which narrower column tiles fill a device better


def absorbed_split(
    q_latent: Tensor,
    cache: Tensor,
    seen: Tensor,
    partial: Tensor,
    statistics: Tensor,
    scale: float,
    *,
    splits: Splits,
    first_row: Tensor | None = None,
    tiles: Tiles | None = None,
) -> None:
    """Attention over every split alone: partial = sum of w c / sum of w, w = 2^(score - high).

    q_latent    [tokens, heads, latent + rope] float32, contiguous
    cache       [capacity, latent + rope] float32, float16 or bfloat16, or
                [capacity, row bytes] uint8: q8_0 blocks of 32 values, the last one padded
    seen        [tokens] int32 on the device: rows that a token sees, at least 1
    partial     [tokens, heads, splits.cap, latent] float32 or, over a float16 or bfloat16 cache,
                of its type; written for the splits in use
    statistics  [tokens, heads, splits.cap, 2] float32: high, in base 2, and sum of w; high is
                the split's largest score or, on sm_90, at most 8 below it
    first_row   [tokens] int64 on the device: where a token's sequence starts; None: at row 0
    tiles       of the Triton kernels, even where `gpu_wgmma` is faster; None: those of `tiles_of`

    On sm_90 the last tile's rows beyond `seen` are read and weighted with zero: they must be
    finite. float16 and q8_0 caches compute with float16 queries whose range is each head's own,
    bfloat16 with bfloat16 ones, float32 without rounding.
    Does not wait for the GPU. May start early: the kernel waits for the launch in front, which
    writes q_latent and of a token's rows only its last `tokens`, and lets others start only after
    its own wait.
    Raises KernelInputError when shapes or dtypes do not fit.
    """
    _check(q_latent, cache, partial, statistics, splits)
    if tiles is None and gpu_wgmma.is_faster(q_latent, cache, partial):
        given = (q_latent, cache, seen, partial, statistics, scale)
        gpu_wgmma.split(*given, splits=splits, first_row=first_row)
        return
    tiles = tiles or tiles_of(cache.device, q_latent.shape[1], cache.dtype, _fits_bulk(cache))
    outputs = (seen if first_row is None else first_row, partial, statistics, scale)
    shape = {"HAS_FIRST_ROW": first_row is not None, "GRANULE": SPLIT_GRANULE}
    shape["LATENT"] = partial.shape[-1]
    _split_by_triton(q_latent, cache, (seen, *outputs), splits, tiles, shape)


def merge_splits(
    partial: Tensor, statistics: Tensor, seen: Tensor, splits: Splits, out: Tensor
) -> None:
    """Attention from its splits: out = sum w_i partial_i / sum w_i, w_i = 2^(high_i - max) sum_i.

    partial, statistics, seen, splits   as `absorbed_split` left and took them
    out   [tokens, heads, latent] float32, written

    Does not wait for the GPU. May start early (programmatic launch): the kernel waits itself.
    """
    wide = gpu_merge_cuda.columns_of(partial)
    if wide is not None:
        results = SplitResults(partial, statistics, seen, splits.min_tokens, SPLIT_GRANULE)
        gpu_merge_cuda.merge(results, out, wide)
        return
    tokens, heads, _, latent = partial.shape
    columns = min(_padded(latent), 64 if heads * tokens <= WHOLE_SUMS_ARE_FEW else 128)
    overlap = overlaps(partial.device)
    grid = (heads, triton.cdiv(latent, columns), tokens)
    gpu_merge.merge_splits[grid](
        *(partial, statistics, seen, out, splits.cap, splits.min_tokens),
        LATENT=latent,
        COLUMNS=columns,
        SPLITS=triton.next_power_of_2(splits.cap),
        AT_ONCE=min(64, triton.next_power_of_2(splits.cap)),
        GRANULE=SPLIT_GRANULE,
        OVERLAP=overlap,
        **_launch_options(8, 3, overlap),
    )


def absorbed_attention(
    q_latent: Tensor, q_rope: Tensor, rows: Tensor, scale: float, start: int
) -> Tensor:
    """See `kernels.attention.absorbed_attention`."""
    tokens, heads, latent = q_latent.shape
    out = torch.empty_like(q_latent, memory_format=torch.contiguous_format)
    if not out.numel():
        return out
    splits = splits_of(rows.device, heads, tokens)
    seen = torch.arange(start + 1, start + tokens + 1, dtype=torch.int32, device=rows.device)
    partial, statistics = split_buffers(tokens, heads, latent, splits, rows.device, rows.dtype)
    rows = rows.contiguous()  # the launch in front of the split must not write old rows
    q = torch.cat((q_latent, q_rope), dim=-1)
    absorbed_split(*(q, rows, seen, partial, statistics, scale), splits=splits)
    merge_splits(partial, statistics, seen, splits, out)
    return out


def _split_by_triton(
    q: Tensor,
    cache: Tensor,
    given: tuple[Tensor | float, ...],
    splits: Splits,
    tiles: Tiles,
    shape: dict[str, int | bool],
) -> None:
    """shape has LATENT already; given: seen, first_row, partial, statistics, scale."""
    tokens, heads, width = q.shape
    latent = shape["LATENT"]
    overlap = overlaps(cache.device)
    shape |= {"WIDTH": width, "H": tiles.heads, "N": tiles.rows, "OVERLAP": overlap}
    launch = _launch_options(tiles.warps, tiles.stages, overlap)
    grid = (splits.cap, triton.cdiv(heads, tiles.heads), tokens)
    numbers = (*given, heads, splits.min_tokens)
    if tiles.bulk:
        columns = {"F": _padded(latent), "R": _padded(width - latent)}
        rows = [
            TensorDescriptor.from_tensor(cache, [tiles.rows, each]) for each in columns.values()
        ]
        kernel = gpu_split_hopper.absorbed_split_hopper[grid]
        kernel(q, *rows, *numbers, **columns, **shape, **launch)
    else:
        columns = _columns(cache, latent, width)
        cache = cache.view(torch.int16) if cache.dtype == torch.uint8 else cache
        kernel = gpu_split.absorbed_split[grid]
        kernel(q, cache, *numbers, **columns, **shape, **launch)


def _launch_options(warps: int, stages: int, overlap: bool) -> dict[str, int | bool]:
    options: dict[str, int | bool] = {"num_warps": warps, "num_stages": stages}
    return options | {"launch_pdl": True} if overlap else options


def _columns(cache: Tensor, latent: int, width: int) -> dict[str, int | bool]:
    """How `gpu_split` cuts a row: blocks that hold latent values belong to the first part."""
    if cache.dtype != torch.uint8:
        first, stored, stride = latent, width, cache.stride(0)
    else:
        first, stored, stride = -(-latent // 32) * 32, -(-width // 32) * 32, cache.stride(0) // 2
    return {
        "STRIDE": stride,
        "FIRST": first,
        "F": _padded(first),
        "R": _padded(stored - first) if stored > first else 0,
        "QUANTISED": cache.dtype == torch.uint8,
    }


def _padded(columns: int) -> int:
    """At least 16, the shortest length of a tensor core's product."""
    return max(16, int(triton.next_power_of_2(columns)))


def _fits_bulk(cache: Tensor) -> bool:
    row_bytes = cache.stride(0) * cache.itemsize
    return row_bytes % BULK_ALIGNMENT == 0 and cache.data_ptr() % BULK_ALIGNMENT == 0


def _check(q: Tensor, cache: Tensor, partial: Tensor, statistics: Tensor, splits: Splits) -> None:
    tokens, heads, width = q.shape
    latent = partial.shape[-1]
    quantised = cache.dtype == torch.uint8
    expected = -(-width // 32) * 2 * Q8_0_WORDS if quantised else width
    shapes = (
        (partial, (tokens, heads, splits.cap, latent)),
        (statistics, (tokens, heads, splits.cap, 2)),
        (cache, (len(cache), expected)),
    )
    for tensor, shape in shapes:
        if tuple(tensor.shape) != shape:
            raise KernelInputError(f"expected {shape}, got {tuple(tensor.shape)}")
    if not 0 < latent < width:
        raise KernelInputError(f"{latent} latent columns of {width} leave none to rotate")
    for tensor in (q, statistics):
        if tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise KernelInputError("queries and statistics must be contiguous float32")
    if partial.dtype not in (torch.float32, partial_type(cache.dtype)):
        raise KernelInputError(f"partials of {partial.dtype} over a cache of {cache.dtype}")
    if not partial.is_contiguous():
        raise KernelInputError("partials must be contiguous")
    if cache.stride(-1) != 1:
        raise KernelInputError("a cache row must be contiguous")
    if splits.min_tokens % SPLIT_GRANULE:
        raise KernelInputError(f"min_tokens must be a multiple of {SPLIT_GRANULE}")
