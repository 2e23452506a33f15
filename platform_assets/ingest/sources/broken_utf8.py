"""Bytes that are no UTF-8, brought through a parser that wants UTF-8 and given back as they were.

pyarrow's CSV reader keeps a value's bytes, but cannot hand a line with broken UTF-8 to a handler:
it gives up the whole file. So each such byte is marked, as one character of the last private plane,
and unmarked in the values. A stream that is UTF-8 goes through as it is.
"""

from __future__ import annotations

import re

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

_FIRST = 0x10FF00
_MARKS = re.compile(f"[{chr(_FIRST + 0x80)}-{chr(_FIRST + 0xFF)}]")
_MARK_BYTES = re.compile(rb"\xf4\x8f[\xbe\xbf][\x80-\xbf]")
# What surrogateescape makes of a byte that is no UTF-8.
_ESCAPED = re.compile(rb"\xed[\xb2\xb3][\x80-\xbf]")


class BrokenUtf8:
    """Marks the blocks of one stream, and unmarks what was parsed of them."""

    def __init__(self) -> None:
        """Begin at the start of a stream."""
        self._held = b""
        self._marked: set[int] = set()

    def mark(self, block: bytes) -> bytes:
        """Return the next block as UTF-8; the empty one, at the end, lets out what was held."""
        block, self._held = _whole_characters(self._held + block, last=not block)
        if block.isascii():
            return block
        if b"\xf4\x8f" not in block and _is_utf8(block):
            return block
        block = block.decode("utf-8", "surrogateescape").encode("utf-8", "surrogatepass")
        # A character that looks like a mark goes through as if its bytes were broken.
        block = _MARK_BYTES.sub(lambda found: b"".join(map(self._mark, found[0])), block)
        for escaped in set(_ESCAPED.findall(block)):
            byte = ord(escaped.decode("utf-8", "surrogatepass")) & 0xFF
            block = block.replace(escaped, self._mark(byte))
        return block

    def unmark(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return columns of bytes as they were in the stream."""
        if not self._marked:
            return frame
        return frame.with_columns(self._unmarked(column) for column in frame)

    def shown(self, text: str) -> str:
        """Return a text with a replacement character for each byte that is no UTF-8."""
        return _MARKS.sub("\N{REPLACEMENT CHARACTER}", text) if self._marked else text

    def _mark(self, byte: int) -> bytes:
        self._marked.add(byte)
        return chr(_FIRST + byte).encode()

    def _unmarked(self, column: pl.Series) -> pl.Series:
        values = column.to_arrow()
        # The highest first: what is unmarked must not look like a mark that is still to come.
        for byte in sorted(self._marked, reverse=True):
            values = pc.replace_substring(
                values, pattern=chr(_FIRST + byte).encode(), replacement=bytes([byte])
            )
        return pl.Series(column.name, values)


def _whole_characters(data: bytes, *, last: bool) -> tuple[bytes, bytes]:
    """Cut off a character that the next block may complete."""
    if last:
        return data, b""
    for length in range(1, min(3, len(data)) + 1):
        byte = data[-length]
        if byte & 0xC0 != 0x80:
            expected = 2 + (byte >= 0xE0) + (byte >= 0xF0) if byte >= 0xC0 else 1
            return (data[:-length], data[-length:]) if length < expected else (data, b"")
    return data, b""


def _is_utf8(data: bytes) -> bool:
    ends = pa.array([0, len(data)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(data)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
