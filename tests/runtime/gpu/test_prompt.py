"""Prompt passes of a GPU block on CPU tensors against the model's own block in float32."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hybrid.runtime.cache import make_cache
from kernels.testing import assert_close
from tests.runtime.gpu import prompt_block
from tests.runtime.gpu.prompt_block import Pass, Ran
from tools.make_model import make_model

EXACT, HALF, BRAIN = 2e-6, 5e-3, 3e-2
LONG = (86, 13)  # of eight experts, three a token: only the first is long enough to be streamed
DENSE, ROUTED = 0, 1  # layers


@pytest.fixture(scope="module")
def v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries through a latent, groups of experts, attn_k_b transposed."""
    folder = tmp_path_factory.mktemp("v3")
    return make_model(folder / "v3.gguf", "v3", layers=2, expert_feed_forward=64)


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain queries, no groups, attn_kv_b, gate and up of the experts in one tensor."""
    folder = tmp_path_factory.mktemp("lite")
    changes: dict[str, Any] = {"layout": "legacy", "merged": True, "type": "Q5_1"}
    return make_model(folder / "lite.gguf", "v2lite", layers=2, **changes)


@pytest.fixture(params=["v3", "lite"])
def model(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


def check(ran: Ran, error: float) -> None:
    assert_close(ran.rows, ran.expected_rows, error)
    assert_close(ran.out, ran.expected, error)


@pytest.mark.parametrize("layer", [DENSE, ROUTED])
def test_a_pass_is_the_models_block(model: Path, layer: int) -> None:
    check(prompt_block.run(Pass(model, layer)), EXACT)


@pytest.mark.parametrize("work_bytes", [1, 20_000])
@pytest.mark.parametrize("decoded", [8192 + 64, 1 << 20])
def test_buffers_of_any_size_give_the_same(model: Path, decoded: int, work_bytes: int) -> None:
    given = Pass(model, ROUTED, decoded=decoded, work_bytes=work_bytes)
    check(prompt_block.run(given), EXACT)


def test_products_take_bfloat16(lite: Path) -> None:
    ran = prompt_block.run(Pass(lite, ROUTED, dtype=torch.bfloat16, cache_format="bf16"))
    check(ran, BRAIN)
    with pytest.raises(AssertionError, match="relative error"):
        check(ran, EXACT)


@pytest.mark.parametrize("cache_format", ["f16", "q8_0"])
def test_rows_come_from_any_cache(lite: Path, cache_format: str) -> None:
    check(prompt_block.run(Pass(lite, ROUTED, cache_format=cache_format)), BRAIN)


@pytest.mark.parametrize("resident", [(0, 3), (5, 8), (0, 0)], ids=str)
@pytest.mark.parametrize("staged_bytes", [16 << 10, 1 << 17])
def test_long_prompts_stream_their_experts_and_short_ones_do_not(
    model: Path, resident: tuple[int, int], staged_bytes: int
) -> None:
    given = Pass(model, ROUTED, LONG, resident=resident, streamed=True, staged_bytes=staged_bytes)
    ran = prompt_block.run(given)
    assert ran.calls_away == 1
    check(ran, EXACT)


def test_experts_of_several_nodes_are_summed(v3: Path) -> None:
    given = Pass(v3, ROUTED, LONG[:1], resident=(0, 2), streamed=True, nodes=2)
    check(prompt_block.run(given), EXACT)


def test_without_a_stream_experts_in_ram_stay_there(model: Path) -> None:
    ran = prompt_block.run(Pass(model, ROUTED, LONG, resident=(2, 8)))
    assert ran.calls_away == 2
    check(ran, EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_tritons_kernels_give_the_same(
    interpreter: ProcessPoolExecutor,  # noqa: F811  the fixture
    model: Path,
    dtype: torch.dtype,
) -> None:
    given = Pass(model, ROUTED, dtype=dtype, implementation="triton")
    if dtype == torch.float16:
        given = replace(given, streamed=True, resident=(0, 5), steps=LONG)
    ran = interpreter.submit(prompt_block.run, given).result()
    check(ran, EXACT if dtype == torch.float32 else HALF)


@pytest.mark.gpu
@pytest.mark.parametrize("streamed", [False, True], ids=["away", "streamed"])
@pytest.mark.parametrize("resident", [(0, 8), (0, 3), (0, 0)], ids=str)
@pytest.mark.parametrize("layer", [DENSE, ROUTED])
def test_a_gpu_gives_the_same(
    model: Path, layer: int, resident: tuple[int, int], streamed: bool
) -> None:
    given = Pass(*(model, layer, LONG), resident=resident, streamed=streamed, staged_bytes=32 << 10)
    ran = prompt_block.run(replace(given, device="cuda"))
    check(ran, 1e-5)
    assert ran.calls_away == (0 if layer == DENSE or resident == (0, 8) else 2 - streamed)


@pytest.mark.gpu
def test_a_gpu_multiplies_in_bfloat16(lite: Path) -> None:
    given = Pass(lite, ROUTED, LONG, dtype=torch.bfloat16, cache_format="bf16", device="cuda")
    check(prompt_block.run(given), BRAIN)


@pytest.mark.parametrize("cache_format", ["f32", "f16", "bf16", "q8_0"])
def test_a_cache_reads_its_rows_in_any_type(
    cache_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.runtime.cache.ROWS_AT_ONCE", 3)
    row_bytes = {"f32": 192, "f16": 96, "bf16": 96, "q8_0": 68}[cache_format]
    cache = make_cache(torch.empty(10 * row_bytes, dtype=torch.uint8), 48, cache_format)
    cache.write(0, torch.randn(8, 48, generator=torch.Generator().manual_seed(1)))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert torch.equal(cache.read_as(7, dtype), cache.read(7).to(dtype))
