"""Every stored result of llama.cpp, and where the trained patterns part from it."""

import unicodedata
from pathlib import Path

import pytest

from tools import conformance_vocab

VOCABULARIES = Path(__file__).parents[2] / ".." / "shared" / "conformance" / "vocab"


@pytest.fixture
def folder() -> Path:
    if not VOCABULARIES.is_dir():
        pytest.skip("../shared is not here")
    return VOCABULARIES


def test_every_stored_case_is_equal_under_the_conventions_of_llama_cpp(folder: Path) -> None:
    rows = conformance_vocab.check(folder)
    assert [row.first_different for row in rows if row.equal != row.cases] == []
    assert len(rows) == 16
    assert sum(row.cases for row in rows) == 12 * 603 + 4 * 544


def has_foreign_blank(text: str) -> bool:
    return any(ord(c) > 127 and c.isspace() for c in text)


def has_mark(text: str) -> bool:
    return any(unicodedata.category(c).startswith("M") for c in text)


def test_the_trained_patterns_differ_only_where_llama_cpp_deviates(folder: Path) -> None:
    rows = conformance_vocab.check(folder, "trained")
    different = {row.name: row.differing for row in rows if row.differing}
    assert {name: len(texts) for name, texts in different.items()} == {
        "deepseek-llm": 1,
        "deepseek-coder": 1,
        "file:deepseek-llm": 1,
        "kimi-k2": 1,
        "gpt-4o": 1,
    }
    for name, texts in different.items():
        deviates = has_mark if name in ("kimi-k2", "gpt-4o") else has_foreign_blank
        assert all(deviates(text) for text in texts), name


def test_the_check_sees_a_wrong_id(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("wild3k-gpt-2.gguf"):
        (tmp_path / file.name).symlink_to(file.resolve())
    (tmp_path / "goldens.json").write_text(
        '{"strings": ["a", "b"], "ids": {"gpt-2": [[0, 1], [0, 1]]},'
        ' "decoded_hex": {}, "ids_nospecial": {}}'
    )
    (row,) = conformance_vocab.check(tmp_path)
    assert (row.cases, row.equal, row.differing) == (2, 0, ("a", "b"))
    assert "'a': expected [0, 1], got [0, " in row.first_different
    assert conformance_vocab.main([str(tmp_path)]) == 1


def test_the_command_without_a_folder_is_a_usage_error(tmp_path: Path) -> None:
    assert conformance_vocab.main([str(tmp_path)]) == 2
    assert conformance_vocab.main([]) == 2
