import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TokenizerError
from hybrid.tokenizer.sentencepiece import byte_value
from hybrid.tokenizer.tokenizer import Tokenizer

BLANK = "\u2581"
WORDS = [
    "a",
    "b",
    "c",
    BLANK,
    "ab",
    "bc",
    "abc",
    f"{BLANK}a",
    f"{BLANK}b",
    "ca",
    "aa",
    f"{BLANK}{BLANK}",
]
SPECIAL = ["<unk>", "<s>", "</s>", "<note>"]


def vocabulary(**changes: Any) -> dict[str, Any]:
    chooser = random.Random(7)
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    ggml = {
        "model": "llama",
        "tokens": tokens,
        "token_type": [2, 3, 3, 4] + [6] * 256 + [1] * len(WORDS),
        "scores": [0.0] * 260 + [-float(chooser.randint(1, 6)) for _ in WORDS],
        **changes,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in ggml.items()}


TOKENIZER = Tokenizer.from_metadata(vocabulary(), "spm.gguf")
PLAIN = Tokenizer.from_metadata(vocabulary(add_space_prefix=False), "spm.gguf")


def merged(text: str) -> list[int]:
    """The definition, slowly: highest score first, leftmost on ties; bytes for what is no token."""
    given = vocabulary()
    tokens, scores = given["tokenizer.ggml.tokens"], given["tokenizer.ggml.scores"]
    ids = {token: number for number, token in enumerate(tokens)}
    symbols = list(text.replace(" ", BLANK))
    while True:
        pairs = [a + b for a, b in zip(symbols, symbols[1:], strict=False)]
        found = [(-scores[ids[pair]], at) for at, pair in enumerate(pairs) if pair in ids]
        if not found:
            break
        _, at = min(found)
        symbols[at : at + 2] = [pairs[at]]
    return [i for s in symbols for i in ([ids[s]] if s in ids else [4 + b for b in s.encode()])]


@given(text=st.text(st.sampled_from("abc \u00e9"), max_size=40))
def test_merging_follows_the_definition(text: str) -> None:
    assert PLAIN.encode(text, add_special=False) == merged(text)


def test_a_blank_is_put_before_the_text_and_after_special_tokens() -> None:
    first = TOKENIZER.encode("a<note>b", add_special=False)
    assert first == [*merged(" a"), 3, *merged(" b")]
    assert TOKENIZER.encode("", add_special=False) == []
    assert TOKENIZER.encode("a") == [1, *merged(" a")]


@given(text=st.text(max_size=30))
def test_decoding_gives_the_text_back(text: str) -> None:
    text = text.replace(BLANK, "")  # the vocabulary's own sign for a blank
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


def test_a_continued_text_keeps_its_blank() -> None:
    ids = TOKENIZER.encode("a", add_special=False)
    assert TOKENIZER.decode(ids) == "a"
    assert TOKENIZER.decode(ids, at_start=False) == " a"
    assert TOKENIZER.stream(at_start=False).push(ids[0]) == " a"
    assert TOKENIZER.decode([1, *ids], render_special=True) == "<s> a"


def test_missing_byte_tokens_become_the_unknown_token() -> None:
    tokens = vocabulary()["tokenizer.ggml.tokens"]
    tokens[4 + 0xC3] = "nothing"
    types = vocabulary()["tokenizer.ggml.token_type"]
    types[4 + 0xC3] = 1
    tokenizer = Tokenizer.from_metadata(vocabulary(tokens=tokens, token_type=types), "a.gguf")
    assert tokenizer.encode("\u00e9", add_special=False)[1:] == [0, 4 + 0xA9]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<0x00>", 0),
        ("<0xfF>", 255),
        ("<0x1>", None),
        ("<0x+1>", None),
        ("<0xGG>", None),
        ("", None),
    ],
)
def test_byte_tokens_are_two_hexadecimal_digits(text: str, value: int | None) -> None:
    assert byte_value(text) == value


def test_a_byte_token_of_another_form_is_an_error() -> None:
    tokens = vocabulary()["tokenizer.ggml.tokens"]
    tokens[9] = "<0xZZ>"
    with pytest.raises(TokenizerError, match="token 9 of a.gguf is marked as a byte"):
        Tokenizer.from_metadata(vocabulary(tokens=tokens), "a.gguf")
