"""Compare the tokenizer with stored results of llama.cpp, case by case, and print a table.

    python tools/conformance_vocab.py ../shared/conformance/vocab

A folder holds `goldens.json` (strings and, per vocabulary, their ids) and the vocabularies as GGUF
files without tensors: `wild3k-NAME.gguf`, and `ggml-vocab-NAME.gguf` with published texts (.inp)
and ids (.out). A row's cases are all of: ids of every string with special tokens, ids of the last
strings without, bytes of the first ids decoded, and the published texts.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hybrid.tokenizer.tokenizer import Tokenizer

_SEPARATOR = "\n__ggml_vocab_test__\n"


@dataclass(frozen=True)
class Row:
    """Result of one vocabulary.

    name              the pre-type, or "file:NAME" for a published vocabulary
    cases, equal      how many were compared and how many agree exactly
    differing         the strings whose ids, or bytes, differ
    first_different   "" or one line: the string, what was expected, what came
    """

    name: str
    cases: int
    equal: int
    differing: tuple[str, ...]
    first_different: str


def check(vocab_folder: Path, conventions: str = "llama.cpp") -> list[Row]:
    """One row per vocabulary of the folder, in the order of its goldens."""
    goldens = json.loads((vocab_folder / "goldens.json").read_text(encoding="utf-8"))
    return [_row(vocab_folder, goldens, name, conventions) for name in goldens["ids"]]


@lru_cache
def open_vocabulary(path: Path) -> SimpleNamespace:
    """Path and metadata of a GGUF file, read with the format's reference reader, which is slow."""
    reader = gguf.GGUFReader(path)
    return SimpleNamespace(
        path=path, metadata={key: field.contents() for key, field in reader.fields.items()}
    )


def _row(folder: Path, goldens: dict[str, Any], name: str, conventions: str) -> Row:
    published = name.removeprefix("file:")
    stem = f"wild3k-{name}" if name == published else f"ggml-vocab-{published}"
    path = folder / f"{stem}.gguf"
    tokenizer = Tokenizer.from_gguf(open_vocabulary(path), conventions=conventions)
    cases = [*_stored_cases(tokenizer, goldens, name), *_published_cases(tokenizer, path)]
    different = [case for case in cases if case[1] != case[2]]
    first = "{!r}: expected {}, got {}".format(*different[0]) if different else ""
    return Row(
        name,
        len(cases),
        len(cases) - len(different),
        tuple(dict.fromkeys(case[0] for case in different)),
        first,
    )


def _stored_cases(
    tokenizer: Tokenizer, goldens: dict[str, Any], name: str
) -> Iterator[tuple[str, Any, Any]]:
    """(string, expected, got) for ids with specials, ids without, and decoded bytes."""
    strings, ids = goldens["strings"], goldens["ids"][name]
    for text, expected in zip(strings, ids, strict=True):
        yield text, expected, tokenizer.encode(text, parse_special=True)
    decoded = goldens["decoded_hex"].get(name, [])
    for text, tokens, expected in zip(strings, ids, decoded, strict=False):
        yield text, expected, tokenizer.decode_bytes(tokens, render_special=True).hex()
    plain = goldens["ids_nospecial"].get(name, [])
    tail = strings[len(decoded) - len(plain) : len(decoded)]
    for text, expected in zip(tail, plain, strict=True):
        yield text, expected, tokenizer.encode(text, add_special=False)


def _published_cases(tokenizer: Tokenizer, path: Path) -> Iterator[tuple[str, Any, Any]]:
    texts, ids = Path(f"{path}.inp"), Path(f"{path}.out")
    if not texts.exists():
        return
    with texts.open(encoding="utf-8", newline="") as stream:
        strings = stream.read().split(_SEPARATOR)
    expected = [[int(word) for word in line.split()] for line in ids.read_text().split("\n")[:-1]]
    for text, tokens in zip(strings, expected, strict=False):
        yield text, tokens, tokenizer.encode(text, add_special=False)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not (Path(arguments[0]) / "goldens.json").is_file():
        print("usage: conformance_vocab.py FOLDER, a folder with goldens.json", file=sys.stderr)
        return 2
    rows = check(Path(arguments[0]))
    for row in rows:
        print(f"{row.name:22} {row.equal:4} of {row.cases:4} equal  {row.first_different}")
    return 0 if all(row.equal == row.cases for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
