import pytest
import torch

from hybrid.runtime.cache import make_cache, padded_width

WIDTH = 48  # not a multiple of 32 on purpose
ROW_BYTES = {"f32": 192, "f16": 96, "bf16": 96, "q8_0": 68}


def cache(cache_format: str, context: int = 10):
    memory = torch.full((context * ROW_BYTES[cache_format],), 0xFF, dtype=torch.uint8)
    return make_cache(memory, WIDTH, cache_format)


@pytest.mark.parametrize(
    ("cache_format", "error"), [("f32", 0.0), ("f16", 1e-3), ("bf16", 8e-3), ("q8_0", 1e-2)]
)
def test_rows_come_back_within_the_format(cache_format, error):
    rows = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(1))
    store = cache(cache_format)
    store.write(0, rows[:3])
    store.write(3, rows[3:])
    back = store.read(7)
    assert back.dtype == torch.float32
    assert (back - rows).norm() / rows.norm() <= error


def test_only_quantised_rows_are_padded_to_whole_blocks():
    assert (padded_width(48), padded_width(576)) == (64, 576)
    assert len(cache("q8_0").read(10)) == len(cache("f16").read(10)) == 10


def test_rewriting_a_position_replaces_it():
    store = cache("f32")
    store.write(0, torch.ones(2, WIDTH))
    store.write(1, torch.full((1, WIDTH), 5.0))
    assert store.read(2)[:, 0].tolist() == [1.0, 5.0]


def test_rows_in_ram_come_to_products_as_a_copy_and_rows_at_home_as_they_are():
    for in_ram in (False, True):
        memory = torch.zeros(10 * ROW_BYTES["bf16"], dtype=torch.uint8)
        store = make_cache(memory, WIDTH, "bf16", in_ram=in_ram)
        same = store.read_as(7, torch.bfloat16).data_ptr() == memory.data_ptr()
        assert same is not in_ram
