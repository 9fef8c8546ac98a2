import re
from collections.abc import Callable
from typing import Any

import pytest

from hybrid.errors import TokenizerError
from hybrid.tokenizer.tokenizer import NoVocabulary, Tokenizer
from hybrid.tokenizer.vocabulary import read_vocabulary

Metadata = Callable[..., dict[str, Any]]
SPM = {
    "model": "llama",
    "tokens": ["<unk>", "<s>", "</s>", "a", "\u2581"],
    "token_type": [2, 3, 3, 1, 1],
    "scores": [0.0] * 5,
    "merges": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "add_bos_token": None,
    "add_eos_token": None,
}


@pytest.mark.parametrize(
    "changes", [{"model": "no_vocab"}, {"model": None}, {"tokens": None}, {"tokens": []}]
)
def test_a_file_without_tokens_is_told_apart(metadata: Metadata, changes: dict[str, Any]) -> None:
    changes = {"token_type": None, **changes}
    with pytest.raises(NoVocabulary, match="the file a.gguf carries no vocabulary") as error:
        Tokenizer.from_metadata(metadata(**changes), "a.gguf")
    assert "token ids" in error.value.remedies[0]


def test_an_empty_metadata_is_a_file_without_vocabulary() -> None:
    with pytest.raises(NoVocabulary):
        Tokenizer.from_metadata({}, "a.gguf")


