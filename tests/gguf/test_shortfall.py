"""Of files and parts that are cut: how much is there, how much would be."""

from dataclasses import replace
from pathlib import Path

import pytest

from hybrid.gguf import GgufFile
from hybrid.gguf.shortfall import file_notes, without_file_notes
from tests.gguf.test_split import TENSORS, part_of, sound, write
from tests.gguf.writer import Tensor, gguf_bytes

KIB = 1 << 10


def notes_of(path: Path) -> tuple[str, ...]:
    with GgufFile.open(path) as file:
        return file_notes(file)


def data_start(path: Path, part: int = 0) -> int:
    with GgufFile.open(path) as file:
        return min(its.offset for its in file.tensors.values() if its.part == part)


def cut(path: Path, left_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:left_bytes])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Padding and all: a header, 4 KiB, 28 bytes and 4 of padding."""
    made = tmp_path / "m.gguf"
    tensors = [Tensor("a", (KIB,), data=b"a" * 4 * KIB), Tensor("b", (7,), data=b"b" * 28)]
    made.write_bytes(gguf_bytes([], tensors))
    return made


def test_a_file_whose_data_are_all_there_has_no_note(path: Path) -> None:
    assert notes_of(path) == ()
    cut(path, path.stat().st_size - 4)
    assert notes_of(path) == ()


@pytest.mark.parametrize("missing_padding", [0, 1, 5])
def test_a_header_alone_has_no_note(path: Path, missing_padding: int) -> None:
    start = data_start(path)
    cut(path, start - missing_padding)
    assert not GgufFile.open(path).data_bytes_present
    assert notes_of(path) == ()


def test_a_file_with_a_byte_of_its_data_is_cut(path: Path) -> None:
    cut(path, data_start(path) + 1)
    [text] = notes_of(path)
    assert text.startswith("file: 'm.gguf' holds ")
    assert "(4.0 KiB missing)" in text
    assert text.endswith("`hybrid run` refuses the file: finish the download")


def test_a_single_missing_byte_is_counted(path: Path) -> None:
    cut(path, path.stat().st_size - 5)
    [text] = notes_of(path)
    size = f"{(path.stat().st_size + 1) / KIB:.1f} KiB"
    assert f"holds {size} of the {size} that its header names (1 B missing)" in text


def test_a_cut_part_is_named(tmp_path: Path) -> None:
    write(tmp_path, sound())
    part = tmp_path / part_of(2).name
    cut(part, part.stat().st_size - 20)
    for given in range(3):
        [text] = notes_of(tmp_path / part_of(given).name)
        assert text.startswith("file: 'm-00003-of-00003.gguf' holds ")
        assert "(20 B missing)" in text
        assert text.endswith("refuses the model until every part is whole: finish the download")


def test_several_cut_parts_are_named_and_summed(tmp_path: Path) -> None:
    write(tmp_path, sound())
    cut(tmp_path / part_of(0).name, (tmp_path / part_of(0).name).stat().st_size - 10)
    start = data_start(tmp_path / part_of(0).name, part=1)
    cut(tmp_path / part_of(1).name, start)
    [text] = notes_of(tmp_path / part_of(2).name)
    named = "'m-00001-of-00003.gguf', 'm-00002-of-00003.gguf'"
    assert text.startswith(f"file: 2 of 3 parts ({named}) hold ")
    assert "that their headers name (106 B missing)" in text


def test_headers_of_all_parts_have_no_note(tmp_path: Path) -> None:
    parts = [replace(part, tensors=3) for part in sound()]
    write(tmp_path, parts, ([], *TENSORS[1:]))
    first = tmp_path / part_of(0).name
    for number in (1, 2):
        cut(tmp_path / part_of(number).name, data_start(first, number))
    assert notes_of(first) == ()


def test_only_notes_of_the_file_are_taken_out(path: Path) -> None:
    cut(path, path.stat().st_size - 5)
    assert without_file_notes(("no GPU", *notes_of(path), "prompts: slow")) == (
        "no GPU",
        "prompts: slow",
    )
