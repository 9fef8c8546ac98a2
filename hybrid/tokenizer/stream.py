"""Text of tokens as they come: complete UTF-8 sequences only, the rest is held back.

Must not know: vocabularies; it gets bytes from a function.
"""

import codecs
from collections.abc import Callable


class TextStream:
    """Joined results of `push` and a last `flush` equal the text of all bytes decoded at once.

    token_bytes   token id -> bytes; raises for an id that does not exist
    drop_blank    leave out one blank at the very start (SentencePiece's added one)
    """

    def __init__(self, token_bytes: Callable[[int], bytes], *, drop_blank: bool = False) -> None:
        self._token_bytes = token_bytes
        self._drop_blank = drop_blank
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes, "" while a sequence is open; U+FFFD if invalid."""
        data = self._token_bytes(token_id)
        if self._drop_blank and data:
            data = data.removeprefix(b" ")
            self._drop_blank = False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is still held back, an open sequence as U+FFFD; the stream can go on after it."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
