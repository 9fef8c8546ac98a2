import re
import shlex

import pytest

from hybrid.cli.main import main
from tests.readme_blocks import HEADER, README, as_block, blocks
from tools.make_header import make_header

TEXT = README.read_text(encoding="utf-8")
BLOCKS = blocks(TEXT)
# commands without what they print, but for the machine that they describe
PLANS = re.findall(r"^    (hybrid plan .* --machine .*)$", TEXT, re.M)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """A folder with the header that the README plans for."""
    make_header(tmp_path / HEADER)
    monkeypatch.chdir(tmp_path)


def test_the_readme_shows_a_report_and_two_other_views():
    flags = ("--what-if", "--explain")
    assert [[flag for flag in flags if flag in line] for line, _ in BLOCKS] == [
        [],
        ["--what-if"],
        ["--explain"],
    ]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(("line", "shown"), BLOCKS, ids=[line for line, _ in BLOCKS])
def test_the_program_prints_what_the_readme_shows(line, shown, capsys):
    assert main(shlex.split(line)[1:]) == 0
    assert as_block(capsys.readouterr().out, shown) == shown, "python -m tests.readme_blocks"


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("line", PLANS)
def test_a_plan_that_the_readme_proposes_fits(line, capsys):
    words = [HEADER if word.endswith(".gguf") else word for word in shlex.split(line)[1:]]
    assert main(words) == 0
    assert "routed" in capsys.readouterr().out


def test_the_readme_proposes_a_plan_for_a_described_machine():
    assert PLANS