def test_an_unknown_model_lists_the_known_ones(metadata: Metadata) -> None:
    with pytest.raises(TokenizerError, match="unknown tokenizer model 'bert'") as error:
        Tokenizer.from_metadata(metadata(model="bert"), "a.gguf")
    assert "gpt2" in str(error.value)
    assert "llama" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": 7}, "tokenizer.ggml.model of a.gguf.*needs a string, has int"),
        ({"pre": ["x"]}, "tokenizer.ggml.pre.*needs a string, has list"),
        ({"tokens": "abc"}, "tokenizer.ggml.tokens.*needs an array, has str"),
        ({"tokens": ["a", 3]}, "tokenizer.ggml.tokens.*entry 1 is int, needs str"),
        ({"token_type": [1]}, "tokenizer.ggml.token_type.*1 entries for 270 tokens"),
        ({"token_type": ["x"] * 270}, "token_type.*entry 0 is str, needs int"),
        ({"merges": None}, "tokenizer.ggml.merges.*needs an array, has NoneType"),
        ({"merges": ["t h", "the"]}, "merge 1 is 'the', needs 'left right'"),
        ({"merges": ["t "]}, "merge 0 is 't ', needs 'left right'"),
        ({"merges": [" "]}, "merge 0 is ' ', needs 'left right'"),
        ({"merges": [b"t h"]}, "entry 0 is bytes, needs str"),
        ({"bos_token_id": 270}, "bos_token_id.*id 270, but the ids are 0 to 269"),
        ({"eos_token_id": -1}, "eos_token_id.*id -1, but the ids are 0 to 269"),
        ({"eot_token_id": 1 << 40}, "eot_token_id.*id 1099511627776"),
        ({"bos_token_id": "<bos>"}, "bos_token_id.*needs a token id, has '<bos>'"),
        ({"bos_token_id": True}, "bos_token_id.*needs a token id, has True"),
        ({"add_bos_token": "yes"}, "add_bos_token.*needs true or false, has 'yes'"),
        ({"add_eos_token": 2}, "add_eos_token.*needs true or false, has 2"),
        ({"bos_token_id": None}, "add_bos_token.*true, but tokenizer.ggml.bos_token_id is absent"),
        ({**SPM, "scores": None}, "scores.*absent; .* needs one per token, 5"),
        ({**SPM, "scores": [0.0] * 4}, "scores.*4 entries for 5 tokens"),
        ({**SPM, "scores": [float("nan")] * 5}, "scores.*not a number"),
        (
            {**SPM, "token_type": [2, 3, 3, 6, 1]},
            "token 3 of a.gguf is marked as a byte but is 'a'",
        ),
    ],
)
def test_a_broken_vocabulary_names_file_key_and_numbers(
    metadata: Metadata, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(TokenizerError) as error:
        Tokenizer.from_metadata(metadata(**changes), "a.gguf")
    text = " ".join(str(error.value).split())
    assert re.search(words, text), text
    assert error.value.remedies
    assert "a.gguf" in text


def test_two_tokens_with_one_text_are_an_error(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"][5] = "the"
    with pytest.raises(TokenizerError, match="same text") as error:
        Tokenizer.from_metadata(given, "a.gguf")
    assert "'the' is token 5 and token 257" in str(error.value)


def test_a_token_that_is_no_unicode_is_an_error(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"][5] = "a\udc80"
    with pytest.raises(TokenizerError, match="not valid Unicode"):
        Tokenizer.from_metadata(given, "a.gguf")


def test_empty_tokens_are_never_reached(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"] += ["", ""]
    given["tokenizer.ggml.token_type"] += [3, 4]
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.vocabulary_size == 272
    assert max(tokenizer.encode("the note <note>", parse_special=True)) < 270
    assert tokenizer.decode([270, 271], render_special=True) == ""


def test_unknown_conventions_list_the_known_ones(metadata: Metadata) -> None:
    with pytest.raises(TokenizerError, match="unknown conventions 'mine'") as error:
        Tokenizer.from_metadata(metadata(), "a.gguf", conventions="mine")
    assert "trained, llama.cpp" in str(error.value)


def test_absent_ids_of_byte_level_bpe_are_none_or_as_in_llama_cpp(metadata: Metadata) -> None:
    given = metadata(bos_token_id=None, eos_token_id=None, add_bos_token=None)
    trained = read_vocabulary(given, "a.gguf", "trained")
    assert (trained.bos_id, trained.eos_id, trained.add_bos) == (None, None, False)
    assert trained.stop_ids == {265, 266}  # by their texts
    like = read_vocabulary(given, "a.gguf", "llama.cpp")
    assert (like.bos_id, like.eos_id, like.add_bos) == (11, 11, False)


def test_absent_keys_of_sentencepiece_have_its_defaults(metadata: Metadata) -> None:
    vocabulary = read_vocabulary(metadata(**SPM), "a.gguf", "trained")
    assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.unknown_id) == (1, 2, 0)
    assert (vocabulary.add_bos, vocabulary.add_eos, vocabulary.space_prefix) == (True, False, True)


def test_the_llama_3_family_starts_with_bos_unless_the_file_says_no(metadata: Metadata) -> None:
    silent = {"pre": "llama-v3", "add_bos_token": None}
    assert Tokenizer.from_metadata(metadata(**silent), "a.gguf").add_bos
    assert not Tokenizer.from_metadata(metadata(pre="llama-v3", add_bos_token=False), "a").add_bos
    assert not Tokenizer.from_metadata(metadata(pre="glm4", add_bos_token=None), "a").add_bos


def test_stop_ids_are_the_named_ids_and_the_known_texts(metadata: Metadata) -> None:
    tokenizer = Tokenizer.from_metadata(metadata(eot_token_id=3, fim_pad_token_id=4), "a.gguf")
    assert tokenizer.stop_ids == {265, 266, 3, 4}


def test_end_of_message_does_not_stop_where_return_and_call_exist(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"] += ["<|return|>", "<|call|>"]
    given["tokenizer.ggml.token_type"] += [3, 3]
    assert Tokenizer.from_metadata(given, "a.gguf").stop_ids == {265, 270, 271}


def test_a_stop_text_typed_as_normal_is_a_control_token(metadata: Metadata) -> None:
    given = metadata()
    given["tokenizer.ggml.tokens"] += ["<|im_end|>"]
    given["tokenizer.ggml.token_type"] += [1]
    tokenizer = Tokenizer.from_metadata(given, "a.gguf")
    assert tokenizer.encode("<|im_end|>", add_special=False, parse_special=True) == [270]
    assert tokenizer.decode([270]) == ""
    assert given["tokenizer.ggml.token_type"][-1] == 1
