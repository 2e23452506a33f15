"""CSV files: every value as bytes, lines that are no rows told apart with their numbers."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from lakebed.ingest.sources.lines import LinesReader
from lakebed.ingest.sources.reader import (
    Batch,
    Beginning,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    without_doubles,
)
from lakebed.ingest.sources.records import (
    Dialect,
    Piece,
    Sorted,
    hides_escapes,
    pieces,
    sort_records,
    split_record,
)
from lakebed.ingest.sources.streams import Stream, blocks, opened_stream, prefetch
from lakebed.spec.sources import CsvFiles

CSV_BLOCK_BYTES = 5 * 2**20
"""pandera takes 15 ms for a batch of 16 columns, however few rows it has."""
PARSERS = 1
"""One thread makes frames faster than they are checked; more would hold more of them."""
HEAD_BYTES = 1 << 16
LONGEST_HEAD_BYTES = 1 << 22
UNREADABLE = (pa.ArrowInvalid, OSError, EOFError, zipfile.BadZipFile, zlib.error)
_NULL = b"\0null\0"
"""Stands for a null string that begins with the escape character, such as \\N; no text holds it."""


class CsvReader(LinesReader):
    """Reads CsvFiles."""

    suffixes = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz", ".csv.zst", ".tsv.zst",
                ".txt.zst", ".zip")  # fmt: skip
    archives = True

    def __init__(self, source: CsvFiles, data: Path) -> None:
        """Read the files of source below data."""
        super().__init__(source, data)
        self._source = source
        self._expected: Mapping[str, pa.DataType] = {}
        self.encoding = source.encoding
        self.escape = source.escape.encode() if source.escape else None
        self._dialect = Dialect(
            delimiter=source.delimiter.encode(),
            quote=source.quote.encode() if source.quote else None,
            escape=self.escape,
            doubled_quotes=source.doubled_quotes,
            multiline=source.multiline,
            comment=source.comment.encode() if source.comment else None,
        )

    def expect(self, types: Mapping[str, pa.DataType]) -> None:
        """Read whole numbers, dates and text as what they are where Arrow can, or as bytes."""
        self._expected = types

    def _names(self, item: SourceItem) -> list[str]:
        return self._head(item)[0]

    def _lines(self, item: SourceItem, columns: list[str], beginning: Beginning) -> Iterator[Batch]:
        try:
            yield from self._read(item, columns, beginning)
        except UNREADABLE as error:
            raise SourceError(item.path, f"it cannot be read ({first_line(error)})") from error

    def _read(self, item: SourceItem, columns: list[str], beginning: Beginning) -> Iterator[Batch]:
        names, begin = self._head(item)
        expected = self._expected if beginning.bytes == 0 else {}
        parse = _Parse(self._source, self._dialect, names, columns, expected)
        hashed = self._hashed(item, beginning)
        with opened_stream(item.path, self._source.encoding, hashed, beginning.bytes) as stream:
            if beginning.bytes == 0:
                _pass_over(stream, begin)
            found = pieces(blocks(stream, CSV_BLOCK_BYTES), self._dialect, len(names))
            number = beginning.rows
            for parsed in prefetch(found, parse, PARSERS):
                yield parsed.batch(number)
                number += parsed.count
                if parsed.sorted is not None and parsed.sorted.too_long:
                    raise SourceError(item.path, f"row {number + 1} {parsed.sorted.too_long}")

    def _head(self, item: SourceItem) -> tuple[list[str], int]:
        """Return the names of the columns, and after how many bytes of UTF-8 the rows begin."""
        source = self._source
        if item.bytes == 0:
            raise SourceError(
                item.path, "the file is empty, without even a header; deliver it again"
            )
        try:
            with opened_stream(item.path, source.encoding) as stream:
                head = _lines_of_head(stream, source.skip_rows + 1)
            line, begin = _header_line(head, source)
            if source.columns:
                return list(source.columns), begin
            if not line.strip():
                raise SourceError(item.path, "there is no header line in it; deliver it again")
            names = [value.decode() for value in split_record(line, self._dialect)]
        except UnicodeDecodeError as error:
            raise SourceError(
                item.path,
                f"its header cannot be read as {source.encoding} ({first_line(error)}); name the "
                "encoding, such as encoding='latin-1' or 'utf-16'",
            ) from error
        except UNREADABLE as error:
            raise SourceError(
                item.path, f"its header cannot be read ({first_line(error)})"
            ) from error
        return without_doubles(item, names), begin


@dataclass(frozen=True)
class _Parsed:
    """A piece as a frame. count: of its records, with the malformed ones.

    plain: gives the same piece as text, where it is not.
    """

    frame: pl.DataFrame
    sorted: Sorted | None
    count: int
    plain: Callable[[], _Parsed] | None = None

    def batch(self, before: int) -> Batch:
        """Return it with its numbers, of which as many were given as before says."""
        if self.sorted is None:
            numbers = pl.int_range(before + 1, before + 1 + self.frame.height, eager=True)
            plain = self.plain
            again = None if plain is None else lambda: plain().batch(before)
            return Batch(self.frame, numbers, texts=self.frame.columns, plain=again)
        malformed = tuple((before + n, problem, text) for n, problem, text in self.sorted.malformed)
        numbers = pl.Series(self.sorted.numbers, dtype=pl.Int64) + before
        return Batch(self.frame, numbers, malformed, texts=self.frame.columns)


class _Parse:
    """Makes frames of pieces; does not mind several threads."""

    def __init__(
        self,
        source: CsvFiles,
        dialect: Dialect,
        names: list[str],
        columns: list[str],
        expected: Mapping[str, pa.DataType],
    ) -> None:
        self._dialect = dialect
        self._names = names
        self._columns = columns
        self._options = pacsv.ParseOptions(
            delimiter=source.delimiter,
            quote_char=source.quote or False,
            double_quote=source.doubled_quotes,
            escape_char=source.escape or False,
            newlines_in_values=True,
            # In a file of one column an empty line is a row, as it is for COPY.
            ignore_empty_lines=len(names) > 1,
        )
        escaped = [n for n in source.null_strings if source.escape and n.startswith(source.escape)]
        nulls = [null for null in source.null_strings if null not in escaped]
        self._escaped_nulls = _EscapedNulls(escaped, dialect) if escaped else None
        text = dict.fromkeys(names, pa.binary())
        self._convert, self._typed = (
            pacsv.ConvertOptions(
                column_types=types,
                include_columns=columns,
                null_values=[*nulls, _NULL.decode()] if escaped else nulls,
                strings_can_be_null=True,
                quoted_strings_can_be_null=source.quoted_nulls,
                check_utf8=True,
            )
            for types in (text, text | {n: expected[n] for n in columns if n in expected})
        )
        self._is_typed = not expected.keys().isdisjoint(columns)

    def __call__(self, piece: Piece) -> _Parsed:
        found = piece.sorted
        if found is None and self._is_typed and not _holds_hexadecimal(piece.data):
            try:
                frame = self._frame(piece.data, self._typed)
            except pa.ArrowInvalid:
                pass
            else:
                return _Parsed(frame, None, frame.height, lambda: self._as_text(piece))
        return self._as_text(piece)

    def _as_text(self, piece: Piece) -> _Parsed:
        found = piece.sorted
        if found is None:
            try:
                frame = self._frame(piece.data, self._convert)
            except pa.ArrowInvalid:
                found = sort_records(piece.data, self._dialect, len(self._names), final=True)
            else:
                return _Parsed(frame, None, frame.height)
        frame = self._frame(found.good, self._convert)
        if frame.height != len(found.numbers):
            raise pa.ArrowInvalid(
                f"{len(found.numbers)} lines were read as {frame.height} rows; check quote, escape"
            )
        return _Parsed(frame, found, found.count)

    def _frame(self, data: bytes, convert: pacsv.ConvertOptions) -> pl.DataFrame:
        if not data.strip(b"\r\n") and (len(self._names) > 1 or not data):
            return pl.DataFrame(schema=dict.fromkeys(self._columns, pl.Binary))
        if self._escaped_nulls is not None:
            data = self._escaped_nulls.marked(data)
        return frame_of(
            pacsv.read_csv(
                pa.BufferReader(data),
                read_options=pacsv.ReadOptions(
                    use_threads=False, block_size=len(data) + 1, column_names=self._names
                ),
                parse_options=self._options,
                convert_options=convert,
            )
        )


def _holds_hexadecimal(data: bytes) -> bool:
    """Whether there may be a number such as 0x1F, which Arrow reads as one and a cast does not."""
    return b"0x" in data or b"0X" in data


class _EscapedNulls:
    r"""Marks each \N that is a whole value: the parser would take its backslash away."""

    def __init__(self, nulls: list[str], dialect: Dialect) -> None:
        assert dialect.escape is not None
        self._dialect = dialect
        escape = re.escape(dialect.escape)
        marks = re.escape(dialect.delimiter) + rb"\r\n"
        edge = rb"[" + marks + rb"]"
        begin = rb"(?:(?<=" + edge + rb")|(?<![\s\S]))"
        words = b"|".join(re.escape(null.encode()) for null in nulls)
        null = begin + rb"(?:" + words + rb")(?=" + edge + rb"|\Z)"
        self._null = re.compile(null)
        self._escaped_edge = re.compile(escape + edge + escape)
        # What follows an escaped character in a value without quotes belongs to it.
        rest = rb"(?:" + escape + rb"." + rb"[^" + marks + escape + rb"]*+)++"
        others = begin + dialect.quoted + rb"|" + rest
        self._null_or_others = re.compile(rb"(" + null + rb")|" + others, re.S)

    def marked(self, data: bytes) -> bytes:
        """Return whole records with the marks."""
        if self._escaped_edge.search(data) or hides_escapes(data, self._dialect):
            return self._null_or_others.sub(lambda found: _NULL if found[1] else found[0], data)
        return self._null.sub(_NULL, data)


def _lines_of_head(stream: Stream, lines: int) -> bytes:
    """Read until that many lines are there, or the end."""
    head = b""
    while len(head) < LONGEST_HEAD_BYTES:
        more = stream.read(HEAD_BYTES)
        head += more
        if not more or head.count(b"\n") + head.count(b"\r") > 2 * lines + 1:
            break
    return head


def _header_line(head: bytes, source: CsvFiles) -> tuple[bytes, int]:
    """Return the header line, and where the line after it begins."""
    lines = head.splitlines(keepends=True)
    skipped = lines[: source.skip_rows]
    begin = sum(map(len, skipped))
    rest = lines[source.skip_rows :]
    comment = source.comment.encode() if source.comment else None
    while rest and comment is not None and rest[0].startswith(comment):
        begin += len(rest.pop(0))
    if source.columns:
        return b"", begin
    line = rest[0] if rest else b""
    return line, begin + len(line)


def _pass_over(stream: Stream, count: int) -> None:
    while count > 0 and (passed := stream.read(count)):
        count -= len(passed)
