"""Commands that load nothing start fast and without torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT = (["--help"], ["plan", "demo"], ["plan", "-m", "demo", "--json"], ["inspect", "demo"])
HEAVY = ("torch", "numpy", "tokenizers", "jinja2", "rich")
START_LIMIT_S = 1.5  # of CPU time, several times what it takes


@pytest.mark.parametrize("words", LIGHT, ids=" ".join)
def test_light_commands_import_nothing_heavy(words):
    program = (
        "import sys\n"
        "from hybrid.cli.main import main\n"
        f"assert main({words!r}) == 0\n"
        f"sys.exit(', '.join(name for name in {HEAVY!r} if name in sys.modules) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, _notes(done.stderr))


@pytest.mark.parametrize("words", LIGHT[:2], ids=" ".join)
def test_light_commands_start_fast(words):
    assert min(_seconds(words) for _ in range(3)) < START_LIMIT_S


def _seconds(words: list[str]) -> float:
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "hybrid", *words], cwd=ROOT, capture_output=True, check=True
    )
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # of the children, user and system


def _notes(text: str) -> str:
    """Only the lines that are notes: anything else on stderr fails the comparison."""
    return "".join(f"{line}\n" for line in text.splitlines() if line.startswith("note: "))
