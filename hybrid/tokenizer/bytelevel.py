"""Byte-level BPE (`model` = gpt2) through the `tokenizers` library: cut, map bytes, merge by rank.

The library merges ids, and so knows no symbol that is not a token. Symbols that only occur inside
merges (pruned vocabularies have them), and bytes without a token, get ids behind the vocabulary;
what is left of them after merging is looked up again byte by byte, and what is not found then is
dropped, as llama.cpp does.

Must not know: special tokens, files.
"""

import re
from itertools import count

from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from hybrid.errors import TokenizerError
from hybrid.tokenizer.vocabulary import Vocabulary

# Beyond ten million steps in one match the regex engine gives up, with a panic instead of an error.
LONGEST_RUN = 1_000_000
_LONG_RUN = re.compile(rf"(?<!\s)\s{{{LONGEST_RUN}}}|(?<!\S)\S{{{LONGEST_RUN}}}")


def _byte_characters() -> list[str]:
    """GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = count(256)
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()
BYTE_VALUES = {character: byte for byte, character in enumerate(BYTE_CHARACTERS)}


class ByteLevelBpe:
    """Text fragments to ids with the vocabulary's merges, and normal tokens back to bytes."""

    def __init__(self, vocabulary: Vocabulary, conventions: str) -> None:
        merges = vocabulary.merges
        symbols = [*BYTE_CHARACTERS, *(x for m in merges for x in (m[0], m[1], m[0] + m[1]))]
        missing = [text for text in dict.fromkeys(symbols) if text not in vocabulary.ids]
        first = len(vocabulary.tokens)
        self._respelled = {
            first + n: [vocabulary.ids[c] for c in text if c in vocabulary.ids]
            for n, text in enumerate(missing)
        }
        known = {**vocabulary.ids, **{text: first + n for n, text in enumerate(missing)}}
        splitter = vocabulary.splitter
        self._pipeline = Tokenizer(
            models.BPE(vocab=known, merges=merges, ignore_merges=splitter.whole_words)
        )
        self._pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                *(
                    pre_tokenizers.Split(Regex(pattern), behavior="isolated")
                    for pattern in splitter.following(conventions)
                ),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a fragment without special tokens."""
        if len(text) >= LONGEST_RUN:
            _refuse_long_run(text)
        ids: list[int] = self._pipeline.encode(text, add_special_tokens=False).ids
        if self._respelled:
            return [i for token in ids for i in self._respelled.get(token, (token,))]
        return ids


def spelled_bytes(text: str) -> bytes:
    """The bytes of a token's characters; a character outside the table stands for itself."""
    try:
        return bytes([BYTE_VALUES[character] for character in text])
    except KeyError:
        spelled = (BYTE_VALUES.get(c) for c in text)
        return b"".join(
            c.encode() if byte is None else bytes([byte])
            for c, byte in zip(text, spelled, strict=True)
        )


def _refuse_long_run(text: str) -> None:
    run = _LONG_RUN.search(text)
    if run:
        what = "white space" if run.group()[0].isspace() else "text without white space"
        raise TokenizerError(
            "the text has a stretch too long to be cut into words",
            f"{LONGEST_RUN} characters of {what} from character {run.start()} on",
            remedy="break the stretch into lines",
        )
