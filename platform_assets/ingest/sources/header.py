"""The head of a CSV file: lines before the rows, the names of the columns, how lines end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lakebed.ingest.sources.dialect import Dialect
from lakebed.ingest.sources.streams import Stream

HEAD_BYTES = 1 << 16
LONGEST_HEAD_BYTES = 1 << 22
_LINE = re.compile(rb"[^\r\n]*+(?:\r?\n|\r|\Z)")


@dataclass(frozen=True)
class Head:
    """The head of a file.

    Attributes:
        header: The line with the names of the columns, which may hold line breaks in quotes.
        begin: After how many bytes the rows begin.
        line_end: The break that ends the lines; None without a break, or where any break does.
    """

    header: bytes
    begin: int
    line_end: bytes | None


def read_head(stream: Stream, dialect: Dialect, skip_rows: int, *, has_header: bool) -> Head:
    """Read the head of a stream.

    Args:
        stream: The file from its beginning, in UTF-8.
        dialect: How it is written; whatever ends its lines.
        skip_rows: How many lines come before the header.
        has_header: Whether the first line after those holds the names of the columns.
    """
    data = b""
    while True:
        more = stream.read(HEAD_BYTES)
        data += more
        final = not more or len(data) >= LONGEST_HEAD_BYTES
        found = _head_of(data, dialect, skip_rows, has_header, final)
        if found is not None:
            return found


def _head_of(
    data: bytes, dialect: Dialect, skip_rows: int, has_header: bool, final: bool
) -> Head | None:
    """Return the head, None where its end is not in the data and more is to come."""
    at = 0
    for _ in range(skip_rows):
        at = _line_end(data, at)
    while dialect.comment is not None and data.startswith(dialect.comment, at):
        at = _line_end(data, at)
    end = _record_end(data, at, dialect, final)
    # One more byte than the break may have, and the break behind a carriage return alone.
    if not final and (end is None or _LINE.fullmatch(data, end)):
        return None
    end = len(data) if end is None else end
    first = _line_end(data, 0) if at else end
    ends = _break_before(data, first)
    if ends == b"\r" and not has_header and not at:
        # The first row may hold a carriage return: the break behind it says so.
        found = re.compile(rb"\r?\n|\r").search(data, end)
        ends = ends if found is None else found[0]
    if ends is not None and not data.endswith(ends, at, end) and (there := data.find(ends, at)) > 0:
        end = there + len(ends)  # the line contains a carriage return and ends with another break
    return Head(data[at:end] if has_header else b"", end if has_header else at, ends)


def _line_end(data: bytes, at: int) -> int:
    found = _LINE.match(data, at)
    return len(data) if found is None else found.end()


def _record_end(data: bytes, at: int, dialect: Dialect, final: bool) -> int | None:
    """Return where the record ends that begins here, None where it may go on after the data."""
    line = _line_end(data, at)
    found = dialect.record.match(data, at, len(data) if dialect.multiline else line)
    if found is not None:
        return found.end()
    if not final and dialect.multiline and dialect.unfinished.match(data, at):
        return None
    return line


def _break_before(data: bytes, end: int) -> bytes | None:
    """Return the break that ends there."""
    if data.endswith(b"\n", 0, end):
        ends = b"\r\n" if data.endswith(b"\r\n", 0, end) else b"\n"
        return None if data.endswith(b"\r\r\n", 0, end) else ends
    if not data.endswith(b"\r", 0, end) or data.startswith(b"\r\n", end):
        return None  # no break at all, or one that some programs write on Windows
    return b"\r"
