import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from hybrid.errors import TokenizerError
from hybrid.tokenizer.chat import ChatTemplate
from hybrid.tokenizer.tokenizer import Tokenizer

Metadata = Callable[..., dict[str, Any]]
B, E = "<\uff5cbegin\u2581of\u2581sentence\uff5c>", "<\uff5cend\u2581of\u2581sentence\uff5c>"
USER, ASSISTANT = "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"
KIMI_TOKENS = ["<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "<|im_end|>"]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "<think>hm</think>Two."},
    {"role": "user", "content": "Three?"},
]


@pytest.fixture
def with_tokens(metadata: Metadata) -> Callable[..., tuple[SimpleNamespace, Tokenizer]]:
    """A file without template whose vocabulary has DeepSeek's BOS, EOS and the given texts."""

    def make(*texts: str, pre: str = "deepseek-v3") -> tuple[SimpleNamespace, Tokenizer]:
        given = metadata(pre=pre, bos_token_id=270, eos_token_id=271)
        given["tokenizer.ggml.tokens"] += [B, E, *texts]
        given["tokenizer.ggml.token_type"] += [3] * (2 + len(texts))
        file = SimpleNamespace(path="a.gguf", metadata=given)
        return file, Tokenizer.from_gguf(file)

    return make


def template(text: str, small: Tokenizer) -> ChatTemplate:
    return ChatTemplate(text, small, source="file", where="a template")


@pytest.mark.parametrize(
    ("tokens", "pre", "form", "answered", "opened"),
    [
        (
            [],
            "deepseek-llm",
            "DeepSeek-V2",
            f"{B}Be brief.\n\nUser: One?\n\nAssistant: <think>hm</think>Two.{E}User: Three?\n\n",
            "Assistant:",
        ),
        (
            [USER, ASSISTANT],
            "deepseek-llm",
            "DeepSeek-V2",
            f"{B}Be brief.\n\nUser: One?\n\nAssistant: <think>hm</think>Two.{E}User: Three?\n\n",
            "Assistant:",
        ),
        (
            [USER, ASSISTANT],
            "deepseek-v3",
            "DeepSeek-V3",
            f"{B}Be brief.{USER}One?{ASSISTANT}<think>hm</think>Two.{E}{USER}Three?",
            ASSISTANT,
        ),
        (
            [USER, ASSISTANT, "<think>", "</think>"],
            "deepseek-r1-qwen",
            "DeepSeek-R1",
            f"{B}Be brief.{USER}One?{ASSISTANT}Two.{E}{USER}Three?",
            f"{ASSISTANT}<think>\n",
        ),
        (
            [USER, ASSISTANT, "<think>", "</think>", "<\uff5csearch\u2581begin\uff5c>"],
            "deepseek-v3",
            "DeepSeek-V3.1",
            f"{B}Be brief.{USER}One?{ASSISTANT}</think>Two.{E}{USER}Three?",
            f"{ASSISTANT}</think>",
        ),
        (
            KIMI_TOKENS,
            "kimi-k2",
            "Kimi-K2",
            "<|im_system|>system<|im_middle|>Be brief.<|im_end|>"
            "<|im_user|>user<|im_middle|>One?<|im_end|>"
            "<|im_assistant|>assistant<|im_middle|><think>hm</think>Two.<|im_end|>"
            "<|im_user|>user<|im_middle|>Three?<|im_end|>",
            "<|im_assistant|>assistant<|im_middle|>",
        ),
    ],
)
def test_the_vocabulary_chooses_the_built_in_form(
    with_tokens: Callable[..., tuple[SimpleNamespace, Tokenizer]],
    tokens: list[str],
    pre: str,
    form: str,
    answered: str,
    opened: str,
) -> None:
    chat = ChatTemplate.from_gguf(*with_tokens(*tokens, pre=pre))
    assert (chat.source, chat.where) == ("built-in", f"the built-in {form} chat template")
    assert chat.render(MESSAGES) == answered + opened
    assert chat.render(MESSAGES, add_generation_prompt=False) == answered


def test_v3_1_thinks_where_asked_to(
    with_tokens: Callable[..., tuple[SimpleNamespace, Tokenizer]],
) -> None:
    tokens = (USER, ASSISTANT, "<think>", "</think>", "<\uff5csearch\u2581begin\uff5c>")
    chat = ChatTemplate.from_gguf(*with_tokens(*tokens))
    assert chat.render(MESSAGES[1:2], thinking=True) == f"{B}{USER}One?{ASSISTANT}<think>"


