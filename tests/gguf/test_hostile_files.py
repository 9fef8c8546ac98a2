"""Files made to break a reader: each ends in one error that names the file, field and numbers."""

import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybrid.errors import GgufError, HybridError, UnsupportedModel
from hybrid.gguf import GgufFile
from hybrid.gguf import cursor as cursor_module
from tests.cpu_time import computed_within
from tests.gguf.writer import (
    ARRAY,
    BOOL,
    F32,
    STRING,
    U8,
    U32,
    U64,
    Counts,
    Key,
    Tensor,
    gguf_bytes,
    sample_keys,
    sample_tensors,
    text,
)

HUGE = 1 << 60
SAMPLE = gguf_bytes(sample_keys(), sample_tensors())
HEADER_BYTES = len(SAMPLE) - 1088  # the data section: 170, 28 and 864 bytes, padded
HEADER_END = len(gguf_bytes(sample_keys(), sample_tensors(), alignment=1)) - 170 - 28 - 864
ONE_TENSOR = [Tensor("t", (8,), data=b"t" * 32)]


@dataclass(frozen=True)
class Hostile:
    """A file and the words that its error must hold."""

    name: str
    content: bytes
    words: tuple[str, ...]
    error: type[Exception] = GgufError


def one_key(name: str, kind: int, value: object) -> bytes:
    return gguf_bytes([Key(name, kind, value)])


def array_head(element: int, count: int) -> bytes:
    return struct.pack("<IQ", element, count)


def tensors(*entries: Tensor) -> bytes:
    return gguf_bytes([], entries)


def typed(number: int) -> bytes:
    return tensors(Tensor("blk.3.x", (256,), number, b"x" * 512))


COUNTS = [
    Hostile("keys", gguf_bytes(counts=Counts(keys=HUGE)), ("count of metadata keys", str(HUGE))),
    Hostile("tensors", gguf_bytes(counts=Counts(tensors=HUGE)), ("count of tensors", str(HUGE))),
    Hostile(
        "key name", one_key("k", U8, 1)[:24] + struct.pack("<Q", HUGE) + b"k" * 64, (str(HUGE),)
    ),
    Hostile("string", one_key("k", STRING, struct.pack("<Q", HUGE)), ("'k'", str(HUGE))),
    Hostile("all bits", one_key("k", STRING, b"\xff" * 8), ("'k'", str((1 << 64) - 1))),
    Hostile("strings", one_key("k", ARRAY, array_head(STRING, HUGE)), ("'k'", str(HUGE))),
    Hostile("floats", one_key("k", ARRAY, array_head(F32, HUGE)), ("'k'", str(HUGE))),
    Hostile("bools", one_key("k", ARRAY, array_head(BOOL, HUGE)), ("'k'", str(HUGE))),
    Hostile("arrays", one_key("k", ARRAY, array_head(ARRAY, HUGE)), ("'k'", str(HUGE))),
    Hostile(
        "string in array",
        one_key("k", ARRAY, array_head(STRING, 2) + struct.pack("<QQ", 0, HUGE)),
        ("'k'[1]", str(HUGE)),
    ),
]
VALUES = [
    Hostile("value type", one_key("k", 13, b"\0" * 8), ("'k'", "value type 13")),
    Hostile("element type", one_key("k", ARRAY, array_head(77, 1)), ("'k'", "value type 77")),
    Hostile(
        "nesting", one_key("k", ARRAY, array_head(ARRAY, 1) * 500), ("'k'", "more than 4 deep")
    ),
    Hostile("bool", one_key("k", BOOL, b"\x02"), ("'k'", "bool of 2")),
    Hostile("key text", one_key(b"a\xff", U8, 1), ("metadata key 0 of 1", "not UTF-8", "0xff")),
    Hostile("text", one_key("k", STRING, text(b"\xed\xa0\x80")), ("'k'", "not UTF-8", "0xed")),
    Hostile("texts", one_key("k", ARRAY, (STRING, ["a", b"\xc3"])), ("'k'[1]", "not UTF-8")),
    Hostile("long key", one_key("k" * 65_537, U8, 1), ("65537 bytes", "limit is 65536")),
    Hostile("twice", gguf_bytes([Key("k", U8, 1), Key("k", U8, 2)]), ("'k' occurs twice",)),
    Hostile("alignment 0", one_key("general.alignment", U32, 0), ("alignment is 0",)),
    Hostile("alignment 48", one_key("general.alignment", U32, 48), ("alignment is 48",)),
    Hostile("alignment", one_key("general.alignment", U64, HUGE), ("alignment is", str(HUGE))),
    Hostile("alignment text", one_key("general.alignment", STRING, "32"), ("not an integer",)),
    Hostile("split text", one_key("split.count", STRING, "2"), ("'split.count'", "text '2'")),
]
TABLE = [
    Hostile("0 dimensions", tensors(Tensor("t", ())), ("'t' has 0 dimensions",)),
    Hostile("5 dimensions", tensors(Tensor("t", (1,) * 5)), ("'t' has 5 dimensions",)),
    Hostile("dimensions", tensors(Tensor("t", (1,), dimensions=1 << 31)), (str(1 << 31),)),
    Hostile("dimension 0", tensors(Tensor("t", (32, 0))), ("'t'", "[32, 0]")),
    Hostile("overflow", tensors(Tensor("t", (1 << 32, 1 << 32))), ("'t'", str(1 << 32))),
    Hostile("largest", tensors(Tensor("t", ((1 << 64) - 1,) * 4)), ("impossible shape",)),
    Hostile("blocks", tensors(Tensor("t", (255, 2), 12)), ("rows of 255", "Q4_K", "of 256")),
    Hostile("name text", tensors(Tensor(b"\x80", (1,))), ("tensor 0 of 1", "not UTF-8")),
    Hostile("long name", tensors(Tensor("n" * 65_537, (1,))), ("65537 bytes",)),
    Hostile("twice", tensors(*ONE_TENSOR, *ONE_TENSOR), ("'t' occurs twice",)),
    Hostile(
        "overlap",
        tensors(Tensor("a", (16,), data=b"a" * 64), Tensor("b", (8,), data=b"b" * 32, offset=32)),
        ("'b' at data offset 32 overlaps tensor 'a'", "ends at 64"),
    ),
    Hostile(
        "same place", tensors(*ONE_TENSOR, Tensor("b", (8,), data=b"b", offset=0)), ("overlaps",)
    ),
    Hostile("unaligned", tensors(Tensor("t", (8,), offset=33)), ("offset 33", "32 bytes")),
    Hostile("offset", tensors(Tensor("t", (8,), offset=HUGE)), (str(HUGE), "beyond the end")),
]
FORMATS = [
    Hostile(str(number), typed(number), ("'blk.3.x'", f"type {number},", name, "Q4_K, "), error)
    for error in (UnsupportedModel,)
    for number, name in (
        (4, "Q4_2"),
        (9, "Q8_1"),
        (26, "I32"),
        (28, "F64"),
        (40, "NVFP4"),
        (41, "Q1_0"),
        (137, "IQ2_K"),
        (202, "row-interleaved"),
        (1 << 31, "not known"),
    )
]
ALL = COUNTS + VALUES + TABLE + FORMATS


