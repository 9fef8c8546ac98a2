"""The grouped products compiled for every architecture at DeepSeek's lengths: no GPU needed.

Shared memory must fit and nothing may spill; Hopper must use its matrix unit.
"""

import pytest
import torch

triton = pytest.importorskip("triton")

from kernels.grouped_linear import gpu_kernel  # noqa: E402
from kernels.grouped_linear.gpu_plan import Tiles, tiles_for  # noqa: E402
from tests.kernels.aot_triton import SHARED_BYTES, Resources, resources  # noqa: E402

NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
FEW, MANY = 12.0, 400.0  # pairs of an expert


def product(sm: int, dtype: torch.dtype, tiles: Tiles, gated: bool, whole: bool) -> Resources:
    values = f"*{NAMES[dtype]}!"
    types = dict.fromkeys(("source", "first", "second", "out"), values)
    types |= {"order": "*i32!", "offsets": "*i32", "experts": "i32", "used": "i32"}
    types |= {"rows": "i32!", "columns": "i32!"}
    constants = {"GATED": gated, "WHOLE": whole, "E": 64}
    constants |= {"M": tiles.rows, "N": tiles.columns, "K": tiles.depth}
    options = {"num_warps": tiles.warps, "num_stages": tiles.stages}
    return resources(gpu_kernel.grouped_product, sm, types, constants, **options)


@pytest.mark.parametrize("gated", [True, False], ids=["hidden", "down"])
@pytest.mark.parametrize("pairs", [FEW, MANY])
@pytest.mark.parametrize("sm", SHARED_BYTES)
def test_a_product_fits_its_block_without_spills(sm: int, pairs: float, gated: bool) -> None:
    tiles = tiles_for((sm // 10, sm % 10), torch.bfloat16, pairs, gated)
    taken = product(sm, torch.bfloat16, tiles, gated, whole=True)
    assert 0 < taken.shared_bytes <= SHARED_BYTES[sm]
    assert taken.stack_bytes == 0
    assert (taken.wgmma > 0) == (sm == 90)


@pytest.mark.parametrize("sm", [80, 90])
def test_lengths_that_tiles_do_not_divide_cost_no_spills(sm: int) -> None:
    tiles = tiles_for((sm // 10, sm % 10), torch.bfloat16, MANY, gated=True)
    taken = product(sm, torch.bfloat16, tiles, gated=True, whole=False)
    assert taken.shared_bytes <= SHARED_BYTES[sm]
    assert taken.stack_bytes == 0


def test_float32_fits_for_checks() -> None:
    taken = product(86, torch.float32, tiles_for((8, 6), torch.float32, MANY, True), True, False)
    assert taken.shared_bytes <= SHARED_BYTES[86]


@pytest.mark.parametrize("sm", [80, 90, 120])
def test_a_sum_of_pairs_keeps_its_values_in_registers(sm: int) -> None:
    types = {"h": "*fp32!", "y": "*bf16!", "chosen": "*i64!", "share": "*fp32!", "used": "i32"}
    types |= {"width": "i32!", "first_expert": "i32", "experts": "i32"}
    taken = resources(gpu_kernel.add_pairs, sm, types, {"N": 1024}, num_warps=4)
    assert taken.stack_bytes == 0
