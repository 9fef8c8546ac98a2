"""Header bytes of one file, front to back, each length held against what is left before use."""

import struct

from hybrid.errors import GgufError
from hybrid.gguf.faults import FETCH_AGAIN, corrupt
from hybrid.gguf.source import Source

# A vocabulary of 102 400 tokens with its merges is 4 MB. The limit keeps a damaged count in
# a file of 400 GB from turning weights into a list.
HEADER_LIMIT_BYTES = 64 << 20
_FETCH_BYTES = 1 << 20

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """A position in a file's header. `field` is how an error names what was being read."""

    def __init__(self, source: Source) -> None:
        self.path = source.path
        self.position = 0
        self._source = source
        self._end = min(source.nbytes, HEADER_LIMIT_BYTES)
        self._bytes = b""

    def u32(self, field: str) -> int:
        return int(_U32.unpack(self.take(4, field))[0])

    def u64(self, field: str) -> int:
        return int(_U64.unpack(self.take(8, field))[0])

    def take(self, nbytes: int, field: str) -> bytes:
        """The next `nbytes` bytes."""
        self.require(nbytes, field)
        start = self.position
        self.position = start + nbytes
        return self._bytes[start : self.position]

    def count(self, each_bytes: int, field: str) -> int:
        """A u64 count of things of at least `each_bytes` each, small enough for them to follow."""
        count = self.u64(field)
        left = self._end - self.position
        if count * each_bytes > left:
            raise self._too_short(f"{field} is {count}, at least {count * each_bytes} bytes")
        return count

    def string(self, field: str, limit_bytes: int = HEADER_LIMIT_BYTES) -> str:
        """A u64 length and that many bytes of UTF-8."""
        length = self.count(1, f"the length of {field}")
        if length > limit_bytes:
            raise corrupt(self.path, f"{field} is {length} bytes long, the limit is {limit_bytes}")
        raw = self.take(length, field)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self._not_utf8(field, self.position - length, error) from None

    def strings(self, count: int, field: str) -> list[str]:
        """`count` strings; the loop works on bytes at hand, every odd case is left to `string`."""
        texts: list[str] = []
        length_at = _U64.unpack_from
        data, start, available = self._bytes, self.position, len(self._bytes)
        text_start = start
        try:
            for index in range(count):
                text_start = start + 8
                if text_start <= available:
                    end = text_start + length_at(data, start)[0]
                    if end <= available:
                        texts.append(data[text_start:end].decode())
                        start = end
                        continue
                self.position = start
                texts.append(self.string(f"{field}[{index}]"))
                data, start, available = self._bytes, self.position, len(self._bytes)
        except UnicodeDecodeError as error:
            raise self._not_utf8(f"{field}[{len(texts)}]", text_start, error) from None
        self.position = start
        return texts

    def require(self, nbytes: int, field: str) -> None:
        """Raise GgufError unless `nbytes` more bytes are there; fetch them."""
        wanted = self.position + nbytes
        if wanted > self._end:
            raise self._too_short(f"{field} needs {nbytes} bytes")
        if wanted > len(self._bytes):
            self._fetch(wanted, field)

    def _fetch(self, wanted: int, field: str) -> None:
        have = len(self._bytes)
        # Doubling keeps the copies below twice the header.
        chunk = bytearray(min(max(wanted - have, have, _FETCH_BYTES), self._end - have))
        got = self._source.read(have, memoryview(chunk))
        self._bytes += chunk[:got]
        if wanted > len(self._bytes):
            self._end = len(self._bytes)
            raise self._too_short(f"{field} needs {wanted - self.position} bytes")

    def _too_short(self, need: str) -> GgufError:
        left = self._end - self.position
        if self._end == HEADER_LIMIT_BYTES:
            return corrupt(
                self.path,
                need,
                f"at byte {self.position}; headers are read up to {HEADER_LIMIT_BYTES} bytes",
            )
        return GgufError(
            f"{self.path} is cut or corrupt: {need}",
            f"at byte {self.position}, {left} bytes before the end of the file",
            remedy=FETCH_AGAIN,
        )

    def _not_utf8(self, field: str, start: int, error: UnicodeDecodeError) -> GgufError:
        return corrupt(
            self.path,
            f"{field} is not UTF-8",
            f"byte {error.start} of {len(error.object)}, byte {start + error.start} of the file: "
            f"0x{error.object[error.start]:02x}: {error.reason}",
        )
