"""CSV as records: where one ends, and which lines are none. Bytes in, bytes out; no values here.

Data whose quotes are all where they belong are cut at a line break outside of quotes, found by
counting them. Where a quote is misplaced, or a line has too many or too few values, that part is
read line by line: a line that is not a record becomes a single reject, and reading continues with
the next line, so that a stray quote never swallows the rows after it. A record that
does not end within LONGEST_RECORD_BYTES is never guessed at: the records end before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lakebed.ingest.sources.dialect import Dialect
from lakebed.ingest.sources.marks import (
    BREAKS,
    are_astray,
    are_breaks_inside,
    are_other_breaks_outside,
    may_hold_other_breaks,
    quotes_in,
)
from lakebed.store.rejects import Malformed

LONGEST_RECORD_BYTES = 32 * 2**20
"""What is looked at for the end of a record: memory must not grow for it."""
NEVER_CLOSED = Malformed("unclosed_quote", "a quote in it is opened and never closed")
"""What is wrong with a record whose end is not in the data: more data might bring it."""

_OTHER_BREAK = Malformed(
    "other_break", "a line break in it is another one than the first line's, and not in quotes"
)
_STRAY_ESCAPE = Malformed("stray_escape", "it ends with an escape character that escapes nothing")
_STRAY_QUOTE = Malformed(
    "stray_quote",
    "a quote in it is misplaced: it opens a value and is not closed at the value's end",
)

# Behind a line break that no escape makes part of a value.
_END_OF_COPY = re.compile(rb"(?:\A|(?:\A|[^\\])(?:\\\\)*(?:\r\n|\r|\n))(?P<end>\\\.(?:\r?\n|\Z))")


@dataclass
class Sorted:
    """Records that were looked at line by line.

    good: those that are whole, with their numbers from 1 among all.  malformed: (number, what is
    wrong, text).  end: where the data was left, before a record that is not finished.  too_long:
    what is wrong with the record there, where it is too long to be read; it is not counted.
    """

    good: bytes = b""
    numbers: list[int] = field(default_factory=list)
    malformed: list[tuple[int, Malformed, str]] = field(default_factory=list)
    count: int = 0
    end: int = 0
    too_long: str | None = None


@dataclass(frozen=True)
class Piece:
    """Whole records: as bytes, or sorted where there was something to put aside."""

    data: bytes = b""
    sorted: Sorted | None = None


def pieces(blocks: Iterable[bytes], dialect: Dialect, columns: int) -> Iterator[Piece]:
    """Cut a stream into pieces of whole records, up to one that is too long.

    columns: how many values a record has.
    """
    data = b""
    for block, last in with_last(blocks):
        data += block
        if dialect.copy_text and (copied := _end_of_copy(data, last)) is not None:
            data, last = data[:copied], True
        ended = data.endswith(dialect.line_end or b"\n")
        if last and not ended and not _ends_escaped(data, dialect):
            data += dialect.line_end or b"\n"
        end = last_end(data, dialect)
        if last and end != len(data):
            end = None
        if end:
            yield Piece(data[:end])
            data = data[end:]
        if (end is None or len(data) > LONGEST_RECORD_BYTES) and data:
            found = sort_records(data, dialect, columns, final=last)
            yield Piece(sorted=found)
            if found.too_long:
                return
            data = data[found.end :]
        if last:
            return


def _end_of_copy(data: bytes, last: bool) -> int | None:
    r"""Return where a line \. ends COPY's data, or None. last: whether nothing comes behind."""
    if not data.startswith(b"\\.") and b"\n\\." not in data and b"\r\\." not in data:
        return None
    found = _END_OF_COPY.search(data)
    if found is None or (found.end() == len(data) and data[-1:] == b"." and not last):
        return None
    return found.start("end")


