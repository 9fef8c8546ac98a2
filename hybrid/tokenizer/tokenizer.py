"""Text to token ids and back, from the vocabulary inside a GGUF file.

    text --special tokens cut out, longest text first--> fragments --merging--> ids
    ids --bytes of each token, joined--> UTF-8, invalid bytes replaced

Two conventions: "trained" cuts words as the model was trained with, "llama.cpp" as that program
does (see `pretokenizers.py`). They part on rare characters only.

Must not know: models, devices, torch. Source: the GGUF key list and the tokenizers of the
published models.
"""

from collections.abc import Iterable, Iterator, Mapping
from operator import index
from typing import Any, Protocol

from hybrid.errors import TokenizerError
from hybrid.tokenizer.bytelevel import ByteLevelBpe, spelled_bytes
from hybrid.tokenizer.pretokenizers import CONVENTIONS
from hybrid.tokenizer.sentencepiece import BLANK, SentencePiece, byte_token_values
from hybrid.tokenizer.stream import TextStream
from hybrid.tokenizer.vocabulary import (
    CONTROL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    NoVocabulary,
    Vocabulary,
    read_vocabulary,
)

__all__ = ["MetadataFile", "NoVocabulary", "TextStream", "Tokenizer"]


class MetadataFile(Protocol):
    """What is needed of a GGUF file: its keys with Python values, and its name."""

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    @property
    def path(self) -> Any: ...


