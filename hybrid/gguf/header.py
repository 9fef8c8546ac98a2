"""The header of one file: magic, version, counts, metadata, tensor table."""

from dataclasses import dataclass
from pathlib import Path

from hybrid.errors import GgufError
from hybrid.gguf.cursor import Cursor
from hybrid.gguf.faults import corrupt
from hybrid.gguf.metadata import Metadata, check_metadata_count, read_metadata
from hybrid.gguf.source import Source
from hybrid.gguf.table import GgufTensor, check_tensor_count, read_tensors

MAGIC = b"GGUF"
VERSIONS = (2, 3)
_ALIGNMENT = 32
_ALIGNMENT_LIMIT = 1 << 31
_SPLIT_LIMIT = 99_999  # five digits in a file name
_FIND_GGUF = "give a GGUF file; publishers name them *.gguf"

# First bytes of what people give by mistake.
_MISTAKEN = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself: git lfs pull"),
    (b"<!DOCTYPE", "a web page", "download the file itself, not the page that shows it"),
    (b"<html", "a web page", "download the file itself, not the page that shows it"),
    (b"PK\x03\x04", "a zip archive or PyTorch checkpoint", _FIND_GGUF),
    (b"tjgg", "a GGML file from before GGUF", "use a newer conversion of the model"),
    (b"fmgg", "a GGML file from before GGUF", "use a newer conversion of the model"),
    (b"lmgg", "a GGML file from before GGUF", "use a newer conversion of the model"),
)


@dataclass(frozen=True, slots=True)
class Header:
    """What one file says of itself.

    part     index of this file among the parts of a model, from 0
    parts    number of files the model is split into, 1 when it is not
    """

    version: int
    alignment: int
    metadata: Metadata
    tensors: tuple[GgufTensor, ...]
    part: int
    parts: int


def read_header(source: Source) -> Header:
    """Raises GgufError for anything but a sound little-endian GGUF of version 2 or 3."""
    cursor = Cursor(source)
    _check_magic(cursor, source)
    version = _version(cursor)
    tensor_count = check_tensor_count(cursor)
    metadata = read_metadata(cursor, check_metadata_count(cursor))
    alignment = _read_alignment(source.path, metadata)
    parts = _in_range(source.path, metadata, "split.count", 1, _SPLIT_LIMIT)
    part = _in_range(source.path, metadata, "split.no", 0, parts - 1) if parts > 1 else 0
    tensors = read_tensors(cursor, tensor_count, alignment, part, source.nbytes)
    return Header(version, alignment, metadata, tensors, part, max(parts, 1))


def _check_magic(cursor: Cursor, source: Source) -> None:
    head = bytearray(min(source.nbytes, 64))
    source.read(0, memoryview(head))
    if head.startswith(MAGIC):
        cursor.take(len(MAGIC), "the magic")
        return
    for start, kind, remedy in _MISTAKEN:
        if head.startswith(start):
            raise GgufError(f"{source.path} is {kind}, not a GGUF file", remedy=remedy)
    if head[8:10] == b'{"':
        raise GgufError(f"{source.path} is a safetensors file, not GGUF", remedy=_FIND_GGUF)
    raise GgufError(
        f"{source.path} is not a GGUF file",
        f"it starts with {bytes(head[:8])!r}, not {MAGIC!r}",
        remedy=_FIND_GGUF,
    )


def _version(cursor: Cursor) -> int:
    version = cursor.u32("the version")
    if version in VERSIONS:
        return version
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in (1, *VERSIONS):
        raise GgufError(
            f"{cursor.path} is a big-endian GGUF (version {swapped}); little-endian ones are read",
            remedy=f"convert it: gguf-convert-endian {cursor.path} little",
        )
    if version == 1:
        remedy = "use a newer conversion of the model, or rewrite it with llama-quantize of 2023"
        raise GgufError(
            f"{cursor.path} is GGUF version 1; versions 2 and 3 are read", remedy=remedy
        )
    raise GgufError(
        f"{cursor.path} says it is GGUF version {version}; versions 2 and 3 are read",
        remedy="fetch the file again, or update this program if the file is newer than it",
    )


def _read_alignment(path: Path, metadata: Metadata) -> int:
    alignment = metadata.get_int("general.alignment", _ALIGNMENT)
    if not 0 < alignment <= _ALIGNMENT_LIMIT or alignment & (alignment - 1):
        raise corrupt(path, f"general.alignment is {alignment}, not a power of two")
    return alignment


def _in_range(path: Path, metadata: Metadata, key: str, least: int, most: int) -> int:
    """A key of the split; an absent count is one file, an absent number of several is an error."""
    if key == "split.count" and not metadata.get_int(key, 0):
        return 1
    value = metadata.get_int(key)
    if not least <= value <= most:
        raise corrupt(path, f"{key} is {value}; {least} to {most} are possible")
    return value