def with_last(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each block with whether it is the last one."""
    held = None
    for block in blocks:
        if held is not None:
            yield held, False
        held = block
    if held is not None:
        yield held, True


def last_end(data: bytes, dialect: Dialect) -> int | None:
    """Return where the last whole record ends, 0 where none does, None where quotes are astray."""
    if dialect.comment is not None and (
        data.startswith(dialect.comment) or re.search(rb"[\r\n]" + re.escape(dialect.comment), data)
    ):
        return None
    if dialect.escape is not None and dialect.escape in data:
        return _last_end_between(data, dialect)
    if dialect.quote is None or dialect.quote not in data:
        if may_hold_other_breaks(data, dialect):
            return None
        return _break_before(data, len(data), dialect)
    return _last_end_between(data, dialect)


def sort_records(data: bytes, dialect: Dialect, columns: int, *, final: bool) -> Sorted:
    """Look at each line by itself. final: whether the data end here."""
    found, good = Sorted(), []
    at, size = 0, len(data)
    while at < size:
        line_end = _line_end(data, at, dialect)
        line = data[at:line_end]
        if not final and not _is_whole(line, line_end == size, dialect):
            found.too_long = _too_long(size - at, quoted=False)
            break
        if (columns > 1 and not line.strip(BREAKS)) or (
            dialect.comment is not None and line.startswith(dialect.comment)
        ):
            at = line_end
            continue
        record_end, problem = _record_at(data, at, line_end, dialect, columns)
        if not final and record_end is None:
            found.too_long = _too_long(size - at, quoted=problem == NEVER_CLOSED)
            break
        found.count += 1
        if problem is None:
            good.append(data[at:record_end])
            found.numbers.append(found.count)
            at = size if record_end is None else record_end
        else:
            text = line.rstrip(BREAKS).decode("utf-8", "replace")
            found.malformed.append((found.count, problem, text))
            at = line_end
    found.good, found.end = b"".join(good), at
    return found


def _is_whole(line: bytes, at_end: bool, dialect: Dialect) -> bool:
    """Say whether a line ends, and not with what may be half of a break."""
    if dialect.line_end is not None:
        return line.endswith(dialect.line_end) and not (at_end and dialect.line_end == b"\r")
    return line.endswith(b"\n") or (line.endswith(b"\r") and not at_end)


def _too_long(size: int, quoted: bool) -> str | None:
    """Describe a record without an end within too many bytes, or return None."""
    if size <= LONGEST_RECORD_BYTES:
        return None
    limit = f"{LONGEST_RECORD_BYTES >> 20} MiB"
    if quoted:
        return (
            f"opens a quote that is not closed within {limit}; close it, declare multiline=False "
            "if no value contains line breaks, or deliver long values as Parquet"
        )
    return f"is longer than {limit}, the most that is read as one; deliver so long a row as Parquet"


def split_record(record: bytes, dialect: Dialect) -> list[bytes]:
    """Return the values of a record without quotes, as a header needs them."""
    found = []
    for match in dialect.values.finditer(record.rstrip(BREAKS)):
        text = match[1]
        quote = dialect.quote
        if quote is not None and text.startswith(quote):
            text = text[1:-1]
            if dialect.doubled_quotes:
                text = text.replace(quote + quote, quote)
        if dialect.escape is not None:
            text = re.sub(re.escape(dialect.escape) + rb"(.)", rb"\1", text, flags=re.S)
        found.append(text)
    return found


def _record_at(
    data: bytes, at: int, line_end: int, dialect: Dialect, columns: int
) -> tuple[int | None, Malformed | None]:
    """Return where the record ends that begins here, and what is wrong with it.

    The end is None where the record may go on after the data.
    """
    line = data[at:line_end]
    special = [mark for mark in (dialect.quote, dialect.escape) if mark is not None]
    if not any(mark in line for mark in special):
        if _has_other_break(line, dialect):
            return line_end, _OTHER_BREAK
        values = line.count(dialect.delimiter) + 1
        return line_end, _wrong_count(values, columns, dialect)
    match = dialect.record.match(data, at, len(data) if dialect.multiline else line_end)
    if match is not None:
        values = len(dialect.values.findall(match[0].rstrip(BREAKS)))
        open_end = match.end() == len(data) and match["feed"] is None
        return None if open_end else match.end(), _wrong_count(values, columns, dialect)
    if dialect.multiline and dialect.unfinished.match(data, at):
        return None, NEVER_CLOSED
    if _ends_escaped(line, dialect):
        return line_end, _STRAY_ESCAPE
    if _has_other_break(re.sub(dialect.quoted, b"", line), dialect):
        return line_end, _OTHER_BREAK
    return line_end, _STRAY_QUOTE


def _has_other_break(line: bytes, dialect: Dialect) -> bool:
    """Say whether a line holds a break that does not end it."""
    if dialect.line_end is None:
        return False
    within = line.removesuffix(dialect.line_end)
    return b"\r" in within or b"\n" in within


def _wrong_count(values: int, columns: int, dialect: Dialect) -> Malformed | None:
    if values == columns or (dialect.short_lines and values < columns):
        return None
    return Malformed("value_count", f"{values} values for {columns} columns")


def _line_end(data: bytes, at: int, dialect: Dialect) -> int:
    """Return where the line ends that begins here, its break included."""
    if dialect.line_end is not None:
        end = data.find(dialect.line_end, at)
        while dialect.line_end == b"\r" and data[end : end + 2] == b"\r\n":
            end = data.find(b"\r", end + 2)
        return end + len(dialect.line_end) if end >= 0 else len(data)
    feed = data.find(b"\n", at)
    carriage = data.find(b"\r", at, feed if feed >= 0 else len(data))
    if carriage >= 0:
        return carriage + (2 if data[carriage + 1 : carriage + 2] == b"\n" else 1)
    return feed + 1 if feed >= 0 else len(data)


def _break_before(data: bytes, end: int, dialect: Dialect) -> int:
    """Return where the last line ends before a place; a carriage return may be half of a break."""
    if dialect.line_end is not None:
        found = data.rfind(dialect.line_end, 0, end)
        if dialect.line_end == b"\r":
            found = data.rfind(b"\r", 0, min(end, len(data) - 1))
            while data[found : found + 2] == b"\r\n":
                found = data.rfind(b"\r", 0, found)
        return found + len(dialect.line_end) if found >= 0 else 0
    feed = data.rfind(b"\n", 0, end)
    if feed >= 0:
        return feed + 1
    return data.rfind(b"\r", 0, min(end, len(data) - 1)) + 1


def _last_end_between(data: bytes, dialect: Dialect) -> int | None:
    """Find the last line break outside of quotes, and make sure that no quote is astray."""
    array = np.frombuffer(data, np.uint8)
    quotes = quotes_in(array, dialect)
    if are_astray(array, quotes, dialect):
        return None
    if not dialect.multiline and are_breaks_inside(array, quotes):
        return None
    if may_hold_other_breaks(data, dialect) and are_other_breaks_outside(array, quotes, dialect):
        return None
    end = len(data)
    while end := _break_before(data, end, dialect):
        inside = int(np.searchsorted(quotes, end - 1))
        if inside % 2:
            end = int(quotes[inside - 1])
        elif dialect.escape is not None and _is_escaped(data, end - 1, dialect.escape):
            end -= 1
        else:
            return end
    return 0


def _ends_escaped(data: bytes, dialect: Dialect) -> bool:
    return dialect.escape is not None and _is_escaped(data, len(data), dialect.escape)


def _is_escaped(data: bytes, place: int, escape: bytes) -> bool:
    begin = place
    while begin > 0 and data[begin - 1 : begin] == escape:
        begin -= 1
    return (place - begin) % 2 == 1
