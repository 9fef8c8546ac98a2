import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.errors import RuleError
from placement.inventory import Role
from placement.rules import (
    OWN_GPU,
    Rule,
    cpu_moe_rule,
    fallbacks_last,
    n_cpu_moe_rules,
    parse_rules,
)
from tests.placement.models import tensor

NAMES = ("CPU", "CUDA0", "CUDA1")


def expert_tensor(layer: int, name: str = "ffn_up_exps"):
    return tensor(f"blk.{layer}.{name}.weight", (8, 4, 32), Role.ROUTED_EXPERT, "Q8_0", 8)


def one(text: str) -> Rule:
    (rule,) = parse_rules([text], NAMES)
    return rule


def test_pattern_is_searched_anywhere_in_the_name() -> None:
    assert one("exps=CPU").matches(expert_tensor(3))
    assert not one("^exps=CPU").matches(expert_tensor(3))
    assert one("blk.1=CPU").matches(expert_tensor(10))


def test_commas_separate_rules_and_flags_append() -> None:
    rules = parse_rules(["a=CPU,b=CUDA0", "c=CUDA1"], NAMES)
    assert [(rule.pattern, rule.device) for rule in rules] == [
        ("a", "CPU"),
        ("b", "CUDA0"),
        ("c", "CUDA1"),
    ]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (r"blk\.[0-9]{1,3}\.=CPU", r"blk\.[0-9]{1,3}\."),
        (r"(?=blk)x=CPU", "(?=blk)x"),
        (r"(?=b{1,2})x{1,2}=CPU", "(?=b{1,2})x{1,2}"),
        (r"(?=a,b)=CPU", "(?=a,b)"),
        (r"[,=]=CPU", "[,=]"),
        (" exps = CPU ", "exps"),
    ],
)
def test_commas_and_equals_signs_may_stand_in_a_pattern(text: str, pattern: str) -> None:
    assert one(text).pattern == pattern


@pytest.mark.parametrize(
    ("text", "device"),
    [("x=cuda0", "CUDA0"), ("x=cuda:1", "CUDA1"), ("x=cpu", "CPU"), ("x=gpu", OWN_GPU)],
)
def test_device_names_are_read_in_any_spelling(text: str, device: str) -> None:
    assert one(text).device == device


def test_expert_ranges_are_inclusive() -> None:
    assert one("exps#0-63=CUDA0").experts == (0, 63)
    assert one("exps#5=CUDA0").experts == (5, 5)
    assert one("exps=CUDA0").experts is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a=CPU,exps=CUDA7", ["rule 2", "CUDA7", "did you mean CUDA", "CPU, CUDA0, CUDA1"]),
        ("exps", ["rule 1", "no device", "PATTERN=DEVICE"]),
        ("", ["rule 1"]),
        ("=CPU", ["rule 1", "empty pattern"]),
        ("#3=CPU", ["empty pattern"]),
        ("exps=CUDA_Host", ["CUDA_Host", "=CPU"]),
        ("ex(ps=CPU", ["rule 1", "ex(ps", "position 2", "unterminated"]),
        ("[[:digits:]]=CPU", ["[:digits:]", "position 1", "digit"]),
        ("exps#9-3=CPU", ["expert 3", "begins at 9", "#3-9"]),
        ("exps#0-12345678=CPU", ["'0-12345678' is not a range"]),
        ("a{99999999999999999999}=CPU", ["rule 1"]),
        ("x" * 1001 + "=CPU", ["too long", "1001"]),
    ],
)
def test_bad_rule_says_which_and_why(text: str, words: list[str]) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules([text], NAMES)
    for word in words:
        assert word in str(error.value)
    assert error.value.remedies
    assert error.value.exit_code == 2


def test_a_rule_is_printed_as_it_was_typed() -> None:
    typed = r"blk\.(3|4\..*_exps=CPU"
    with pytest.raises(RuleError) as error:
        parse_rules([typed], NAMES)
    assert str(error.value).startswith(f"rule 1 ('{typed}') ")
    with pytest.raises(RuleError) as error:
        parse_rules(["a\x1b[2J(=CPU"], NAMES)
    assert r"\x1b[2J" in str(error.value)
    assert "\x1b" not in error.value.cause


@pytest.mark.parametrize(
    ("pattern", "cure", "literal"),
    [
        ("ex(ps", "close the bracket", r"\("),
        ("exps)", "leave this bracket out", r"\)"),
        ("blk.[3-9", "close the set", r"\["),
        ("*exps", "write before it", r"\*"),
        ("ex**ps", "keep one of the two", r"\*"),
        ("blk.[9-3]", "the lower end comes first", r"\-"),
        (r"\Qexps", "leave out the backslash", r"\\"),
        ("exps\\", "at the end", r"\\"),
        ("a{4,2}", "the smaller number", ""),
        (r"\1exps", "without its backslash", ""),
        ("(?<=a*)b", "", r"\("),
    ],
)
def test_a_slip_in_a_pattern_gets_a_cure_that_fits(pattern: str, cure: str, literal: str) -> None:
    with pytest.raises(RuleError) as error:
        parse_rules([f"{pattern}=CPU"], NAMES)
    assert cure in error.value.remedies[0]
    assert literal in error.value.remedies[-1]


def test_gpu_is_no_device_where_there_is_none() -> None:
    with pytest.raises(RuleError, match="unknown device"):
        parse_rules(["exps=GPU"], ["CPU"])


def test_numbering_goes_on_from_the_callers_count() -> None:
    with pytest.raises(RuleError, match="rule 5"):
        parse_rules(["exps=CUDA9"], NAMES, first_number=5)


