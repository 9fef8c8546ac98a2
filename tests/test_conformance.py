"""The conformance kit, whole: the same rows that `python -m tools.conformance` prints."""

from pathlib import Path

import pytest

from hybrid.runtime.options import KERNELS
from tools.conformance.__main__ import as_text, main, rows


@pytest.mark.parametrize("kernels", KERNELS)
def test_every_row_of_the_kit_passes(shared: Path, kernels: str) -> None:
    kit = shared / "conformance"
    if not kit.is_dir():
        pytest.skip("../shared/conformance is not here")
    found = list(rows(kit, kernels=kernels))
    assert len(found) > 100
    assert [as_text(row) for row in found if not row.passed] == []


def test_a_folder_without_a_kit_is_an_error_and_not_a_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no conformance kit" in said
    assert "try   python -m tools.conformance FOLDER" in said


def test_a_name_that_nothing_has_is_not_a_pass(shared: Path) -> None:
    if not (shared / "conformance").is_dir():
        pytest.skip("../shared/conformance is not here")
    assert main([str(shared / "conformance"), "--only", "no such row"]) == 2
