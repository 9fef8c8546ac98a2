from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Regex, pre_tokenizers

from hybrid.errors import TokenizerError
from hybrid.tokenizer.pretokenizers import CONVENTIONS, PRE_TOKENIZERS, pre_tokenizer
from hybrid.tokenizer.tokenizer import Tokenizer
from tests.cpu_time import computed_within

REQUIRED = (
    "deepseek-llm deepseek-coder deepseek-v3 deepseek-r1-qwen gpt-2 phi-2 mpt olmo jais llama-bpe "
    "llama3 llama-v3 qwen2 smollm starcoder refact command-r codeshell exaone glm4 chatglm-bpe "
    "gpt-4o kimi-k2 default"
)


def pieces(name: str, text: str, conventions: str = "trained") -> list[str]:
    splits = [
        pre_tokenizers.Split(Regex(pattern), behavior="isolated")
        for pattern in PRE_TOKENIZERS[name].following(conventions)
    ]
    return [piece for piece, _ in pre_tokenizers.Sequence(splits).pre_tokenize_str(text)]


def test_every_required_pre_type_is_known() -> None:
    assert set(REQUIRED.split()) <= set(PRE_TOKENIZERS)


def test_an_unknown_pre_tokenizer_lists_the_known_ones() -> None:
    with pytest.raises(TokenizerError, match="unknown pre-tokenizer 'nonsense' in a.gguf") as error:
        pre_tokenizer("nonsense", "a.gguf")
    assert all(name in str(error.value) for name in PRE_TOKENIZERS)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt-2", "I'm  here 123!", ["I", "'m", " ", " here", " 123", "!"]),
        ("gpt-2", "I'M", ["I", "'", "M"]),
        ("smollm", "a 123", ["a", " ", "1", "2", "3"]),
        ("llama-bpe", "I'M 1234!\n", ["I", "'M", " ", "123", "4", "!\n"]),
        ("glm4", "12345", ["123", "45"]),
        ("qwen2", "12345", ["1", "2", "3", "4", "5"]),
        ("deepseek-v3", "x=1234 你好のカ", ["x", "=", "123", "4", " ", "你好のカ"]),
        ("deepseek-v3", "(foo) e\u0301a", ["(foo", ")", " e\u0301a"]),
        ("deepseek-llm", "a b\n 12  ", ["a", " b", "\n", " ", "12", "  "]),
        ("deepseek-llm", "na\u00efve", ["na", "\u00ef", "ve"]),
        ("deepseek-coder", " x() 42", [" x", "()", " ", "4", "2"]),
        ("kimi-k2", "camelCase 你好a", ["camel", "Case", " ", "你好", "a"]),
        ("gpt-4o", "camelCase's/\n", ["camel", "Case's", "/\n"]),
        ("gpt-4o", "\u043f\u0440\u0418\u0432", ["\u043f\u0440", "\u0418\u0432"]),
        ("default", "a, b1234", ["a", ",", " b", "123", "4"]),
    ],
)
def test_text_is_cut_as_the_pre_type_says(name: str, text: str, expected: list[str]) -> None:
    assert pieces(name, text) == expected


def test_llama_cpp_takes_foreign_white_space_out_of_the_written_classes() -> None:
    assert pieces("deepseek-llm", "\u3001\u3000\u3001") == ["\u3001\u3000\u3001"]
    assert pieces("deepseek-llm", "\u3001\u3000\u3001", "llama.cpp") == [
        "\u3001",
        "\u3000",
        "\u3001",
    ]


def test_llama_cpp_knows_no_case_and_no_marks_in_kimi_k2() -> None:
    assert pieces("kimi-k2", "camelCase", "llama.cpp") == ["camelCase"]
    assert pieces("kimi-k2", "a\u0301b") == ["a\u0301b"]
    assert pieces("kimi-k2", "a\u0301b", "llama.cpp") == ["a", "\u0301b"]


def test_llama_cpp_sees_only_ascii_case_in_gpt_4o() -> None:
    assert pieces("gpt-4o", "\u043f\u0440\u0418\u0432", "llama.cpp") == ["\u043f\u0440\u0418\u0432"]
    assert pieces("gpt-4o", "camelCase", "llama.cpp") == ["camel", "Case"]


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
@pytest.mark.parametrize("conventions", CONVENTIONS)
def test_pieces_join_to_the_text(name: str, conventions: str) -> None:
    text = " a\r\n\n  \u3000b's I'LL 12 345,\u3002\u4f60\u597d e\u0301 \U0001f600 _x_ \x01\x0b  "
    assert "".join(pieces(name, text, conventions)) == text


@pytest.mark.parametrize("name", sorted(PRE_TOKENIZERS))
@pytest.mark.parametrize("text", [" ", "\n", " \n", "a", "A", "!", "1", "\x01", "\u4f60", "\u0301"])
def test_long_runs_take_linear_time(
    name: str, text: str, metadata: Callable[..., dict[str, Any]]
) -> None:
    tokenizer = Tokenizer.from_metadata(metadata(pre=name), "small")
    # quadratic: 200 million steps, over a second
    assert computed_within(0.8, lambda: tokenizer.encode(text * 20_000 + "1"))
