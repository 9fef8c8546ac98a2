import os
from pathlib import Path

import pytest

from kernels.cuda import cache, emulator
from kernels.cuda.sources import Source
from kernels.errors import KernelInputError
from tests.kernels.cuda.samples import FILE, FOLDER


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path):
    folder = tmp_path / "not" / "there"
    assert cache.read("a", folder) is None
    cache.write("a", b"first", folder)
    cache.write("a", b"second", folder)
    assert cache.read("a", folder) == b"second"
    assert os.listdir(folder) == ["a"]


def test_a_folder_that_refuses_is_no_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", None):
        cache.write("a", b"content", folder)
        assert cache.read("a", folder) is None


def test_a_failed_compilation_leaves_nothing(tmp_path):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.write_by("a", fail, tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_emulator_works_without_a_cache(monkeypatch):
    monkeypatch.setattr(cache, "usual_folder", lambda: None)
    assert list(emulator.load(Source(FILE, (FOLDER, FOLDER.parents[2] / "kernels")), ["largest"]))


def test_a_key_follows_every_included_file(tmp_path):
    (tmp_path / "a.cu").write_text('#include "b.h"\n')
    (tmp_path / "b.h").write_text('#  include "c.h"\n#include <cmath>\n#include "elsewhere.h"\n')
    keys = set()
    for text in ("1", "2"):
        (tmp_path / "c.h").write_text(text)
        keys |= {Source("a.cu", (tmp_path,)).key(), Source("a.cu", (tmp_path,)).key("sm_90")}
    assert len(keys) == 4
    assert [path.name for path in Source("a.cu", (tmp_path,)).files()] == ["a.cu", "b.h", "c.h"]


def test_the_words_of_every_kernel_are_part_of_its_key():
    names = {path.name for path in Source(FILE, (FOLDER, FOLDER.parents[2] / "kernels")).files()}
    assert {FILE, "device.h", "device_ptx.h", "emulator.h", "emulator_block.h"} <= names


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(KernelInputError, match="no source missing.cu in"):
        Source("missing.cu", (FOLDER,)).key()
