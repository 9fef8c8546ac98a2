"""Every stored result of llama.cpp, and where the trained patterns part from it."""

import json
import unicodedata
from pathlib import Path

import pytest

from tools.conformance import vocab


@pytest.fixture
def kit(shared: Path) -> Path:
    if not (shared / "conformance" / "vocab").is_dir():
        pytest.skip("../shared/conformance is not here")
    return shared / "conformance"


def test_every_stored_case_is_equal_under_the_conventions_of_llama_cpp(kit: Path) -> None:
    rows = list(vocab.check(kit))
    assert [row.failed for row in rows if not row.passed] == []
    assert len(rows) == 16
    assert sum(row.cases for row in rows) == 12 * 603 + 4 * 544


def has_foreign_blank(text: str) -> bool:
    return any(ord(c) > 127 and c.isspace() for c in text)


def has_mark(text: str) -> bool:
    return any(unicodedata.category(c).startswith("M") for c in text)


def test_the_trained_patterns_differ_only_where_llama_cpp_deviates(kit: Path) -> None:
    goldens = json.loads((kit / "vocab" / "goldens.json").read_text(encoding="utf-8"))
    different = {
        name: {case.text for case in cases if not case.passed}
        for name in goldens["ids"]
        for cases in [vocab.cases(kit / "vocab", goldens, name, "trained")]
    }
    assert {name: len(texts) for name, texts in different.items() if texts} == {
        "deepseek-llm": 1,
        "deepseek-coder": 1,
        "file:deepseek-llm": 1,
        "kimi-k2": 1,
        "gpt-4o": 1,
    }
    for name, texts in different.items():
        deviates = has_mark if name in ("kimi-k2", "gpt-4o") else has_foreign_blank
        assert all(deviates(text) for text in texts), name


def test_the_check_sees_a_wrong_id(kit: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab").mkdir()
    name = "wild3k-gpt-2.gguf"
    (tmp_path / "vocab" / name).symlink_to((kit / "vocab" / name).resolve())
    (tmp_path / "vocab" / "goldens.json").write_text(
        '{"strings": ["a", "b"], "ids": {"gpt-2": [[0, 1], [0, 1]], "missing": [[], []]},'
        ' "decoded_hex": {}, "ids_nospecial": {}}'
    )
    wrong, missing = vocab.check(tmp_path)
    assert (wrong.cases, wrong.passed, missing.passed) == (2, False, False)
    assert "2 differ, the first 'a': expected [0, 1], got [" in wrong.failed[0]
    assert "wild3k-missing.gguf" in missing.failed[0]
    assert [row.name for row in vocab.check(tmp_path, "gpt")] == ["vocabulary gpt-2"]