@pytest.mark.parametrize("hostile", ALL, ids=lambda hostile: hostile.name)
def test_hostile_file_is_one_error_with_field_and_numbers(tmp_path: Path, hostile: Hostile) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(hostile.content)
    with pytest.raises(hostile.error) as caught:
        GgufFile.open(path)
    block = str(caught.value)
    assert str(path) in block
    assert all(word in block for word in hostile.words), block
    assert caught.value.remedies


@pytest.mark.parametrize("hostile", COUNTS, ids=lambda hostile: hostile.name)
def test_absurd_count_costs_neither_memory_nor_time(tmp_path: Path, hostile: Hostile) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(hostile.content)

    def refused() -> None:
        with pytest.raises(GgufError):
            GgufFile.open(path)

    tracemalloc.start()
    computed_within(1, refused)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 1 << 20


def test_count_that_weights_could_satisfy_stops_at_the_header_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a large file a damaged count finds bytes enough; they must not all become a list."""
    monkeypatch.setattr(cursor_module, "HEADER_LIMIT_BYTES", 1 << 16)
    path = tmp_path / "model.gguf"
    path.write_bytes(one_key("k", ARRAY, array_head(U8, 1 << 20)) + b"\1" * (1 << 20))
    with pytest.raises(GgufError, match=r"'k' is 1048576, .*") as caught:
        GgufFile.open(path)
    assert "headers are read up to 65536 bytes" in str(caught.value)


def test_names_from_the_file_reach_the_terminal_escaped_and_short(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(tensors(Tensor("\x1b[2J" + "n" * 60_000, (0,))))
    with pytest.raises(GgufError) as caught:
        GgufFile.open(path)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_file_cut_at_any_byte_of_its_header_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    assert all(fault(path, SAMPLE[:length]) for length in range(HEADER_END))
    assert not any(fault(path, SAMPLE[:length]) for length in range(HEADER_END, len(SAMPLE) + 1))


def fault(path: Path, content: bytes) -> HybridError | None:
    """The error that a file ends in, None when it opens and all its data can be looked at."""
    path.write_bytes(content)
    try:
        with GgufFile.open(path) as file:
            if file.data_bytes_present:
                for tensor in file.tensors.values():
                    assert len(file.data(tensor)) == tensor.nbytes
    except (GgufError, UnsupportedModel) as error:
        return error
    return None


def opens_or_says_why(path: Path, content: bytes) -> None:
    error = fault(path, content)
    if error is not None:
        assert error.remedies
        assert path.name in str(error) or "parts of the model are missing" in str(error)


@settings(
    max_examples=600, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, HEADER_BYTES - 1), st.integers(0, 255)), min_size=1, max_size=6
    )
)
def test_changed_bytes_never_end_in_anything_but_our_errors(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(SAMPLE)
    for position, byte in changes:
        content[position] = byte
    opens_or_says_why(tmp_path / "model.gguf", bytes(content))


@settings(
    max_examples=400, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    position=st.integers(4, HEADER_BYTES - 8),
    number=st.sampled_from([0, 1, 255, 1 << 31, (1 << 32) - 1, HUGE, 1 << 63, (1 << 64) - 1]),
    width=st.sampled_from(["<I", "<Q"]),
    keep=st.integers(0, len(SAMPLE)),
)
def test_absurd_numbers_anywhere_in_a_cut_file_end_in_our_errors(
    tmp_path: Path, position: int, number: int, width: str, keep: int
) -> None:
    content = bytearray(SAMPLE)
    struct.pack_into(width, content, position, number & ((1 << 8 * struct.calcsize(width)) - 1))
    opens_or_says_why(tmp_path / "model.gguf", bytes(content[: max(keep, HEADER_BYTES)]))
    opens_or_says_why(tmp_path / "model.gguf", bytes(content[:keep]))


@settings(
    max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tail=st.binary(max_size=300), tensor_count=st.integers(0, 3), key_count=st.integers(0, 3))
def test_random_bytes_behind_a_good_magic_end_in_our_errors(
    tmp_path: Path, tail: bytes, tensor_count: int, key_count: int
) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, tensor_count, key_count)
    opens_or_says_why(tmp_path / "model.gguf", head + tail)
