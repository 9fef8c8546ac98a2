import re

from hypothesis import given, settings
from hypothesis import strategies as st

from placement.tensor_names import device_ranges, joined, layers_text, name_ranges, number_pattern


def test_names_that_differ_in_block_and_one_word_are_one() -> None:
    names = [f"blk.{i}.ffn_{kind}_exps.weight" for i in (3, 4, 5, 7) for kind in ("gate", "up")]
    assert name_ranges([*names, "output.weight"]) == ["blk.3-5,7.ffn_{gate,up}_exps", "output"]


def test_words_are_joined_at_whole_words_only() -> None:
    assert joined(["ffn_up_exps", "ffn_down_exps"]) == "ffn_{up,down}_exps"
    assert joined(["attn_q_a", "attn_q_b"]) == "attn_q_{a,b}"
    assert joined(["ffn_up", "ffn_up_exps"]) == "{ffn_up,ffn_up_exps}"
    assert joined(["ffn_up"]) == "ffn_up"


def test_runs_of_gpus_are_joined_behind_the_cpu() -> None:
    assert device_ranges(["CUDA0", "CPU", "CUDA1", "CUDA3"]) == "CPU, CUDA0-1, 3"
    assert device_ranges(["CPU"]) == "CPU"


def test_many_kinds_are_counted() -> None:
    assert joined([f"attn_{letter}" for letter in "abcdefgh"]) == "attn_{a,b,c,d,e,+3}"


@settings(deadline=None)
@given(st.sets(st.integers(0, 999), min_size=1))
def test_a_pattern_of_numbers_matches_these_alone(numbers: set[int]) -> None:
    pattern = number_pattern(numbers)
    assert {n for n in range(1100) if re.fullmatch(pattern, str(n))} == numbers


def test_a_pattern_of_a_long_range_is_short() -> None:
    assert number_pattern(range(13, 61)) == "(1[3-9]|[2-5][0-9]|60)"
    assert number_pattern([3, 4]) == "[34]"
    assert number_pattern([7]) == "7"


def test_one_layer_is_no_layers() -> None:
    assert layers_text([3]) == "layer 3"
    assert layers_text([4, 3, 9]) == "layers 3-4, 9"
