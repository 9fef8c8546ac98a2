"""What a model's files lack of the data that their headers name, in words for who plans with them.

| header | data, there | data, missing |      cut: a download goes on, or was broken off
| header |       data, missing          |      a header alone, in every part: taken for planning, so
                                               that there is nothing to say
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hybrid.gguf.faults import quoted
from hybrid.gguf.reader import GgufFile, GgufTensor
from placement.units import format_bytes

ABOUT_FILE = "file: "  # begins a note that may be true no more when its plan is read again
_SHOWN_PARTS = 3


@dataclass(frozen=True, slots=True)
class PartBytes:
    """Of one file, from its beginning; 0 and 0 for a part without tensors, which lacks nothing.

    data    up to where its first tensor begins
    end     up to where its last tensor ends; padding behind it may be missing
    there   what it has of these
    """

    path: Path
    data: int
    end: int
    there: int


def file_notes(file: GgufFile) -> tuple[str, ...]:
    """One line for a file, or parts of one, with some of the data; none for whole ones and for a
    header alone.
    """
    parts = _parts(file)
    cut = [part for part in parts if part.there < part.end]
    if not cut or not any(part.there > part.data for part in parts):
        return ()
    end, there = sum(part.end for part in cut), sum(part.there for part in cut)
    what, whose = f"{_names(cut)} holds", "its header names"
    if len(cut) > 1:
        what, whose = f"{len(cut)} of {len(parts)} parts ({_names(cut)}) hold", "their headers name"
    refused = "the model until every part is whole" if len(parts) > 1 else "the file"
    return (
        f"{ABOUT_FILE}{what} {format_bytes(there)} of the {format_bytes(end)} that {whose}"
        f" ({format_bytes(end - there)} missing); this plan needs none of them, but `hybrid run`"
        f" refuses {refused}: finish the download",
    )


def without_file_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """Those of a plan that stay true whatever becomes of the file."""
    return tuple(text for text in notes if not text.startswith(ABOUT_FILE))


def _parts(file: GgufFile) -> list[PartBytes]:
    tensors: list[list[GgufTensor]] = [[] for _ in file.paths]
    for tensor in file.tensors.values():
        tensors[tensor.part].append(tensor)
    parts = []
    for path, size, those in zip(file.paths, file.part_bytes, tensors, strict=True):
        end = max((tensor.end for tensor in those), default=0)
        data = min((tensor.offset for tensor in those), default=0)
        parts.append(PartBytes(path, data, end, min(size, end)))
    return parts


def _names(parts: list[PartBytes]) -> str:
    shown = ", ".join(quoted(part.path.name) for part in parts[:_SHOWN_PARTS])
    more = len(parts) - _SHOWN_PARTS
    return f"{shown} and {more} more" if more > 0 else shown
