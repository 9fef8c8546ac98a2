import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.errors import TokenizerError
from hybrid.tokenizer.tokenizer import Tokenizer
from tests.cpu_time import computed_within

Metadata = Callable[..., dict[str, Any]]
BOS, EOS, END, NOTE, TWO_NOTES, UNK = range(264, 270)  # the special tokens of the small vocabulary


def test_bos_is_put_before_a_text_and_eos_only_where_asked_for(
    small: Tokenizer, metadata: Metadata
) -> None:
    assert small.encode("a") == [BOS, ord("a")]
    assert small.encode("a", add_special=False) == [ord("a")]
    assert small.encode("") == [BOS]
    both = Tokenizer.from_metadata(metadata(add_eos_token=True), "a.gguf")
    assert both.encode("a") == [BOS, ord("a"), EOS]


def test_control_texts_are_tokens_only_where_parsed(small: Tokenizer) -> None:
    assert small.encode("a<|end|>", add_special=False, parse_special=True) == [ord("a"), END]
    assert END not in small.encode("a<|end|>")
    assert UNK in small.encode("<unk>", parse_special=True)
    assert UNK not in small.encode("<unk>")


def test_user_defined_texts_are_always_cut_the_longest_first(small: Tokenizer) -> None:
    assert small.encode("<note><note><note>", add_special=False) == [TWO_NOTES, NOTE]


def test_the_longer_of_two_overlapping_specials_wins_wherever_it_starts(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"] += ["[ab", "bcde]"]
    given["tokenizer.ggml.token_type"] += [4, 4]
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.encode("[abcde]", add_special=False) == [ord("["), ord("a"), 271]


def test_length_of_a_special_is_counted_in_bytes(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"] += ["xyzw", "w\uff5c\uff5c"]
    given["tokenizer.ggml.token_type"] += [4, 4]
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.encode("xyzw\uff5c\uff5c", add_special=False) == [*b"xyz", 271]


def test_words_of_the_vocabulary_are_merged(small: Tokenizer) -> None:
    assert small.encode("the the", add_special=False) == [257, 258]


@given(text=st.text())
def test_decoding_gives_the_text_back(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == text


@given(text=st.text(st.sampled_from(" \n'sTe1\u3000\u4f60\u0301\U0001f600<>|/"), max_size=60))
def test_a_trained_vocabulary_gives_the_text_back(demo: Tokenizer, text: str) -> None:
    assert demo.decode(demo.encode(text)) == text


def test_control_tokens_are_written_only_where_asked_for(small: Tokenizer) -> None:
    ids = [BOS, ord("a"), NOTE, UNK, END]
    assert small.decode(ids) == "a<note>"
    assert small.decode(ids, render_special=True) == "<bos>a<note><unk><|end|>"
    assert small.decode_bytes(ids) == b"a<note>"


def test_unused_tokens_are_nothing(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.token_type"][257] = 5
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.decode([257, ord("a")], render_special=True) == "a"


def test_invalid_utf_8_is_replaced(small: Tokenizer) -> None:
    smiley = small.encode("\U0001f600", add_special=False)
    assert len(smiley) == 2
    assert small.decode(smiley) == "\U0001f600"
    assert small.decode(smiley[:1]) == "\ufffd"
    assert small.decode_bytes(smiley[:1]) == b"\xf0\x9f\x98"


@pytest.mark.parametrize("token_id", [-1, 270, 1 << 70])
def test_an_id_outside_the_vocabulary_is_an_error(small: Tokenizer, token_id: int) -> None:
    for decode in (small.decode, small.decode_bytes, lambda ids: small.stream().push(ids[0])):
        with pytest.raises(TokenizerError, match=f"token id {token_id} does not exist") as error:
            decode([token_id])
        assert "ids 0 to 269" in str(error.value)


def test_numpy_ids_are_ids(small: Tokenizer) -> None:
    assert small.decode(np.array([257, 258], dtype=np.int32)) == "the the"


@pytest.mark.parametrize(("text", "place"), [("a\ud800", "character 1"), ("\udc80", "character 0")])
def test_a_lone_surrogate_is_an_error(small: Tokenizer, text: str, place: str) -> None:
    with pytest.raises(TokenizerError, match="not valid Unicode") as error:
        small.encode(text)
    assert place in str(error.value)


def test_a_megabyte_without_a_blank_is_an_error(small: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="too long to be cut into words") as error:
        small.encode("a b " + "x" * 1_000_000)
    assert "from character 4 on" in str(error.value)
    with pytest.raises(TokenizerError, match="too long"):
        small.encode(" " * 1_000_000)


def test_token_texts_and_ids_can_be_looked_up(small: Tokenizer) -> None:
    assert small.token_id("<|end|>") == END
    assert small.token_id("nothing") is None
    assert small.token_text(END) == "<|end|>"
    assert small.token_text(None) == ""


def test_two_hundred_kilobytes_are_encoded_well_under_a_second(demo: Tokenizer) -> None:
    chooser = random.Random(1)
    text = demo.decode(chooser.choices(range(300, demo.vocabulary_size), k=50_000))
    assert len(text) > 200_000
    computed_within(1.0, lambda: demo.encode(text, parse_special=True))


def test_a_vocabulary_of_deepseek_v3s_size_is_built_in_about_a_second() -> None:
    letters = [chr(code) for code in range(0xAE, 0x100)]
    pairs = [a + b for a in letters for b in letters]
    triples = [pair + c for pair in pairs for c in letters][: 127_741 - len(pairs)]
    tokens = [*letters, *pairs, *triples]
    tokens += [f"<|{n}|>" for n in range(129_280 - len(tokens))]
    merges = [f"{text[:-1]} {text[-1]}" for text in [*pairs, *triples]]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "deepseek-v3",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": merges,
    }
    tokenizer = computed_within(2.0, lambda: Tokenizer.from_metadata(metadata, "large.gguf"))
    assert (tokenizer.vocabulary_size, len(merges)) == (129_280, 127_741)
