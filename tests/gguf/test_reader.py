import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hybrid.errors import GgufError
from hybrid.gguf import GgufFile
from tests.cpu_time import computed_within
from tests.gguf.writer import (
    ARRAY,
    F32,
    I32,
    STRING,
    U32,
    U64,
    Key,
    Tensor,
    gguf_bytes,
    sample_keys,
    sample_tensors,
)
from tests.shared_folder import SHARED

REAL_FILES = sorted(
    path
    for folder in ("conformance/models", "conformance/vocab", "models")
    for path in (SHARED / folder).glob("*.gguf")
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes(sample_keys(), sample_tensors()))
    return path


def test_tensors_have_both_orders_of_dimensions_and_their_bytes(path: Path) -> None:
    with GgufFile.open(str(path)) as file:
        assert [
            (t.name, t.ne, t.shape, t.format.name, t.nbytes, t.part) for t in file.tensors.values()
        ] == [
            ("token_embd.weight", (32, 5), (5, 32), "Q8_0", 170, 0),
            ("output_norm.weight", (7,), (7,), "F32", 28, 0),
            ("blk.0.ffn_up_exps.weight", (256, 2, 3), (3, 2, 256), "Q4_K", 864, 0),
        ]
        assert file.alignment == 32
        assert file.paths == (file.path,) == (path,)
        assert file.data_bytes_present
        file.require_data()
        for tensor, written in zip(file.tensors.values(), sample_tensors(), strict=True):
            assert tensor.offset % 32 == 0
            assert file.data(tensor) == written.data


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
@pytest.mark.parametrize("kind", [U32, U64, I32])
def test_any_power_of_two_aligns_data(tmp_path: Path, alignment: int, kind: int) -> None:
    path = tmp_path / "model.gguf"
    keys = [Key("general.alignment", kind, alignment)]
    path.write_bytes(gguf_bytes(keys, sample_tensors(), alignment))
    with GgufFile.open(path) as file:
        assert file.alignment == alignment
        for tensor, written in zip(file.tensors.values(), sample_tensors(), strict=True):
            assert file.data(tensor) == written.data


@pytest.mark.parametrize(("offset", "nbytes"), [(0, None), (5, None), (5, 100), (170, 0)])
def test_read_into_fills_the_front_of_the_buffer(
    path: Path, offset: int, nbytes: int | None
) -> None:
    file = GgufFile.open(path)
    tensor = file.tensors["token_embd.weight"]
    buffer = bytearray(b"\xee" * 200)
    file.read_into(tensor, memoryview(buffer), offset, nbytes)
    wanted = bytes(range(170))[offset:][:nbytes]
    assert buffer == wanted + b"\xee" * (200 - len(wanted))


@pytest.mark.parametrize(("offset", "nbytes"), [(-1, 5), (0, 171), (171, None), (5, -1)])
def test_read_into_refuses_bytes_of_other_tensors(path: Path, offset: int, nbytes: int) -> None:
    file = GgufFile.open(path)
    tensor = file.tensors["token_embd.weight"]
    with pytest.raises(ValueError, match=r"token_embd\.weight"):
        file.read_into(tensor, memoryview(bytearray(500)), offset, nbytes)
    with pytest.raises(ValueError, match="a buffer of 10 bytes for 170"):
        file.read_into(tensor, memoryview(bytearray(10)))


