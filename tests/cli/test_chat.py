"""Conversations: from a pipe, with history, commands, Ctrl-C, and at the context's end."""

import builtins
import io
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from hybrid.cli.chat import AGAIN
from hybrid.cli.live_flags import LiveView
from hybrid.cli.main import main

FLAGS = ("demo", "-n", "6", "--temp", "0", "--kernels", "exact")


def test_each_piped_line_is_a_turn(command):
    outcome = command("chat", *FLAGS, stdin="Hello\n\nAnd then?\n")
    assert outcome.code == 0
    assert len(outcome.out.strip().splitlines()) == 2


def test_the_conversation_goes_on_and_clear_forgets_it(command):
    asked = "Who are you?\n"
    [alone] = command("chat", *FLAGS, stdin=asked).out.splitlines()
    _, after = command("chat", *FLAGS, stdin=f"The ship is at sea.\n{asked}").out.splitlines()
    line = f"The ship is at sea.\n/clear\n{asked}"
    _, cleared = command("chat", *FLAGS, stdin=line).out.splitlines()
    assert cleared == alone
    assert after != alone


def test_clear_says_so_in_any_case_of_letters(command):
    outcome = command("chat", *FLAGS, stdin="/CLEAR\n /Clear\n")
    assert outcome.out == ""
    assert outcome.err.count("note: the conversation is forgotten") == 2


def test_regen_takes_the_last_answer_back(command):
    """At --temp 0 the same one comes again, and what follows knows of one answer only."""
    asked = "The ship is at sea.\n", "Who are you?\n"
    first, second = command("chat", *FLAGS, stdin="".join(asked)).out.splitlines()
    outcome = command("chat", *FLAGS, stdin="/Regen\n".join(asked))
    assert outcome.out.splitlines() == [first, first, second]
    assert "--temp 0 leaves no choice" in outcome.err


def test_regen_gives_another_answer_also_with_a_seed(command):
    drawn = ("--temp", "2", "--top-k", "0", "--top-p", "1", "-s", "7", "--kernels", "exact")
    line = ("chat", "demo", "-n", "12", *drawn)
    first = command(*line, stdin="Hello\n").out
    twice = command(*line, stdin="Hello\n/regen\n").out
    thrice = command(*line, stdin="Hello\n/regen\n/regen\n").out
    assert thrice.startswith(twice)
    assert twice.startswith(first)
    answers = first, twice.removeprefix(first), thrice.removeprefix(twice)
    assert len(set(answers)) == 3


def test_regen_behind_a_turn_that_did_not_fit_draws_on(typed):
    flags = ("--temp", "2", "--top-k", "0", "--top-p", "1", "-s", "7", "-c", "96")
    long = "word " * 200
    _, out, _ = typed("Hello", "/regen", "/regen", flags=flags)
    _, interrupted, _ = typed("Hello", "/regen", long, "/regen", flags=flags)
    assert interrupted == out


@pytest.mark.parametrize("flags", [(), ("-sys", "You are a sea captain.")])
def test_regen_without_an_answer_is_told(command, flags):
    outcome = command("chat", *FLAGS, *flags, stdin="/regen\nHello\n/clear\n/regen\n")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1
    assert outcome.err.count("note: there is no answer to take back") == 2


@pytest.mark.parametrize("leaving", ["/exit", "/quit", "/bye", "/EXIT"])
def test_a_conversation_is_left(command, leaving):
    assert command("chat", *FLAGS, stdin=f"{leaving}\nHello\n").out == ""


def test_help_is_told_and_asks_nothing_of_the_model(command):
    outcome = command("chat", *FLAGS, stdin="/help\n/?\n/Help\n")
    assert (outcome.code, outcome.out) == (0, "")
    for start in ("/help ", "/clear ", "/regen ", "/exit ", "Ctrl-C ", "Ctrl-D "):
        lines = [line for line in outcome.err.splitlines() if line.startswith(start)]
        assert len(lines) == 3


def test_a_last_line_needs_no_end(command):
    assert command("chat", *FLAGS, stdin="Hello").out != ""


def test_a_system_prompt_is_part_of_the_conversation(command):
    plain = command("chat", *FLAGS, stdin="Hello\n").out
    told = command("chat", *FLAGS, "-sys", "You are a sea captain.", stdin="Hello\n").out
    assert plain != told


def test_a_nearly_full_context_is_said_and_a_full_one_is_an_error(command):
    outcome = command("chat", *FLAGS, "-c", "48", stdin="Tell me of the sea\n" * 9)
    assert outcome.code == 1
    assert "of 48 tokens of context are used" in outcome.err
    assert outcome.err.count("error: ") == 1
    assert "exceed the context" in outcome.err


def test_an_answer_that_the_context_ends_is_kept_and_said_to_be_cut(command):
    line = ("chat", "demo", "--temp", "0", "--ignore-eos", "-c", "16")
    outcome = command(*line, stdin="Hello\n")
    assert outcome.code == 0
    assert outcome.out.strip()
    assert outcome.err.count("tokens of context are used") == 1
    assert "the text ends here: all 16 tokens of context are used; /clear" in outcome.err


