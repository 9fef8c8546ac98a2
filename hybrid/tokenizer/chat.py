"""A conversation as text: the file's own jinja template, or DeepSeek's formats built in.

The rendered text holds BOS already; encode it with add_special=False, parse_special=True.

Must not know: models, devices, how text becomes ids. Called by the command line's `chat`.
"""

import traceback
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2

from hybrid.errors import TokenizerError
from hybrid.tokenizer import builtin_chat
from hybrid.tokenizer.sandbox import BoundedSandbox
from hybrid.tokenizer.tokenizer import MetadataFile, Tokenizer

KEY = "tokenizer.chat_template"
RENDER_SECONDS = 10.0
# What code in a template can raise; jinja passes Python's own errors through.
_TEMPLATE_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """Messages to text.

    source   "file" or "built-in"
    where    for messages: the file and key, or the name of the built-in form
    """

    def __init__(self, text: str, tokenizer: Tokenizer, *, source: str, where: str) -> None:
        """A template from its jinja `text`; a syntax error is a TokenizerError with its line."""
        self.text = text
        self.source = source
        self.where = where
        self._bos_token = tokenizer.token_text(tokenizer.bos_id)
        self._eos_token = tokenizer.token_text(tokenizer.eos_id)
        self._sandbox = BoundedSandbox(RENDER_SECONDS)
        self._sandbox.globals["raise_exception"] = self._raise_exception
        self._sandbox.globals["strftime_now"] = _strftime_now
        try:
            self._sandbox.compile(text)
        except _TEMPLATE_FAILURES as error:
            raise self._broken("is not valid jinja", error) from None

    @classmethod
    def from_gguf(
        cls, file: MetadataFile, tokenizer: Tokenizer, *, name: str | None = None
    ) -> "ChatTemplate":
        """The template of an opened GGUF file, or its variant `name`, else DeepSeek's built-in.

        Raises TokenizerError when there is none and the vocabulary is not DeepSeek's either.
        """
        key = f"{KEY}.{name}" if name else KEY
        if not name and KEY not in file.metadata:
            key = f"{KEY}.default"
        if key in file.metadata:
            text = file.metadata[key]
            if not isinstance(text, str):
                raise TokenizerError(
                    f"{key} of {file.path} is no text but {type(text).__name__}",
                    remedy="convert the model again",
                )
            return cls(text, tokenizer, source="file", where=f"{key} of {file.path}")
        if name:
            raise _unknown_variant(file, name)
        form, text = _built_in(file, tokenizer)
        return cls(text, tokenizer, source="built-in", where=f"the built-in {form} chat template")

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The conversation as text, BOS included.

        messages                each with "role" and "content"
        add_generation_prompt   end where the model's answer begins
        variables               further template variables, such as tools or thinking

        Raises TokenizerError: the template's own words when it refuses, the line when it fails.
        """
        for number, message in enumerate(messages):
            if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
                raise TokenizerError(
                    f"message {number} of {len(messages)} has no role",
                    remedy='give each message as {"role": "user", "content": "..."}',
                )
        known: dict[str, Any] = {
            "bos_token": self._bos_token,
            "eos_token": self._eos_token,
            "tools": None,
        }
        known["messages"] = [dict(message) for message in messages]
        known["add_generation_prompt"] = add_generation_prompt
        try:
            return self._sandbox.render(self.text, {**known, **variables})
        except _TEMPLATE_FAILURES as error:
            raise self._broken("cannot be rendered", error) from None

    def _raise_exception(self, message: object) -> None:
        raise TokenizerError(
            f"the chat template refuses this conversation: {message!s:.500}",
            f"said by {self.where}",
            remedy="change the messages as it says",
        )

    def _broken(self, how: str, error: BaseException) -> TokenizerError:
        line = getattr(error, "lineno", None) or _template_line(error)
        place = f"line {line}: " if line else ""
        return TokenizerError(
            f"the chat template {how}",
            self.where,
            f"{place}{str(error)[:500] or type(error).__name__}",
            remedy="use a file with a working template, or give the prompt without chat",
        )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def _template_line(error: BaseException) -> int | None:
    """Jinja rewrites tracebacks so that frames of a template carry its own lines."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    return lines[-1] if lines else None


def _unknown_variant(file: MetadataFile, name: str) -> TokenizerError:
    variants = [key[len(KEY) + 1 :] for key in file.metadata if key.startswith(f"{KEY}.")]
    return TokenizerError(
        f"{file.path} has no chat template named {name!r}",
        f"named templates: {', '.join(variants) or 'none'}",
        remedy="take one of these, or leave the name out",
    )


def _built_in(file: MetadataFile, tokenizer: Tokenizer) -> tuple[str, str]:
    """Name and text of the form whose tokens the vocabulary has.

    V2 shares the vocabulary of pre-type deepseek-llm; whatever turn tokens stand there, its chat
    was not trained with them.
    """

    def has(*texts: str) -> bool:
        return all(tokenizer.token_id(text) is not None for text in texts)

    if has("<|im_user|>", "<|im_assistant|>", "<|im_middle|>", "<|im_end|>"):
        return "Kimi-K2", builtin_chat.KIMI
    turns = has("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>")
    if turns and tokenizer.pre != "deepseek-llm":
        if has("<think>", "</think>", "<\uff5csearch\u2581begin\uff5c>"):
            return "DeepSeek-V3.1", builtin_chat.V31
        if has("<think>", "</think>"):
            return "DeepSeek-R1", builtin_chat.R1
        return "DeepSeek-V3", builtin_chat.V3
    if turns or has("<\uff5cbegin\u2581of\u2581sentence\uff5c>"):
        return "DeepSeek-V2", builtin_chat.V2
    raise TokenizerError(
        f"{file.path} carries no chat template, and its vocabulary is not DeepSeek's",
        f"{KEY} is absent; pre-tokenizer {tokenizer.pre}",
        remedy="give the prompt without chat, written as the model's page says",
    )
