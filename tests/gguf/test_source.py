import gc
import os
from pathlib import Path

import pytest

from hybrid.errors import GgufError
from hybrid.gguf import GgufFile
from hybrid.gguf.source import Source
from tests.gguf.writer import Counts, gguf_bytes


def message(path: Path) -> str:
    with pytest.raises(GgufError) as caught:
        GgufFile.open(path)
    assert caught.value.remedies
    assert caught.value.exit_code == 1
    return str(caught.value)


def test_missing_file_names_the_models_beside_it(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(gguf_bytes())
    assert f"there is no file {tmp_path / 'model.gguf'}" in message(tmp_path / "model.gguf")
    assert "other.gguf" in message(tmp_path / "model.gguf")
    assert "no folder" in message(tmp_path / "nowhere" / "model.gguf")


def test_folder_names_the_models_in_it(tmp_path: Path) -> None:
    assert "is a folder" in message(tmp_path)
    for index in range(9):
        (tmp_path / f"m{index}.gguf").write_bytes(b"")
    assert "m0.gguf, m1.gguf, m2.gguf, m3.gguf and 5 more" in message(tmp_path)


def test_empty_file_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.touch()
    assert "is empty (0 bytes)" in message(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    assert "is not a regular file" in message(tmp_path / "pipe.gguf")


def test_unreadable_file_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes())
    monkeypatch.setattr(os, "open", refuse)
    assert "Permission denied" in message(path)


@pytest.mark.parametrize("name", ["a\0b.gguf", "a" * 5000, "model.gguf/x"])
def test_impossible_path_is_an_error_of_ours(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.gguf").write_bytes(gguf_bytes())
    assert message(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"GG", "is not a GGUF file"),
        (b"GGUF", "the version needs 4 bytes"),
        (b"hello, world", "it starts with b'hello, w'"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "a web page"),
        (b'\x10\0\0\0\0\0\0\0{"a":', "a safetensors file"),
        (gguf_bytes(counts=Counts(version=1)), "GGUF version 1"),
        (gguf_bytes(counts=Counts(version=0)), "GGUF version 0"),
        (gguf_bytes(counts=Counts(version=4)), "GGUF version 4"),
        (gguf_bytes(counts=Counts(version=3 << 24)), "big-endian GGUF (version 3)"),
    ],
)
def test_foreign_file_is_named_for_what_it_is(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert expected in message(path)
    assert str(path) in message(path)


@pytest.mark.skipif(not hasattr(os, "preadv"), reason="the other way is the only one here")
def test_reads_without_preadv_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)))
    monkeypatch.delattr(os, "preadv")
    source, buffer = Source.open(path), bytearray(100)
    assert source.read(50, memoryview(buffer)) == 100
    assert buffer == bytes(range(50, 150))
    assert source.read(200, memoryview(buffer)) == 56


def test_forgotten_file_closes_itself(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"x")
    source = Source.open(path)
    descriptor = source._descriptor
    os.fstat(descriptor)
    del source
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_closed_file_refuses_reads(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"x")
    source = Source.open(path)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="is closed"):
        source.read(0, memoryview(bytearray(1)))
    with pytest.raises(ValueError, match="is closed"):
        source.map()
