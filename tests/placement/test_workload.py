from dataclasses import replace

import pytest

from placement.errors import PlacementError
from placement.workload import Hosted, Workload, cache_bytes, check_workload, compute_bytes
from tests.placement.models import MIB, TINY
from tools.model_shapes import V3

LOAD = Workload(context_tokens=4096)


def test_deepseek_v3_cache_is_68_kib_a_token() -> None:
    per_token = cache_bytes(V3, Workload(1, cache_format="f16"), 61)
    assert per_token == 61 * 576 * 2  # 68.6 kB, as users of -mla 2 and 3 see it
    assert cache_bytes(V3, Workload(1, cache_format="q8_0"), 61) == 61 * 18 * 34


def test_only_a_quantised_cache_row_is_padded_to_whole_blocks() -> None:
    assert cache_bytes(TINY, Workload(10, cache_format="f32"), 1) == 10 * 40 * 4  # 40 values
    assert cache_bytes(TINY, Workload(10, cache_format="q8_0"), 1) == 10 * 2 * 34


@pytest.mark.parametrize(
    "wrong",
    [{"context_tokens": 0}, {"ubatch_tokens": -1}, {"attention_work_bytes": 0}],
)
def test_counts_must_be_positive(wrong: dict[str, int]) -> None:
    with pytest.raises(PlacementError, match="must be between 1"):
        check_workload(replace(LOAD, **wrong))


def test_unknown_cache_format_lists_the_known_ones() -> None:
    with pytest.raises(PlacementError) as error:
        check_workload(replace(LOAD, cache_format="q4_0"))
    assert "f32, f16, bf16, q8_0" in str(error.value)


def test_a_device_that_hosts_nothing_needs_no_scratch() -> None:
    assert compute_bytes(V3, LOAD, Hosted()) == 0


def test_attention_work_is_bounded_by_the_workload() -> None:
    small = compute_bytes(V3, replace(LOAD, attention_work_bytes=64 * MIB), Hosted(layers=1))
    large = compute_bytes(V3, replace(LOAD, attention_work_bytes=128 * MIB), Hosted(layers=1))
    assert large - small == 64 * MIB


def test_head_adds_logits_of_the_whole_micro_batch() -> None:
    needed = compute_bytes(V3, LOAD, Hosted(head=True))
    assert needed == 4 * 512 * (129280 + 4 * 7168)


def test_decoded_matrix_is_counted_in_float32() -> None:
    with_matrix = compute_bytes(V3, LOAD, Hosted(layers=1, matrix_values=1000))
    assert with_matrix - compute_bytes(V3, LOAD, Hosted(layers=1)) == 4000
