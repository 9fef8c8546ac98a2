"""GGUF bytes for tests, able to write wrong things: any count, type, offset and text."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
NUMBERS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f"}
NUMBERS |= {BOOL: "?", U64: "Q", I64: "q", F64: "d"}
F32_TENSOR, Q8_0_TENSOR, Q4_K_TENSOR = 0, 8, 12


@dataclass(frozen=True)
class Key:
    """One pair. An array's value is (element type, list); bytes are written as they are."""

    name: str | bytes
    kind: int
    value: Any


@dataclass(frozen=True)
class Tensor:
    """One tensor; `offset` None packs it behind the one before."""

    name: str | bytes
    ne: tuple[int, ...]
    kind: int = F32_TENSOR
    data: bytes = b""
    offset: int | None = None
    dimensions: int | None = None


@dataclass(frozen=True)
class Counts:
    """What the header claims; None for the truth."""

    version: int = 3
    tensors: int | None = None
    keys: int | None = None
    magic: bytes = field(default=b"GGUF")


TRUE_COUNTS = Counts()


def gguf_bytes(
    keys: Sequence[Key] = (),
    tensors: Sequence[Tensor] = (),
    alignment: int = 32,
    counts: Counts = TRUE_COUNTS,
) -> bytes:
    """A whole file. `alignment` pads the data and is not written as a key."""
    tensor_count = len(tensors) if counts.tensors is None else counts.tensors
    key_count = len(keys) if counts.keys is None else counts.keys
    parts = [counts.magic, struct.pack("<IQQ", counts.version, tensor_count, key_count)]
    parts += [text(key.name) + struct.pack("<I", key.kind) + value(key) for key in keys]
    data, entries = b"", []
    for tensor in tensors:
        offset = len(data) if tensor.offset is None else tensor.offset
        entries.append(entry(tensor, offset))
        data += padded(tensor.data, alignment)
    return padded(b"".join(parts + entries), alignment) + data


def text(content: str | bytes) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(raw)) + raw


def value(key: Key) -> bytes:
    return key.value if isinstance(key.value, bytes) else encoded(key.kind, key.value)


def encoded(kind: int, content: Any) -> bytes:
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        element, values = content
        head = struct.pack("<IQ", element, len(values))
        if element in NUMBERS:
            return head + struct.pack(f"<{len(values)}{NUMBERS[element]}", *values)
        return head + b"".join(encoded(element, each) for each in values)
    return struct.pack(f"<{NUMBERS[kind]}", content)


def entry(tensor: Tensor, offset: int) -> bytes:
    dimensions = len(tensor.ne) if tensor.dimensions is None else tensor.dimensions
    shape = struct.pack(f"<I{len(tensor.ne)}Q", dimensions, *tensor.ne)
    return text(tensor.name) + shape + struct.pack("<IQ", tensor.kind, offset)


def padded(content: bytes, alignment: int) -> bytes:
    return content + b"\0" * (-len(content) % alignment)


def sample_keys() -> list[Key]:
    """A small model's keys, each value type once."""
    return [
        Key("general.architecture", STRING, "deepseek2"),
        Key("general.name", STRING, "sample"),
        Key("a.u8", U8, 200),
        Key("a.i8", I8, -100),
        Key("a.u16", U16, 60000),
        Key("a.i16", I16, -30000),
        Key("a.u32", U32, 4_000_000_000),
        Key("a.i32", I32, -2_000_000_000),
        Key("a.f32", F32, 0.5),
        Key("a.bool", BOOL, True),
        Key("a.u64", U64, 1 << 63),
        Key("a.i64", I64, -(1 << 62)),
        Key("a.f64", F64, 1e300),
        Key("a.tokens", ARRAY, (STRING, ["a", "", "Ġ東京", "\U0001f600"])),
        Key("a.scores", ARRAY, (F32, [0.0, -1.5, 2.25])),
        Key("a.types", ARRAY, (I32, [1, -2, 3])),
        Key("a.flags", ARRAY, (BOOL, [True, False])),
        Key("a.nested", ARRAY, (ARRAY, [(U16, [1, 2]), (STRING, ["x"]), (U8, [])])),
    ]


def sample_tensors() -> list[Tensor]:
    """Three tensors with bytes that tell them apart."""
    return [
        Tensor("token_embd.weight", (32, 5), Q8_0_TENSOR, bytes(range(170))),
        Tensor("output_norm.weight", (7,), F32_TENSOR, b"n" * 28),
        Tensor("blk.0.ffn_up_exps.weight", (256, 2, 3), Q4_K_TENSOR, b"e" * (144 * 6)),
    ]