class Tokenizer:
    """Text <-> ids.

    vocabulary_size   ids are 0 .. vocabulary_size - 1
    bos_id, eos_id    None where the vocabulary has none
    add_bos, add_eos  whether `encode` puts them around a text
    stop_ids          every id that ends an answer
    model, pre        "gpt2" or "llama", and the pre-type
    """

    def __init__(self, vocabulary: Vocabulary, conventions: str) -> None:
        self.vocabulary_size = len(vocabulary.tokens)
        self.bos_id = vocabulary.bos_id
        self.eos_id = vocabulary.eos_id
        self.add_bos = vocabulary.add_bos
        self.add_eos = vocabulary.add_eos
        self.stop_ids = vocabulary.stop_ids
        self.model = vocabulary.model
        self.pre = vocabulary.pre
        self._vocabulary = vocabulary
        self._byte_values = byte_token_values(vocabulary)
        self._words = (
            SentencePiece(vocabulary)
            if vocabulary.model == "llama"
            else ByteLevelBpe(vocabulary, conventions)
        )
        self._cut_always = _longest_first(vocabulary, (USER_DEFINED,))
        self._cut_special = _longest_first(vocabulary, (USER_DEFINED, CONTROL, UNKNOWN))

    @classmethod
    def from_gguf(cls, file: MetadataFile, *, conventions: str = "trained") -> "Tokenizer":
        """The tokenizer of an opened GGUF file; see `from_metadata`."""
        return cls.from_metadata(file.metadata, str(file.path), conventions=conventions)

    @classmethod
    def from_metadata(
        cls, metadata: Mapping[str, Any], source: str, *, conventions: str = "trained"
    ) -> "Tokenizer":
        """The tokenizer that `tokenizer.ggml.*` describes; `source` names the file in messages.

        Raises NoVocabulary (a TokenizerError) when there are no tokens, TokenizerError when the
        vocabulary is of an unknown kind or does not fit together.
        """
        if conventions not in CONVENTIONS:
            raise TokenizerError(
                f"unknown conventions {conventions!r}", remedy=f"one of {', '.join(CONVENTIONS)}"
            )
        return cls(read_vocabulary(metadata, source, conventions), conventions)

    def encode(
        self, text: str, *, add_special: bool = True, parse_special: bool = False
    ) -> list[int]:
        """Token ids of `text`.

        add_special     put BOS and EOS around it where the vocabulary asks for that
        parse_special   take the texts of control tokens ("<|end|>") as those tokens

        A rendered chat template holds its BOS already: add_special=False, parse_special=True.
        Raises TokenizerError for a text that UTF-8 cannot hold (lone surrogates).
        """
        _refuse_surrogates(text)
        ids = [self.bos_id] if add_special and self.add_bos and self.bos_id is not None else []
        blank = " " if self._vocabulary.space_prefix else ""
        after_special = True
        for fragment in self._fragments(text, parse_special):
            if isinstance(fragment, int):
                ids.append(fragment)
            else:
                ids += self._words.encode(blank + fragment if after_special else fragment)
            after_special = isinstance(fragment, int)
        if add_special and self.add_eos and self.eos_id is not None:
            ids.append(self.eos_id)
        return ids

    def decode(
        self, ids: Iterable[int], *, render_special: bool = False, at_start: bool = True
    ) -> str:
        """Text of `ids`: the bytes of all tokens as UTF-8, invalid sequences as U+FFFD.

        render_special   write control tokens as their text instead of nothing
        at_start         False: the ids continue a text, so SentencePiece's first blank stays
        """
        stream = self.stream(render_special=render_special, at_start=at_start)
        return "".join([*map(stream.push, ids), stream.flush()])

    def decode_bytes(
        self, ids: Iterable[int], *, render_special: bool = False, at_start: bool = True
    ) -> bytes:
        """Bytes of `ids`, as `decode` joins them."""
        data = b"".join(self.token_bytes(i, render_special=render_special) for i in ids)
        return data.removeprefix(b" ") if at_start and self._vocabulary.space_prefix else data

    def token_bytes(self, token_id: int, *, render_special: bool = False) -> bytes:
        """Bytes of one token, perhaps part of a UTF-8 sequence; TokenizerError for a wrong id."""
        token_id = index(token_id)
        if not 0 <= token_id < self.vocabulary_size:
            raise TokenizerError(
                f"token id {token_id} does not exist",
                f"the vocabulary has ids 0 to {self.vocabulary_size - 1}",
                remedy="give ids made with this model's own vocabulary",
            )
        text, kind = self._vocabulary.tokens[token_id], self._vocabulary.types[token_id]
        if kind in (CONTROL, UNKNOWN):
            return text.encode() if render_special else b""
        if kind == USER_DEFINED:
            return text.encode()
        if kind == UNUSED:
            return b""
        if token_id in self._byte_values:
            return bytes([self._byte_values[token_id]])
        if self.model == "llama":
            return text.replace(BLANK, " ").encode()
        return spelled_bytes(text)

    def stream(self, *, render_special: bool = False, at_start: bool = True) -> TextStream:
        """Incremental `decode`: push ids one by one; the joined text is that of `decode`."""

        def token_bytes(token_id: int) -> bytes:
            return self.token_bytes(token_id, render_special=render_special)

        return TextStream(token_bytes, drop_blank=at_start and self._vocabulary.space_prefix)

    def token_text(self, token_id: int | None) -> str:
        """The text a token has in the vocabulary ("<|end|>", "\u0120the"); "" for None."""
        return "" if token_id is None else self._vocabulary.tokens[token_id]

    def token_id(self, text: str) -> int | None:
        """The token whose text in the vocabulary is exactly `text`."""
        return self._vocabulary.ids.get(text)

    def _fragments(self, text: str, parse_special: bool) -> Iterator[str | int]:
        """Special tokens cut out of the whole text one after the other, the longest text first.

        Not leftmost-longest: of two overlapping specials the longer wins wherever it starts.
        """
        fragments: list[str | int] = [text]
        for special, token_id in self._cut_special if parse_special else self._cut_always:
            if special in text:
                fragments = [f for part in fragments for f in _cut(part, special, token_id)]
        return (f for f in fragments if f != "")


def _longest_first(vocabulary: Vocabulary, kinds: tuple[int, ...]) -> list[tuple[str, int]]:
    special = [
        (vocabulary.tokens[i], i) for i in vocabulary.ids.values() if vocabulary.types[i] in kinds
    ]
    return sorted(special, key=lambda pair: -len(pair[0].encode()))


def _cut(part: str | int, special: str, token_id: int) -> Iterator[str | int]:
    if isinstance(part, int):
        yield part
        return
    for number, piece in enumerate(part.split(special)):
        if number:
            yield token_id
        yield piece


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            "the text is not valid Unicode",
            f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}",
            remedy="give the text as UTF-8; it was probably read with the wrong encoding",
        ) from None