def test_threads_read_the_right_tensors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    tensors = [Tensor(f"t{i}", (512,), data=bytes([i]) * 2048) for i in range(200)]
    path.write_bytes(gguf_bytes([], tensors))
    file = GgufFile.open(path)
    wrong: list[str] = []

    def read_all() -> None:
        buffer = bytearray(2048)
        for index, tensor in enumerate(file.tensors.values()):
            file.read_into(tensor, memoryview(buffer))
            if buffer != bytes([index]) * 2048 or file.data(tensor) != buffer:
                wrong.append(tensor.name)

    threads = [threading.Thread(target=read_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_data_are_read_only_and_outlive_the_file(path: Path) -> None:
    file = GgufFile.open(path)
    view = file.data(file.tensors["output_norm.weight"])
    assert view.readonly
    file.close()
    assert view == b"n" * 28
    with pytest.raises(ValueError, match="is closed"):
        file.data(file.tensors["output_norm.weight"])


@pytest.mark.parametrize("missing_bytes", [1, 31, 500, 864, 1087, 1088])
def test_file_without_all_its_data_opens_for_planning_only(path: Path, missing_bytes: int) -> None:
    """The data section is 1088 bytes: 192 and 32 with padding, then 864."""
    path.write_bytes(path.read_bytes()[:-missing_bytes])
    file = GgufFile.open(path)
    assert not file.data_bytes_present
    with pytest.raises(GgufError, match="is cut: tensor"):
        file.require_data()
    last = file.tensors["blk.0.ffn_up_exps.weight"]
    there = max(0, 864 - missing_bytes)
    for use in (file.data, lambda tensor: file.read_into(tensor, memoryview(bytearray(900)))):
        with pytest.raises(GgufError) as caught:
            use(last)
        assert f"864 bytes expected at byte {last.offset}, {there} there" in str(caught.value)


def test_padding_after_the_last_tensor_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes([], [Tensor("a", (7,), data=b"a" * 28)])[:-4])
    file = GgufFile.open(path)
    file.require_data()
    assert file.data(file.tensors["a"]) == b"a" * 28


def test_gap_between_tensors_is_legal_when_the_data_behind_it_are_there(tmp_path: Path) -> None:
    gap_bytes = 2 << 20
    path = tmp_path / "model.gguf"
    tensors = [
        Tensor("a", (8,), data=b"a" * 32 + b"\0" * gap_bytes),
        Tensor("b", (8,), data=b"b" * 32),
    ]
    path.write_bytes(gguf_bytes([], tensors))
    with GgufFile.open(path) as file:
        assert file.data(file.tensors["b"]) == b"b" * 32


def test_file_that_shrinks_after_opening_is_an_error_and_not_old_bytes(path: Path) -> None:
    file = GgufFile.open(path)
    tensor = file.tensors["token_embd.weight"]
    path.write_bytes(path.read_bytes()[: tensor.offset + 100])
    with pytest.raises(GgufError, match="is cut") as caught:
        file.read_into(tensor, memoryview(bytearray(170)))
    assert "170 bytes expected" in str(caught.value)
    assert "100 there" in str(caught.value)


def test_130_000_strings_open_in_a_third_of_a_second(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes([Key("t", ARRAY, (STRING, [f"Ġtok{i}" for i in range(130_000)]))]))
    file = computed_within(0.3, lambda: GgufFile.open(path))
    assert len(file.metadata["t"]) == 130_000


def test_header_of_the_largest_models_opens_in_half_a_second(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    keys = [
        Key("tokens", ARRAY, (STRING, [f"Ġtok{i}" for i in range(129_280)])),
        Key("merges", ARRAY, (STRING, [f"Ġa{i} b{i}" for i in range(127_741)])),
        Key("scores", ARRAY, (F32, [0.0] * 129_280)),
        Key("types", ARRAY, (I32, [1] * 129_280)),
    ]
    ne, nbytes = (7168, 2048, 256), 7168 // 256 * 144 * 2048 * 256
    tensors = [Tensor(f"blk.{i}.x.weight", ne, 12, offset=i * nbytes) for i in range(1086)]
    path.write_bytes(gguf_bytes(keys, tensors))
    assert len(GgufFile.open(path).tensors) == 1086
    computed_within(0.5, lambda: GgufFile.open(path))


def test_reading_files_needs_neither_torch_nor_numpy() -> None:
    """A fresh interpreter, because this one may have imported them for another test."""
    code = "import sys, hybrid.gguf.inventory; print({'torch', 'numpy', 'gguf'} & {*sys.modules})"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not REAL_FILES, reason="../shared is not here")
@pytest.mark.parametrize("path", REAL_FILES, ids=lambda path: path.name)
def test_real_file_reads_as_the_gguf_package_reads_it(path: Path) -> None:
    reader = pytest.importorskip("gguf").GGUFReader(path)
    with GgufFile.open(path) as file:
        theirs = {key: f.contents() for key, f in reader.fields.items() if key[:5] != "GGUF."}
        own_part = [t for t in file.tensors.values() if file.paths[t.part] == file.path]
        if file.path == file.paths[0]:
            assert dict(file.metadata) == theirs
        assert len(own_part) == len(reader.tensors)
        for ours, other in zip(own_part, reader.tensors, strict=True):
            assert ours.name == other.name
            assert ours.ne == tuple(other.shape)
            assert ours.format.ggml_id == other.tensor_type
            assert (ours.offset, ours.nbytes) == (other.data_offset, other.n_bytes)
            assert file.data(ours) == other.data.tobytes()
            buffer = bytearray(ours.nbytes)
            file.read_into(ours, memoryview(buffer))
            assert file.data(ours) == buffer
