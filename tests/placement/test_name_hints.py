"""What a rule that matches nothing may have meant."""

import pytest

from placement.name_hints import block_hint, word_hint
from placement.planner import plan
from placement.rules import parse_rules
from placement.workload import Workload
from tests.placement.models import deepseek_v3, machine, tiny

V3 = deepseek_v3()


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("exsp", "exps"),
        ("atn", "attn"),
        ("EXSP", "exps"),
        (r"blk\.3\.atnn_output", "attn_output"),
        ("ffn_gaet_exps", "ffn_gate_exps"),
        ("ffn_shexsp", "shexp"),
        (r"blok\.3\.", "blk"),
        ("outptu", "output"),
    ],
)
def test_a_misspelt_word_is_told_as_it_is_spelt(pattern: str, meant: str) -> None:
    assert word_hint(pattern, V3) == f"; did you mean {meant}?"


def test_words_that_are_equally_near_are_all_told() -> None:
    assert word_hint("attn_kb_b", V3).startswith("; did you mean attn_")
    assert word_hint("ffn_gxte_exps", V3) == "; did you mean ffn_gate_exps?"
    assert word_hint("attn_kv_a_mba|attn_x", V3) == "; did you mean attn_kv_a_mqa?"


@pytest.mark.parametrize("pattern", ["zzz", "experts", "ffn_up_exps", r"\d+\w*", "x" * 5000, ""])
def test_words_that_are_far_from_all_or_right_get_no_hint(pattern: str) -> None:
    assert word_hint(pattern, V3) == ""


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        (r"blk.61.*", "; this model's blocks are 0 to 60"),
        (r"blk\.99\.ffn", "; this model's blocks are 0 to 60"),
        (r"blk\.60\.", ""),
        (r"blk\.([6-9]1)\.", ""),
        ("layers.3", "; blocks are called blk.0 to blk.60"),
        (r"model\.layers\.\d+\.mlp", "; blocks are called blk.0 to blk.60"),
        ("players.3", ""),
        ("blk." + "9" * 5000, ""),
    ],
)
def test_blocks_that_are_not_there_or_are_called_otherwise(pattern: str, hint: str) -> None:
    assert block_hint(pattern, V3) == hint


def test_a_plan_says_what_a_dead_rule_may_have_meant() -> None:
    where = machine()
    for text, hint in (("exsp=CPU", "did you mean exps?"), ("blk.9=CPU", "blocks are 0 to 3")):
        made = plan(tiny(), where, parse_rules([text], where.device_names), Workload(256, 16))
        assert any("matches no tensor" in note and hint in note for note in made.notes)
