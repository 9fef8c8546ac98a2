"""The view on a real (pseudo) terminal: keys, sizes, and every way in which it can end."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.pseudo_terminal import ALTERNATE, NORMAL, ROOT, PseudoTerminal

PLAY = (sys.executable, "-m", "tests.tui.play", "gpu1", "--seconds")
COLOUR = "\x1b[33m"


def test_the_text_written_under_the_screen_is_printed_whole_after_it() -> None:
    with PseudoTerminal(*PLAY, "3") as terminal:
        terminal.read_until("CUDA0")
        assert terminal.modes() != terminal.before
        assert terminal.ended() == 0
        text = terminal.after_screen()
        assert terminal.modes() == terminal.before
    assert "The old lighthouse keeper climbed the spiral stairs each evening, counting" in text
    assert "CUDA0" not in text


def test_keys_choose_panels_pause_and_help() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("[1 overview]")
        terminal.type("2")
        terminal.read_until("[2 devices]")
        terminal.type("\t")
        terminal.read_until("[3 layers]")
        terminal.type("\x1b[Z")
        terminal.read_until("[2 devices]")
        terminal.type("?")
        terminal.read_until("the panels: 1 overview")
        assert "PAUSED" not in terminal.text
        terminal.type("?p")
        terminal.read_until("PAUSED")


def test_q_leaves_the_view_and_the_text_streams_on() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("CUDA0")
        terminal.type("q")
        terminal.read_until("The old lighthouse")
        assert terminal.modes() == terminal.before
        terminal.read_until("lighthouse")
        assert terminal.program.poll() is None


def test_a_resized_terminal_is_filled() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("[1 overview]")
        assert "─ layers" not in terminal.text
        terminal.resize(120, 40)
        terminal.read_until("─ layers")
        terminal.resize(30, 8)
        begun = len(terminal.text)

        def fits() -> bool:
            terminal.read(0.3)
            _, *frames = terminal.text[begun:].split("\x1b[H")
            return bool(frames) and frames[-1].count("\n") <= 7

        terminal.read_till(fits)


def test_ctrl_c_leaves_the_terminal_as_it_was() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("CUDA0")
        terminal.type("\x03")
        assert terminal.ended() != 0
        assert terminal.modes() == terminal.before
        assert "KeyboardInterrupt" in terminal.after_screen()


def test_a_crash_of_the_run_is_seen_after_the_screen() -> None:
    with PseudoTerminal(*PLAY, "1", "--crash") as terminal:
        assert terminal.ended() == 1
        text = terminal.after_screen()
        assert terminal.modes() == terminal.before
    assert "RuntimeError: the run has failed" in text
    assert text.index("The old lighthouse") < text.index("RuntimeError")


def test_a_crash_of_a_panel_ends_the_view_and_not_the_run() -> None:
    with PseudoTerminal(*PLAY, "3", "--break-panel") as terminal:
        terminal.read_until("note: the view has closed: KeyError: 'unheard of'")
        assert terminal.modes() == terminal.before
        assert terminal.ended() == 0
        assert "The old lighthouse" in terminal.after_screen()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_the_terminal_as_it_was(number: int) -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("CUDA0")
        os.kill(terminal.program.pid, number)
        assert terminal.ended() == -number
        terminal.read_till(lambda: NORMAL in terminal.text)
        terminal.read_till(lambda: terminal.modes() == terminal.before)


def test_a_pipe_that_is_closed_early_ends_the_run_and_the_screen() -> None:
    command = f"{' '.join(PLAY)} 60 | head -c 20"
    with PseudoTerminal("sh", "-c", command) as terminal:
        terminal.read_until(ALTERNATE)
        terminal.ended()
        assert terminal.modes() == terminal.before
        assert "BrokenPipeError" in terminal.after_screen()
    assert "The old lighthouse k" in terminal.text


def test_a_piped_text_is_whole_while_the_screen_is_on_stderr() -> None:
    with PseudoTerminal("sh", "-c", f"{' '.join(PLAY)} 2 | md5sum") as terminal:
        terminal.read_until("[1 overview]")
        assert terminal.ended() == 0
        assert "lighthouse keeper climbed" not in terminal.after_screen()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash for job control")
def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() -> None:
    with PseudoTerminal("bash", "--norc", "-i", PS1="ready> ") as terminal:
        terminal.read_until("ready>")
        terminal.type(" ".join(PLAY) + " 60\n")
        terminal.read_until("[1 overview]")
        terminal.type("\x1a")
        terminal.read_until("Stopped")
        terminal.type("echo modes: $(stty -a | grep -o -- '-\\?icanon')\n")
        terminal.read_until("modes: icanon")
        assert NORMAL in terminal.after_screen()
        terminal.type("fg\n")
        terminal.read_until(ALTERNATE)
        terminal.read_until("[1 overview]")
        terminal.type("\x1a")
        terminal.read_until("Stopped")
        terminal.type("kill -9 %1; fg\n")
        terminal.read_until("Killed")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash for job control")
def test_a_run_in_the_background_does_not_touch_the_terminal(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    with PseudoTerminal("bash", "--norc", "-i", PS1="ready> ") as terminal:
        terminal.read_until("ready>")
        terminal.type(" ".join(PLAY) + f" 60 --begun {begun} &\n")
        terminal.read_till(begun.exists)
        terminal.read(1.0)  # several frames of a screen
        assert ALTERNATE not in terminal.text
        terminal.type("fg\n")
        terminal.read_until("[1 overview]")
        terminal.type("\x03")
        terminal.read_until("KeyboardInterrupt")


def test_no_color_is_without_colours_and_a_terminal_without_blocks_gets_letters() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("[1 overview]")
        assert COLOUR in terminal.text
    with PseudoTerminal(*PLAY, "60", NO_COLOR="1", PYTHONIOENCODING="ascii") as terminal:
        screen = terminal.read_until("[1 overview]")
        assert COLOUR not in screen
        assert "A attention" in re.sub("\x1b\\[[0-9;]*m", "", screen)
        assert screen.isascii()


def test_a_dumb_terminal_gets_lines() -> None:
    """One at the end where its text comes on it too, in whose words others would stand."""
    with PseudoTerminal(*PLAY, "3", TERM="dumb") as terminal:
        assert terminal.ended() == 0
        text = terminal.text.replace("\r\n", "\n")
        assert "\x1b" not in text
        assert text.count("; CUDA0 ") == 1
        assert "\ndecode " in text
    with PseudoTerminal("sh", "-c", f"{' '.join(PLAY)} 20 > /dev/null", TERM="dumb") as terminal:
        terminal.read_until("prompt 463 tok/s")
        terminal.read_until("decode ")
        assert "\x1b" not in terminal.text


def test_top_prints_lines_on_a_dumb_terminal_and_beside_a_screen_that_is_piped() -> None:
    with PseudoTerminal(*PLAY, "20", "--top-one", TERM="dumb") as terminal:
        terminal.read_until("prompt 463 tok/s")
        terminal.read_until("decode ")
    command = f"{' '.join(PLAY)} 20 --top-one | head -n 2"
    with PseudoTerminal("sh", "-c", command) as terminal:
        assert terminal.ended() == 0
        assert ALTERNATE not in terminal.text
        assert terminal.text.count("; CUDA0 ") == 2
        assert "Error" not in terminal.text


def test_without_a_terminal_a_line_a_second_goes_to_stderr() -> None:
    began = time.monotonic()
    with subprocess.Popen(
        [*PLAY, "6"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        lines = [run.stderr.readline() for _ in range(2)]
        took_s = time.monotonic() - began
        run.kill()
        text = run.stdout.read()
    assert took_s >= 2.0, "lines come more often than once a second"
    assert all(line.startswith(("prompt 463 tok/s", "decode ")) for line in lines), lines
    assert text.startswith("The old lighthouse keeper")


def test_top_asks_which_run_and_q_leads_back_to_the_list() -> None:
    with PseudoTerminal(*PLAY, "60", "--top") as terminal:
        terminal.read_until("up, down, enter")
        terminal.type("\x1b[B\r")
        terminal.read_until("hybrid run")
        terminal.read_until("[1 overview]")
        assert "second" in terminal.text
        terminal.type("q")
        terminal.read_until("up, down, enter")
        terminal.type("q")
        assert terminal.ended() == 0
        assert terminal.modes() == terminal.before


def test_a_run_that_is_gone_stays_on_the_screen_of_top_until_q() -> None:
    with PseudoTerminal(*PLAY, "2", "--top") as terminal:
        terminal.read_until("up, down, enter")
        terminal.type("1")
        terminal.read_until(" GONE ")
        terminal.read(0.5)
        assert terminal.program.poll() is None
        terminal.type("q")
        terminal.read_until("up, down, enter")


@pytest.mark.parametrize(
    ("how", "words"), [((), [" GONE "]), (("--fail",), [" FAILED ", "no room for the cache"])]
)
def test_a_pause_does_not_hide_that_the_run_has_ended(
    how: tuple[str, ...], words: list[str]
) -> None:
    with PseudoTerminal(*PLAY, "4", "--top", *how) as terminal:
        terminal.read_until("up, down, enter")
        terminal.type("1")
        terminal.read_until("[1 overview]")
        terminal.type("p")
        terminal.read_until(" PAUSED ")
        for word in words:
            terminal.read_till(lambda word=word: word in terminal.text)  # type: ignore[misc]
        assert terminal.text.index(" PAUSED ") < terminal.text.index(words[0])


def test_ctrl_s_does_not_stop_the_run() -> None:
    with PseudoTerminal(*PLAY, "2") as terminal:
        terminal.read_until("[1 overview]")
        terminal.type("\x13")
        assert terminal.ended() == 0
        assert "The old lighthouse" in terminal.after_screen()
        assert terminal.modes() == terminal.before


def test_a_view_that_is_stopped_from_outside_comes_back() -> None:
    with PseudoTerminal(*PLAY, "60") as terminal:
        terminal.read_until("[1 overview]")
        os.kill(terminal.program.pid, signal.SIGSTOP)
        time.sleep(0.2)
        terminal.read(0.2)
        os.kill(terminal.program.pid, signal.SIGCONT)
        terminal.read_until("[1 overview]")
        assert terminal.modes() != terminal.before
