"""Command lines of llama-bench at `hybrid bench`."""

import pytest

from hybrid.cli import bench
from hybrid.cli.bench_foreign import ONE_VALUE
from hybrid.cli.foreign_flag import foreign_notes
from hybrid.cli.parser import Parser
from hybrid.cli.placement_flags import load_options
from tests.cli.test_bad_input import assert_one_block


def parsed(*words: str):
    parser = Parser("bench", "")
    parser.set_defaults(visible=None, profiles=None)
    bench.add_arguments(parser)
    return parser.read(["demo", *words])


def test_mmp_is_mmap_and_the_later_flag_wins():
    for words, mmap in (
        ((), False),
        (("-mmp", "1"), True),
        (("-mmp", "0"), False),
        (("--mmap", "-mmp", "0"), False),
        (("-mmp", "1", "--no-mmap"), False),
    ):
        assert load_options(parsed(*words))[0].mmap is mmap, words


@pytest.mark.parametrize("form", ["md", "json", "csv", "jsonl", "sql"])
def test_an_output_format_is_told_its_flags_here(form):
    [told] = foreign_notes(parsed("-o", form).foreign_uses)
    assert told.startswith(f"-o {form} has no effect here")
    assert "--json" in told
    assert "--csv FILE" in told


def test_prompt_and_decode_together_are_told_their_flags_here():
    [told] = foreign_notes(parsed("-pg", "512,128").foreign_uses)
    assert told.startswith("-pg 512,128 has no effect here")
    assert "(-p)" in told
    assert "(-n)" in told


@pytest.mark.parametrize("flag", ONE_VALUE)
def test_a_list_where_one_value_is_taken_is_one_error(flag, command):
    outcome = command("bench", "demo", flag, "0,1")
    assert (outcome.code, outcome.out) == (2, "")
    assert_one_block(outcome.err, f"bench takes one {flag}, and '0,1' is a list")
    assert "--ot" in outcome.err


def test_single_values_are_read_as_everywhere():
    args = parsed("-t", "2", "-ngl", "99", "-fa", "1", "-ctk", "q8_0", "-p", "8,16")
    assert (args.threads, args.gpu_layers, args.cache_type_k) == (2, 99, "q8_0")
    assert args.n_prompt == (8, 16)
    assert len(args.foreign_uses) == 1


def test_an_unknown_value_of_mmp_is_refused(command):
    outcome = command("bench", "demo", "-mmp", "yes")
    assert outcome.code == 2
    assert_one_block(outcome.err, "'yes' is neither 0 nor 1")
