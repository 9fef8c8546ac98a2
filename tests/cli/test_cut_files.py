"""`hybrid plan` of a file whose data are not all there."""

import json

import pytest

BUDGET = ("--ram", "1GiB", "--device", "none", "-t", "1")


@pytest.fixture
def path(tmp_path, demo_bytes):
    """Three fifths of a file."""
    made = tmp_path / "part.gguf"
    made.write_bytes(demo_bytes[: len(demo_bytes) * 3 // 5])
    return made


def notes_in(report: str) -> str:
    """That section's text in one line."""
    [section] = [part for part in report.split("\n\n") if part.startswith("notes ")]
    return " ".join(section.split())


def test_a_cut_file_is_planned_and_said_once_to_be_cut(command, path, demo_bytes):
    outcome = command("plan", str(path), *BUDGET)
    whole = command("plan", "demo", *BUDGET)
    assert outcome.code == 0
    there, needed = (f"{n / (1 << 20):.1f} MiB" for n in (path.stat().st_size, len(demo_bytes)))
    words = f"file: 'part.gguf' holds {there} of the {needed} that its header names"
    assert words in notes_in(outcome.out)
    assert "`hybrid run` refuses the file: finish the download" in notes_in(outcome.out)
    assert "part.gguf" not in outcome.err
    assert "refuses the file" not in whole.out + whole.err
    before = outcome.out.split("\n\nnotes ")[0]
    assert before == whole.out.split("\n\nnotes ")[0]
    assert command("run", str(path), "-p", "hi", *BUDGET).code == 1


def test_a_cut_file_is_in_the_notes_of_json_and_page(command, path, tmp_path):
    page = tmp_path / "plan.html"
    outcome = command("plan", str(path), *BUDGET, "--json", "--html", str(page))
    assert len([text for text in json.loads(outcome.out)["notes"] if "'part.gguf'" in text]) == 1
    assert page.read_text(encoding="utf-8").count("part.gguf") == 1


def test_a_saved_plan_of_a_cut_file_says_nothing_of_it_once_the_file_is_whole(
    command, path, tmp_path, demo_bytes
):
    saved = tmp_path / "plan.json"
    assert command("plan", str(path), *BUDGET, "-c", "64", "--save", str(saved)).code == 0
    line = ("plan", str(path), *BUDGET, "--plan", str(saved))
    assert command(*line).out.count("file: 'part.gguf'") == 1
    path.write_bytes(demo_bytes)
    again = command(*line)
    assert again.code == 0
    assert "file: 'part.gguf'" not in again.out + again.err
    ran = command("run", str(path), "-p", "hi", "-n", "1", *BUDGET, "--plan", str(saved))
    assert ran.code == 0, ran.err
    assert "file: 'part.gguf'" not in ran.err
