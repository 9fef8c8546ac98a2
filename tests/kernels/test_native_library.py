import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

import kernels.native
from kernels.errors import NativeLibraryMissing
from kernels.formats import BY_NAME, FORMATS
from kernels.native.file import FILE_NAME, find
from kernels.native.library import ABI_VERSION, library, load
from kernels.native.records import RECORDS
from kernels.native.signatures import SIGNATURES


def test_every_format_has_the_size_of_the_table():
    for known in FORMATS:
        assert library().hybrid_block_weights(known.ggml_id) == known.block_weights
        assert library().hybrid_block_bytes(known.ggml_id) == known.block_bytes


def test_every_record_has_the_size_that_the_library_says():
    for which, record in enumerate(RECORDS):
        assert library().hybrid_record_bytes(which) == ctypes.sizeof(record)
    assert library().hybrid_record_bytes(-1) == 0
    assert library().hybrid_record_bytes(len(RECORDS)) == 0


@pytest.mark.parametrize("ggml_id", [-1, 4, 9, 15, 1000])
def test_an_unknown_format_has_no_size(ggml_id):
    assert library().hybrid_block_weights(ggml_id) == 0
    assert library().hybrid_block_bytes(ggml_id) == 0


def test_a_codebook_of_another_size_or_format_is_not_taken():
    buffer = ctypes.create_string_buffer(1 << 20)
    address = ctypes.addressof(buffer)
    assert library().hybrid_set_codebook(BY_NAME["IQ2_XXS"].ggml_id, address, 2047) == 0
    assert library().hybrid_set_codebook(BY_NAME["Q4_K"].ggml_id, address, 2048) == 0


def test_the_second_folder_of_an_editable_installation_is_searched(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    source.mkdir()
    built.mkdir()
    (built / FILE_NAME).touch()
    assert find((str(source), str(built))) == built / FILE_NAME


def test_the_newest_library_wins(tmp_path):
    for folder, seconds in (("installed", 100), ("built later", 200), ("older", 50)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / FILE_NAME).touch()
        os.utime(tmp_path / folder / FILE_NAME, (seconds, seconds))
    folders = tuple(str(tmp_path / name) for name in ("installed", "built later", "older"))
    assert find(folders) == tmp_path / "built later" / FILE_NAME


def test_a_missing_library_names_the_folders_and_the_build(tmp_path):
    with pytest.raises(NativeLibraryMissing) as raised:
        find((str(tmp_path / "a"), str(tmp_path / "b")))
    assert all(
        text in str(raised.value) for text in (f"{tmp_path}/a", f"{tmp_path}/b", "make native")
    )


def test_a_file_that_is_no_library_names_the_build(tmp_path):
    (tmp_path / FILE_NAME).write_text("not a library")
    with pytest.raises(NativeLibraryMissing, match=r"does not load .*make native"):
        load(tmp_path / FILE_NAME)


VERSION = f'extern "C" int hybrid_abi_version() {{ return {ABI_VERSION}; }}'
SIZES = ("hybrid_record_bytes", "hybrid_block_weights", "hybrid_block_bytes")
FUNCTIONS = "".join(  # every other one, returning 0
    f'extern "C" long {name}() {{ return 0; }}' for name in SIGNATURES if name not in SIZES
)
RECORD_BYTES = {which: ctypes.sizeof(record) for which, record in enumerate(RECORDS)}
LAST = [name for name in SIGNATURES if name not in SIZES][-1]


def sizes(weights, nbytes, records=RECORD_BYTES):
    """Code of the functions that tell sizes: of blocks by ggml id, of records by their number."""
    tables = {"block_weights": weights, "block_bytes": nbytes, "record_bytes": records}
    return "".join(
        f'extern "C" long hybrid_{name}(int which) {{ switch (which) {{'
        + "".join(f"case {which}: return {number};" for which, number in table.items())
        + "} return 0; }"
        for name, table in tables.items()
    )


WEIGHTS = {known.ggml_id: known.block_weights for known in FORMATS}
BYTES = {known.ggml_id: known.block_bytes for known in FORMATS}


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ('extern "C" int hybrid_abi_version() { return 999; }', "has interface 999"),
        ('extern "C" int something_else() { return 1; }', "has interface None"),
        (VERSION, f"lacks {next(iter(SIGNATURES))}"),
        (
            VERSION + FUNCTIONS.replace(LAST, "another") + sizes(WEIGHTS, BYTES),
            f"lacks {LAST}",
        ),
        (
            VERSION + FUNCTIONS + sizes(WEIGHTS, BYTES, RECORD_BYTES | {0: 40}),
            "Matrix records of 40 bytes, this program needs 32",
        ),
        (
            VERSION + FUNCTIONS + sizes(WEIGHTS, BYTES, RECORD_BYTES | {6: 8}),
            "CacheRows records of 8 bytes, this program needs 40",
        ),
        (
            VERSION + FUNCTIONS + sizes(WEIGHTS, BYTES | {12: 143}),
            "Q4_K blocks of 256 weights in 143 bytes, this program needs 256 in 144",
        ),
        (VERSION + FUNCTIONS + sizes(WEIGHTS, BYTES), "take the IQ2_XXS codebook of 2048 bytes"),
    ],
    ids=[
        "version",
        "another library",
        "no functions",
        "a function less",
        "the first record",
        "the last record",
        "sizes",
        "codebook",
    ],
)
def test_a_library_built_from_other_sources_is_refused(tmp_path, code, fault):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "other.cpp").write_text(code)
    path = tmp_path / FILE_NAME
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", path, tmp_path / "other.cpp"], check=True, timeout=60
    )
    with pytest.raises(NativeLibraryMissing, match=rf"{fault}.*make native"):
        load(path)


def test_the_library_that_is_loaded_lies_in_the_package():
    assert Path(library()._name).parent in [Path(folder) for folder in kernels.native.__path__]