def test_a_file_without_template_and_deepseeks_tokens_is_an_error(
    metadata: Metadata, small: Tokenizer
) -> None:
    with pytest.raises(TokenizerError, match="a.gguf carries no chat template"):
        ChatTemplate.from_gguf(SimpleNamespace(path="a.gguf", metadata=metadata()), small)


def test_the_files_own_template_rules(demo_file: SimpleNamespace, demo: Tokenizer) -> None:
    chat = ChatTemplate.from_gguf(demo_file, demo)
    assert chat.source == "file"
    text = chat.render(MESSAGES)
    assert text == (
        f"{B}Be brief.{USER}One?{ASSISTANT}<think>hm</think>Two.{E}{USER}Three?{ASSISTANT}"
    )
    ids = demo.encode(text, add_special=False, parse_special=True)
    assert ids.count(demo.bos_id) == 1
    assert ids[0] == demo.bos_id
    assert ids[-1] == demo.token_id(ASSISTANT)


def test_named_variants_are_chosen_by_name(small: Tokenizer) -> None:
    metadata = {
        "tokenizer.chat_templates": ["rag", "tool"],
        "tokenizer.chat_template.rag": "R",
        "tokenizer.chat_template.default": "D",
    }
    file = SimpleNamespace(path="a.gguf", metadata=metadata)
    assert ChatTemplate.from_gguf(file, small, name="rag").render([]) == "R"
    assert ChatTemplate.from_gguf(file, small).render([]) == "D"
    with pytest.raises(TokenizerError, match="no chat template named 'x'") as error:
        ChatTemplate.from_gguf(file, small, name="x")
    assert "rag, default" in str(error.value)


def test_a_template_that_is_no_text_is_an_error(small: Tokenizer) -> None:
    file = SimpleNamespace(path="a.gguf", metadata={"tokenizer.chat_template": ["x"]})
    with pytest.raises(TokenizerError, match="is no text but list"):
        ChatTemplate.from_gguf(file, small)


def test_a_syntax_error_names_file_and_line(small: Tokenizer) -> None:
    file = SimpleNamespace(path="a.gguf", metadata={"tokenizer.chat_template": "a\nb\n{% if %}"})
    with pytest.raises(TokenizerError, match="not valid jinja") as error:
        ChatTemplate.from_gguf(file, small)
    assert "tokenizer.chat_template of a.gguf" in str(error.value)
    assert "line 3: Expected an expression" in str(error.value)


def test_a_failing_template_names_its_line(small: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="cannot be rendered") as error:
        template("a\n{{ messages[3].content }}", small).render([])
    assert "line 2: list object has no element 3" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "{{ 1 / 0 }}",
        "{{ 'a' + 1 }}",
        "{{ missing.key }}",
        "{{ {}['x'].y }}",
        "{% include 'x' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages | nothing }}",
        "{{ " * 50_000,
        "{{ " + "(" * 5_000,
        "{% if 1 %}" * 3_000,
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_whatever_fails_in_a_template_is_our_error(small: Tokenizer, text: str) -> None:
    with pytest.raises(TokenizerError):
        template(text, small).render([])


def test_a_refusal_comes_in_the_templates_words(small: Tokenizer) -> None:
    chat = template("{{ raise_exception('Roles must <alternate>') }}", small)
    with pytest.raises(TokenizerError, match="refuses this conversation: Roles must <alternate>"):
        chat.render(MESSAGES)


@pytest.mark.parametrize("message", ["hello", {}, {"role": 3}, {"content": "x"}])
def test_a_message_without_role_is_an_error(small: Tokenizer, message: Any) -> None:
    with pytest.raises(TokenizerError, match="message 1 of 2 has no role"):
        template("x", small).render([MESSAGES[0], message])


def test_templates_have_the_promised_variables_and_functions(small: Tokenizer) -> None:
    text = (
        "{{ bos_token }}|{{ eos_token }}|{{ tools is none }}|{{ strftime_now('%Y') }}|"
        "{{ {'a': '<\u00e9>'} | tojson }}|{{ [1] | tojson(indent=1) }}|{{ extra }}"
    )
    year = datetime.now().strftime("%Y")
    rendered = template(text, small).render([], extra="more")
    assert rendered == f'<bos>|<eos>|True|{year}|{{"a": "<\u00e9>"}}|[\n 1\n]|more'


def test_blocks_take_their_lines_with_them(small: Tokenizer) -> None:
    text = (
        "{% for m in messages %}\n  {% if loop.last %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}\n"
    )
    assert template(text, small).render(MESSAGES) == "user\n"


def test_importing_this_room_imports_no_torch() -> None:
    code = "import hybrid.tokenizer.chat, sys, json; print(json.dumps('torch' in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) is False
