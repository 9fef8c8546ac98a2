"""SentencePiece BPE (`model` = llama): merge the pair whose text is the token of highest score.

A text is first cut wherever no token holds the two neighbouring characters: no merge can cross
such a place, so words are merged apart from each other and remembered. The result is that of
merging the whole text at once.

Must not know: special tokens, files.
"""

import heapq
from collections.abc import Iterator
from functools import lru_cache

from hybrid.errors import TokenizerError
from hybrid.tokenizer.vocabulary import BYTE, Vocabulary

BLANK = "\u2581"
_REMEMBERED_WORDS = 1 << 16


class SentencePiece:
    """Text fragments to ids: leftmost pair on ties, bytes for what is no token."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._ids = vocabulary.ids
        self._scores = vocabulary.scores
        self._fallback = [_byte_token(vocabulary, byte) for byte in range(256)]
        self._pairs = {
            pair for text in vocabulary.ids for pair in zip(text, text[1:], strict=False)
        }
        self._word = lru_cache(_REMEMBERED_WORDS)(self._merge)

    def encode(self, text: str) -> list[int]:
        """Ids of a fragment without special tokens; a leading blank is the caller's business."""
        return [i for word in self._words(text.replace(" ", BLANK)) for i in self._word(word)]

    def _words(self, text: str) -> Iterator[str]:
        start = 0
        for at, pair in enumerate(zip(text, text[1:], strict=False), 1):
            if pair not in self._pairs:
                yield text[start:at]
                start = at
        if text:
            yield text[start:]

    def _merge(self, word: str) -> tuple[int, ...]:
        """A linked list of symbols and a heap of candidate pairs; stale ones are skipped."""
        symbols = list(word)
        after = list(range(1, len(symbols) + 1))
        before = list(range(-1, len(symbols) - 1))
        heap: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right < len(symbols):
                text = symbols[left] + symbols[right]
                if text in self._ids:
                    heapq.heappush(heap, (-self._scores[self._ids[text]], left, right, text))

        for left in range(len(symbols) - 1):
            offer(left, left + 1)
        while heap:
            _, left, right, text = heapq.heappop(heap)
            if not symbols[right] or symbols[left] + symbols[right] != text or after[left] != right:
                continue
            symbols[left], symbols[right] = text, ""
            after[left] = after[right]
            if after[right] < len(symbols):
                before[after[right]] = left
            offer(before[left], left)
            offer(left, after[left])
        return tuple(i for symbol in symbols if symbol for i in self._lookup(symbol))

    def _lookup(self, symbol: str) -> list[int]:
        if symbol in self._ids:
            return [self._ids[symbol]]
        return [self._fallback[byte] for byte in symbol.encode()]


def byte_value(text: str) -> int | None:
    """The value of a byte token's text, `<0x0A>` = 10; None when it is not of that form."""
    digits = text[3:5]
    good = len(text) == 6 and text.startswith("<0x") and text.endswith(">") and digits.isalnum()
    try:
        return int(digits, 16) if good and digits.isascii() else None
    except ValueError:
        return None


def _byte_token(vocabulary: Vocabulary, byte: int) -> int:
    token = vocabulary.ids.get(f"<0x{byte:02X}>", vocabulary.unknown_id)
    if token is None:
        raise TokenizerError(
            f"the vocabulary of {vocabulary.source} cannot write every text",
            f"byte token <0x{byte:02X}> is absent and there is no unknown token",
            remedy="convert the model again, or give the prompt as token ids",
        )
    return token


def byte_token_values(vocabulary: Vocabulary) -> dict[int, int]:
    """Token id -> byte for every token of type byte; a TokenizerError if one is not <0xXX>."""
    values = {}
    for token, (text, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if kind != BYTE:
            continue
        value = byte_value(text)
        if value is None:
            raise TokenizerError(
                f"token {token} of {vocabulary.source} is marked as a byte but is {text[:20]!r}",
                "byte tokens are written <0x00> to <0xFF>",
                remedy="convert the model again, or give the prompt as token ids",
            )
        values[token] = value
    return values