def test_an_answer_ends_at_the_context_where_that_is_before_its_bound(command):
    line = ("chat", "demo", "--temp", "0", "--ignore-eos", "-c", "48")
    unbounded = command(*line, stdin="Hello\n")
    bounded = command(*line, "-n", "2000", stdin="Hello\n")
    assert (bounded.code, bounded.out) == (0, unbounded.out)
    assert "the text ends here: all 48 tokens of context are used; /clear" in bounded.err


def test_a_bound_that_the_context_has_room_for_is_kept(command):
    line = ("chat", "demo", "--temp", "0", "--ignore-eos", "-c", "48")
    outcome = command(*line, "-n", "4", stdin="Hello\nHello\n")
    assert outcome.code == 0
    assert "the text ends here" not in outcome.err
    assert all(line.strip() for line in outcome.out.splitlines())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch, capsys):
    """typed(...) runs a chat at a terminal; exceptions among the lines are raised there."""

    def run(*lines, flags=()):
        waiting = iter([*lines, EOFError()])

        def next_line(_prompt):
            line = next(waiting)
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(builtins, "input", next_line)
        code = main(("chat", *FLAGS, *flags))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_ctrl_d_at_the_prompt_leaves_at_once(typed):
    code, out, err = typed(EOFError(), "Hello")
    assert (code, out) == (0, "")
    assert "error" not in err
    assert AGAIN not in err


def test_ctrl_c_at_the_prompt_is_told_and_a_second_one_leaves(typed):
    code, out, err = typed(KeyboardInterrupt(), KeyboardInterrupt(), "Hello")
    assert (code, out) == (0, "")
    assert err.count(AGAIN) == 1


def test_ctrl_c_on_a_line_that_was_begun_does_not_leave(typed, monkeypatch):
    begun = SimpleNamespace(get_line_buffer=lambda: "half a line")
    monkeypatch.setitem(sys.modules, "readline", begun)
    code, out, err = typed(KeyboardInterrupt(), KeyboardInterrupt(), "Hello")
    assert (code, len(out.strip().splitlines())) == (0, 1)
    assert err.count(AGAIN) == 2


@pytest.mark.parametrize("between", ["Hello", "/help", ""])
def test_ctrl_c_at_the_prompt_keeps_the_conversation(typed, between):
    _, out, _ = typed("The ship is at sea.", between, "Who are you?")
    code, kept, err = typed(
        "The ship is at sea.", KeyboardInterrupt(), between, KeyboardInterrupt(), "Who are you?"
    )
    assert (code, kept) == (0, out)
    assert err.count(AGAIN) == 2


def test_ctrl_c_just_after_an_answer_keeps_the_conversation(typed, monkeypatch):
    """It comes while the screen closes, before the prompt is there."""
    _, expected, _ = typed("The ship is at sea.", "Who are you?")
    screens = []

    @contextmanager
    def screen(_live):
        yield
        screens.append(1)
        if len(screens) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(LiveView, "screen", screen)
    code, out, err = typed("The ship is at sea.", "Who are you?")
    assert (code, out) == (0, expected)
    assert err.count(AGAIN) == 1
    assert len(screens) == 2


def test_ctrl_c_ends_the_answer_and_not_the_program(typed, monkeypatch):
    monkeypatch.setattr("hybrid.cli.chat.print", _stops_at(2, print), raising=False)
    code, out, err = typed("Hello", "Again")
    assert code == 0
    assert "answer ended" in err
    assert len(out.strip().splitlines()) == 2


def _stops_at(count, really_print):
    seen = []

    def stopping(*texts, **settings):
        seen.append(texts)
        if len(seen) == count:
            raise KeyboardInterrupt
        really_print(*texts, **settings)

    return stopping


def test_an_unknown_command_is_told_and_not_asked_of_the_model(typed):
    code, out, err = typed("/undo", "/set system x", "/", "/etc/hosts is what?", " /undo")
    assert code == 0
    for name in ("/undo", "/set", "/"):
        assert err.count(f"there is no {name}, and the model was not asked") == 1
    assert len(out.strip().splitlines()) == 2


def test_a_command_with_words_after_it_is_not_said_to_be_unknown(typed):
    code, out, err = typed("/Clear all")
    assert (code, out) == (0, "")
    assert "/Clear takes nothing after it, and the model was not asked" in err


@pytest.mark.parametrize("line", ["/undo", "/"])
def test_an_unknown_command_in_a_pipe_is_text(command, line):
    assert command("chat", *FLAGS, stdin=f"{line}\n").out != ""


def test_a_turn_that_does_not_fit_is_taken_back(typed):
    code, out, err = typed("word " * 200, "Hello", "word " * 200, flags=("-c", "64"))
    assert code == 0
    assert err.count("error: ") == 2
    assert err.count("/clear forgets what was said before it") == 1
    assert len(out.strip().splitlines()) == 1
