"""The tokenizer against stored results of llama.cpp, case by case.

The kit's folder `vocab` holds `goldens.json` (strings and, per vocabulary, their ids) and the
vocabularies as GGUF files without tensors: `wild3k-NAME.gguf`, and `ggml-vocab-NAME.gguf` with
published texts (.inp) and ids (.out). A vocabulary's cases are all of: ids of every string with
special tokens, ids of the last strings without, bytes of the first ids decoded, and the published
texts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hybrid
from hybrid.gguf import GgufFile
from hybrid.tokenizer.tokenizer import Tokenizer
from tools.conformance.rows import Row

_SEPARATOR = "\n__ggml_vocab_test__\n"


@dataclass(frozen=True, slots=True)
class Case:
    """A string, what llama.cpp makes of it and what the tokenizer does: ids, or bytes in hex."""

    text: str
    expected: list[int] | str
    got: list[int] | str

    @property
    def passed(self) -> bool:
        return self.got == self.expected


def check(kit: Path, only: str = "") -> Iterator[Row]:
    """A row per vocabulary whose row name contains `only`; an error of ours is a failed row."""
    goldens = json.loads((kit / "vocab" / "goldens.json").read_text(encoding="utf-8"))
    for name in goldens["ids"]:
        title = f"vocabulary {name}"
        if only not in title:
            continue
        try:
            found = list(cases(kit / "vocab", goldens, name))
        except hybrid.HybridError as error:
            yield Row(title, 1, failed=(error.cause,))
            continue
        different = [case for case in found if not case.passed]
        yield Row(title, len(found), failed=_failed(different))


def cases(
    folder: Path, goldens: dict[str, Any], name: str, conventions: str = "llama.cpp"
) -> Iterator[Case]:
    """Every case of one vocabulary: a pre-type, or "file:NAME" for a published vocabulary."""
    published = name.removeprefix("file:")
    stem = f"wild3k-{name}" if name == published else f"ggml-vocab-{published}"
    path = folder / f"{stem}.gguf"
    with GgufFile.open(path) as file:
        tokenizer = Tokenizer.from_gguf(file, conventions=conventions)
    yield from _stored_cases(tokenizer, goldens, name)
    yield from _published_cases(tokenizer, path)


def _failed(different: list[Case]) -> tuple[str, ...]:
    if not different:
        return ()
    first = different[0]
    return (
        f"{len(different)} differ, the first {first.text!r}: "
        f"expected {first.expected}, got {first.got}",
    )


def _stored_cases(tokenizer: Tokenizer, goldens: dict[str, Any], name: str) -> Iterator[Case]:
    """Ids with specials, ids without, and decoded bytes."""
    strings, ids = goldens["strings"], goldens["ids"][name]
    for text, expected in zip(strings, ids, strict=True):
        yield Case(text, expected, tokenizer.encode(text, parse_special=True))
    decoded = goldens["decoded_hex"].get(name, [])
    for text, tokens, expected in zip(strings, ids, decoded, strict=False):
        got = tokenizer.decode_bytes(tokens, render_special=True).hex()
        yield Case(text, expected, got)
    plain = goldens["ids_nospecial"].get(name, [])
    tail = strings[len(decoded) - len(plain) : len(decoded)]
    for text, expected in zip(tail, plain, strict=True):
        yield Case(text, expected, tokenizer.encode(text, add_special=False))


def _published_cases(tokenizer: Tokenizer, path: Path) -> Iterator[Case]:
    texts, ids = Path(f"{path}.inp"), Path(f"{path}.out")
    if not texts.exists():
        return
    with texts.open(encoding="utf-8", newline="") as stream:
        strings = stream.read().split(_SEPARATOR)
    expected = [[int(word) for word in line.split()] for line in ids.read_text().split("\n")[:-1]]
    for text, tokens in zip(strings, expected, strict=False):
        yield Case(text, tokens, tokenizer.encode(text, add_special=False))