@pytest.mark.parametrize("pattern", [r"(\w+)+X", r"(.|.)+X", r"(a?.?){40}X", ".*" * 25 + "X"])
def test_exponential_pattern_is_an_error_and_not_a_hang(pattern: str) -> None:
    rule = one(f"{pattern}=CPU")
    start = time.perf_counter()
    with pytest.raises(RuleError, match="too long to search"):
        rule.matches(expert_tensor(10, "ffn_gate_up_exps_with_a_long_name"))
    assert time.perf_counter() - start < 30, "the search goes on behind its limit"


def test_harmless_repeated_groups_still_match() -> None:
    assert one(r"blk\.([0-9])+\.(ffn_(up|down))+_exps=CPU").matches(expert_tensor(12))


def test_cpu_moe_takes_experts_by_role_and_not_by_name() -> None:
    rule = cpu_moe_rule()
    assert rule.device == "CPU"
    assert rule.matches(tensor("blk.1.odd_name", (8, 4, 4), Role.ROUTED_EXPERT, experts=8))
    assert not rule.matches(tensor("blk.1.ffn_up_exps", (4, 4), Role.SHARED_EXPERT))


def test_n_cpu_moe_counts_dense_blocks_from_the_front() -> None:
    rules = n_cpu_moe_rules(3, 6, has_gpu=True)
    takes = [next(r.device for r in rules if r.matches(expert_tensor(i))) for i in range(6)]
    assert takes == ["CPU"] * 3 + [OWN_GPU] * 3
    assert [rule.device for rule in n_cpu_moe_rules(3, 6, has_gpu=False)] == ["CPU"]
    assert [rule.device for rule in n_cpu_moe_rules(0, 6, has_gpu=True)] == [OWN_GPU]
    assert [rule.layers for rule in n_cpu_moe_rules(99, 6, has_gpu=True)] == [(0, 5)]
    with pytest.raises(RuleError, match="negative"):
        n_cpu_moe_rules(-1, 6, has_gpu=True)


@given(st.text(alphabet="ab.*+?()[]{},=#-0123|\\^CPUcuda ", max_size=40))
def test_any_text_is_rules_or_a_rule_error(text: str) -> None:
    try:
        rules = parse_rules([text], NAMES)
    except RuleError:
        return
    assert all(rule.device in (*NAMES, OWN_GPU) and rule.pattern for rule in rules)


# What std::regex, which llama.cpp searches with, reads alike; names on which they may differ.
ATOMS = st.sampled_from(
    ["exps", "blk", "ffn_", r"\.", ".", "#", "[0-9]", "[[:digit:]]", "[^[:alpha:]_]", "[#]", r"\d"]
)
PATTERNS = st.builds("{}{}{}{}".format, ATOMS, st.sampled_from(["", "+", "*", "|"]), ATOMS, ATOMS)
SPELLED_OUT = {"[[:digit:]]": "[0-9]", "[^[:alpha:]_]": "[^A-Za-z_]"}


@given(st.lists(st.tuples(PATTERNS, st.sampled_from(NAMES)), min_size=1, max_size=4))
def test_what_llama_cpp_accepts_means_the_same(pairs: list[tuple[str, str]]) -> None:
    rules = parse_rules([",".join(f"{pattern}={device}" for pattern, device in pairs)], NAMES)
    assert [(rule.pattern, rule.device, rule.experts) for rule in rules] == [
        (pattern, device, None) for pattern, device in pairs
    ]
    for rule, (pattern, _) in zip(rules, pairs, strict=True):
        for posix, plain in SPELLED_OUT.items():
            pattern = pattern.replace(posix, plain)
        for weights in (expert_tensor(1), expert_tensor(23, "odd#name")):
            assert rule.matches(weights) == bool(re.search(pattern, weights.name))


@pytest.mark.parametrize(
    ("text", "name", "matches"),
    [
        (r"blk\.[[:digit:]]\.=CPU", "blk.3.x", True),
        (r"ffn\.[[:digit:]]=CPU", "ffn.:", False),
        (r"[^[:alnum:]._]=CPU", "blk.3.ffn_up", False),
        (r"x[][:digit:]]y=CPU", "x]y", True),
        (r"[[=x=]]y[[.z.]]=CPU", "xyz", True),
        (r"[:digit:]k=CPU", "tk", True),
        (r"\[[:digit:]k=CPU", "[tk", True),
        ("exps|#=CPU", "blk.1.ffn_up_exps", True),
        ("[#]x=CPU", "#x", True),
        ("exps#a-b=CPU", "exps#a-b", True),
    ],
)
def test_posix_classes_and_number_signs_mean_what_llama_cpp_means(
    text: str, name: str, matches: bool
) -> None:
    assert one(text).experts is None
    assert one(text).matches(tensor(name, (4,), Role.NORM)) is matches


def test_a_long_name_is_searched_with_the_same_care() -> None:
    long = tensor("a" * 1500, (4,), Role.NORM)
    with pytest.raises(RuleError, match="too long to search"):
        one("a*a*a*X=CPU").matches(long)


def test_the_gpu_half_of_n_cpu_moe_stands_behind_all_rules() -> None:
    rules = fallbacks_last([*n_cpu_moe_rules(2, 6, has_gpu=True), one("exps=CPU"), one("a=GPU")])
    assert [rule.is_fallback for rule in rules] == [False, False, False, True]
    assert [rule.source for rule in rules[1:3]] == ["exps=CPU", "a=GPU"]
