"""The attention kernels compiled for every architecture at the shapes of DeepSeek: no GPU needed.

Shared memory must fit and nothing may spill; Hopper must use its matrix unit and its copy engine.
"""

import pytest
import torch

triton = pytest.importorskip("triton")

from kernels.attention import gpu_merge, gpu_prompt_kernel, gpu_split, gpu_split_hopper  # noqa: E402
from kernels.attention.gpu_plan import (  # noqa: E402
    HOPPER,
    SPLIT_GRANULE,
    PromptTiles,
    Tiles,
    partial_type,
    prompt_tiles,
    tiles_for,
)
from tests.kernels.aot_triton import SHARED_BYTES, Resources, resources  # noqa: E402

LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.uint8: "i16"}
ONCE_BYTES = 16  # a register or two saved before the loop and read after it cost nothing


def split(sm: int, dtype: torch.dtype, tiles: Tiles) -> Resources:
    name = NAMES[dtype]
    types = {"q": "*fp32!", "seen": "*i32", "first_row": "*i64"}
    types["partial"] = f"*{NAMES[partial_type(dtype)]}!"
    types |= {"statistics": "*fp32!", "scale": "fp32", "heads": "i32!", "min_tokens": "i32!"}
    constants = {
        "LATENT": LATENT,
        "WIDTH": LATENT + ROPE,
        "F": LATENT,
        "R": ROPE,
        "H": tiles.heads,
        "N": tiles.rows,
        "GRANULE": SPLIT_GRANULE,
        "HAS_FIRST_ROW": True,
        "OVERLAP": sm >= 90,
    }
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages, "launch_pdl": sm >= 90}
    if tiles.bulk:
        types["first_columns"] = f"tensordesc<{name}[{tiles.rows}, {LATENT}]>"
        types["rest_columns"] = f"tensordesc<{name}[{tiles.rows}, {ROPE}]>"
        kernel = gpu_split_hopper.absorbed_split_hopper
    else:
        types["cache"] = f"*{name}!"
        quantised = dtype == torch.uint8
        stride = (LATENT + ROPE) // 32 * 17 if quantised else LATENT + ROPE
        constants |= {"STRIDE": stride, "FIRST": LATENT, "QUANTISED": quantised}
        kernel = gpu_split.absorbed_split
    return resources(kernel, sm, types, constants, **options)


def prompt(sm: int, dtype: torch.dtype, tiles: PromptTiles) -> Resources:
    name, kernel = NAMES[dtype], gpu_prompt_kernel.expanded_prompt_kernel
    constants = {"NOPE": NOPE, "ROPE": ROPE, "VALUE": VALUE, "D": NOPE, "R": ROPE, "V": VALUE}
    constants |= {"M": tiles.queries, "N": tiles.keys, "BULK": tiles.bulk}
    types = {each: "i32!" for each in kernel.arg_names if each not in constants}
    types |= {"q": f"*{name}!", "out": f"*{name}!", "scale": "fp32", "tokens": "i32"}
    types |= {"start": "i32"}
    for source, length in (("k_nope", NOPE), ("k_rope", ROPE), ("v", VALUE)):
        bulk = f"tensordesc<{name}[{tiles.keys}, {length}]>"
        types[source] = bulk if tiles.bulk else f"*{name}!"
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    return resources(kernel, sm, types, constants, **options)


@pytest.mark.parametrize("heads", [16, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
@pytest.mark.parametrize("sm", SHARED_BYTES)
def test_a_split_fits_its_block_without_spills(sm: int, dtype: torch.dtype, heads: int) -> None:
    tiles = tiles_for((sm // 10, sm % 10), heads, dtype)
    taken = split(sm, dtype, tiles)
    assert taken.shared_bytes <= SHARED_BYTES[sm]
    assert taken.stack_bytes <= ONCE_BYTES
    assert (taken.wgmma > 0) == (taken.bulk_copies > 0) == tiles.bulk


@pytest.mark.parametrize("heads", [16, 128])
def test_hopper_computes_every_score_once(heads: int) -> None:
    tiles = tiles_for(HOPPER, heads, torch.bfloat16)
    scores, values = (LATENT + ROPE) // 16, LATENT // 64 // (tiles.warps // 4) * (tiles.rows // 16)
    assert split(90, torch.bfloat16, tiles).wgmma == scores + values


@pytest.mark.parametrize("heads", [16, 64])
def test_queries_in_float16s_range_cost_hopper_no_spills(heads: int) -> None:
    taken = split(90, torch.float16, tiles_for(HOPPER, heads, torch.float16))
    assert taken.stack_bytes <= ONCE_BYTES


def test_unaligned_rows_are_read_without_the_copy_engine_on_hopper() -> None:
    taken = split(90, torch.float16, tiles_for(HOPPER, 128, torch.float16, bulk=False))
    assert taken.shared_bytes <= SHARED_BYTES[90]
    assert taken.stack_bytes <= ONCE_BYTES


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sm", SHARED_BYTES)
def test_a_prompt_fits_its_block_without_spills(sm: int, dtype: torch.dtype) -> None:
    bulk = sm == 90 and dtype != torch.float32
    taken = prompt(sm, dtype, prompt_tiles((sm // 10, sm % 10), dtype, bulk))
    assert taken.shared_bytes <= SHARED_BYTES[sm]
    assert taken.stack_bytes <= ONCE_BYTES
    assert (taken.wgmma > 0) == (taken.bulk_copies > 0) == bulk


def test_a_prompt_with_unaligned_rows_uses_wgmma_on_hopper() -> None:
    taken = prompt(90, torch.bfloat16, prompt_tiles(HOPPER, torch.bfloat16, bulk=False))
    assert taken.wgmma > 0
    assert taken.bulk_copies == taken.stack_bytes == 0
    assert taken.shared_bytes <= SHARED_BYTES[90]


@pytest.mark.parametrize("sm", [80, 90, 120])
def test_a_merge_keeps_its_sums_in_registers(sm: int) -> None:
    types = {"partial": "*fp32!", "statistics": "*fp32!", "seen": "*i32", "out": "*fp32!"}
    types |= {"splits": "i32", "min_tokens": "i32!"}
    constants = {"LATENT": LATENT, "COLUMNS": 128, "SPLITS": 256, "AT_ONCE": 64}
    constants |= {"GRANULE": SPLIT_GRANULE, "OVERLAP": sm >= 90}
    options = {"num_warps": 8, "launch_pdl": sm >= 90}
    assert resources(gpu_merge.merge_splits, sm, types, constants, **options).stack_bytes == 0
