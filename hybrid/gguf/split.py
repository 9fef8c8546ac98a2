"""Models split into files `<prefix>-00001-of-00004.gguf`; metadata in the first, tables in each."""

import re
from collections.abc import Sequence
from pathlib import Path

from hybrid.errors import GgufError
from hybrid.gguf.faults import corrupt, quoted
from hybrid.gguf.header import Header
from hybrid.gguf.table import GgufTensor

_NAME = re.compile(r"(.*)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_SHOWN_MISSING = 3


def part_paths(path: Path, header: Header) -> tuple[Path, ...]:
    """All parts in order, found from any of them. GgufError for a missing or misnamed part."""
    if header.parts == 1:
        return (path,)
    match = _NAME.fullmatch(path.name)
    number = header.part + 1
    expected = f"<prefix>-{number:05d}-of-{header.parts:05d}.gguf"
    if not match or (int(match[2]), int(match[3])) != (number, header.parts):
        raise GgufError(
            f"{path} is part {number} of {header.parts} by its metadata, but not by its name",
            remedy=f"give all parts their names again; this one is {expected}",
        )
    paths = tuple(
        path.with_name(f"{match[1]}-{part:05d}-of-{header.parts:05d}.gguf")
        for part in range(1, header.parts + 1)
    )
    missing = [part for part in paths if not part.exists()]
    if missing:
        raise GgufError(
            f"{len(missing)} of {header.parts} parts of the model are missing",
            *(str(part) for part in missing[:_SHOWN_MISSING]),
            remedy=f"put all parts into the folder {path.parent}",
        )
    return paths


def check_part(path: Path, header: Header, part: int, parts: int) -> None:
    """Raises GgufError when the file at place `part` of `parts` says it is another."""
    if (header.part, header.parts) != (part, parts):
        raise GgufError(
            f"{path} is part {header.part + 1} of {header.parts} by its metadata",
            f"its name says part {part + 1} of {parts}",
            remedy="give all parts their names again, or fetch them again",
        )


def joined_tensors(paths: Sequence[Path], headers: Sequence[Header]) -> dict[str, GgufTensor]:
    """One table of all parts in order. GgufError for a duplicate name or a count that differs."""
    tensors: dict[str, GgufTensor] = {}
    for path, header in zip(paths, headers, strict=True):
        for tensor in header.tensors:
            if tensor.name in tensors:
                other = paths[tensors[tensor.name].part].name
                raise corrupt(path, f"tensor {quoted(tensor.name)} occurs also in {other}")
            tensors[tensor.name] = tensor
    if len(headers) > 1:
        for path, header in zip(paths, headers, strict=True):
            count = header.metadata.get_int("split.tensors.count", len(tensors))
            if count != len(tensors):
                raise corrupt(
                    path,
                    f"split.tensors.count is {count}, the {len(paths)} parts hold {len(tensors)}",
                    remedy="fetch all parts again, from one and the same publication",
                )
    return tensors
