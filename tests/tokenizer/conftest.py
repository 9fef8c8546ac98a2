"""A small vocabulary as GGUF metadata, for every test of this room."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import pytest

from hybrid.tokenizer.bytelevel import BYTE_CHARACTERS
from hybrid.tokenizer.tokenizer import Tokenizer

WORDS = (
    "th",
    "the",
    "\u0120the",
    "\u0120a",
    "er",
    "\u0120\u0120",
    "\u00f0\u0141",
    "\u00f0\u0141\u013a",
)
MERGES = (
    "t h",
    "th e",
    "\u0120 the",
    "\u0120 a",
    "e r",
    "\u0120 \u0120",
    "\u00f0 \u0141",
    "\u00f0\u0141 \u013a",
)
SPECIAL = {"<bos>": 3, "<eos>": 3, "<|end|>": 3, "<note>": 4, "<note><note>": 4, "<unk>": 2}


def small_vocabulary(**changes: Any) -> dict[str, Any]:
    """256 bytes, eight merged tokens, six special ones; a change to None takes the key away."""
    tokens = [*BYTE_CHARACTERS, *WORDS, *SPECIAL]
    ggml = {
        "model": "gpt2",
        "pre": "deepseek-v3",
        "tokens": tokens,
        "token_type": [1] * (len(BYTE_CHARACTERS) + len(WORDS)) + list(SPECIAL.values()),
        "merges": list(MERGES),
        "bos_token_id": tokens.index("<bos>"),
        "eos_token_id": tokens.index("<eos>"),
        "add_bos_token": True,
        "add_eos_token": False,
        **changes,
    }
    return {f"tokenizer.ggml.{k}": v for k, v in ggml.items() if v is not None}


@pytest.fixture(scope="session")
def metadata() -> Callable[..., dict[str, Any]]:
    return small_vocabulary


@pytest.fixture(scope="session")
def small() -> Tokenizer:
    return Tokenizer.from_metadata(small_vocabulary(), "small.gguf")


@pytest.fixture(scope="session")
def demo_file() -> SimpleNamespace:
    """The packaged model's path and metadata, by the format's reference reader."""
    path = Path(__file__).parents[2] / "hybrid" / "data" / "tiny-tales-q4_k_m.gguf"
    fields = gguf.GGUFReader(path).fields
    return SimpleNamespace(
        path=path, metadata={key: field.contents() for key, field in fields.items()}
    )


@pytest.fixture(scope="session")
def demo(demo_file: SimpleNamespace) -> Tokenizer:
    return Tokenizer.from_gguf(demo_file)
