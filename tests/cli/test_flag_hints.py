"""A flag that is not known: what to type in its place, or nothing."""

import pytest

from hybrid.cli import bench, chat, doctor, perplexity, plan, run, top
from hybrid.cli.flag_hints import unknown_flag
from hybrid.cli.foreign_flags import NoteAction
from hybrid.cli.parser import Parser
from hybrid.errors import UsageError
from tests.cli.test_bad_input import assert_one_block

MODULES = {
    its.__name__.rpartition(".")[2]: its for its in (bench, chat, doctor, perplexity, plan, run)
}


def parser_of(name: str) -> Parser:
    parser = Parser(name, "")
    parser.set_defaults(visible=None, profiles=None, run_folders=())
    MODULES[name].add_arguments(parser)
    return parser


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--ctx", "-c/--ctx-size"),
        ("--n-ctx", "-c/--ctx-size"),
        ("--n_ctx", "-c/--ctx-size"),
        ("--context", "-c/--ctx-size"),
        ("--contxt", "-c/--ctx-size"),
        ("--batch", "-ub/--ubatch-size"),
        ("--kv-cache-type", "-ctk/--cache-type-k"),
        ("--overide-tensor", "--override-tensor"),
        ("-nmoe", "-ncmoe"),
        ("--treads", "--threads"),
    ],
)
def test_a_name_of_elsewhere_and_a_slip_lead_to_the_flag_here(typed, meant, command):
    outcome = command("plan", "demo", typed, "3")
    assert outcome.code == 2
    assert_one_block(outcome.err, f"did you mean {meant}?")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--lora", "adapters are not supported"),
        ("-hf", "nothing is downloaded here"),
        ("--hf-repo", "give -m a file"),
        ("--model-url", "nothing is downloaded here"),
        ("-mu", "give -m a file"),
    ],
)
def test_what_is_not_done_here_is_said_of_its_flag(typed, words, command):
    outcome = command("run", typed, "org/repository")
    assert outcome.code == 2
    assert_one_block(outcome.err, words)
    assert "did you mean" not in outcome.err


@pytest.mark.parametrize("typed", ["--mirror", "-mlx", "-xyz", "--mlok", "--flash-atn", "-fax"])
def test_nothing_is_proposed_that_is_far_away_or_has_no_effect(typed, command):
    outcome = command("run", "demo", typed)
    assert f"unknown flag {typed}" in outcome.err
    assert "did you mean" not in outcome.err


@pytest.mark.parametrize("name", MODULES)
def test_no_slip_of_any_flag_leads_to_one_without_effect(name):
    parser = parser_of(name)
    actions = parser._option_string_actions
    idle = {flag for flag, action in actions.items() if isinstance(action, NoteAction)}
    for flag in actions:
        slip = flag[:3] + flag[4:]
        if slip in actions or len(flag) < 5:
            continue
        with pytest.raises(UsageError) as raised:
            parser.read([slip])
        proposed = raised.value.remedies[0].removeprefix("did you mean ").removesuffix("?")
        assert proposed not in idle
        assert flag in idle or "did you mean" in raised.value.remedies[0], (slip, flag)


def test_a_command_without_the_flag_does_not_propose_it():
    parser = Parser("top", "")
    top.add_arguments(parser)
    for typed in ("--ctx", "--batch", "-hf"):
        error = unknown_flag(typed, parser._option_string_actions, "hybrid top --help")
        assert error.remedies == ("hybrid top --help",)
        assert error.cause == f"unknown flag {typed}"
