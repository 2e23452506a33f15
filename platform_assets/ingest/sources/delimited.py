"""Read CSV files: every value as bytes, and lines that are not rows with their numbers."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from lakebed.ingest.sources.dialect import Dialect
from lakebed.ingest.sources.header import read_head
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
from lakebed.ingest.sources.records import Piece, Sorted, pieces, sort_records, split_record
from lakebed.ingest.sources.rewriting import NULL, Rewriting
from lakebed.ingest.sources.streams import (
    Stream,
    blocks,
    opened_stream,
    packed_as,
    prefetch,
    with_packed,
)
from lakebed.spec.sources import CopyFiles, CsvFiles

CSV_BLOCK_BYTES = 5 * 2**20
"""pandera takes 15 ms for a batch of 16 columns, however few rows it has."""
PARSERS = 1
"""One thread makes frames faster than they are checked; more would hold more of them."""
UNREADABLE = (pa.ArrowInvalid, OSError, EOFError, zipfile.BadZipFile, zlib.error)


class CsvReader(LinesReader):
    """Reads CsvFiles."""

    suffixes = (*with_packed(".csv", ".tsv", ".txt"), ".zip")
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
            initial_space=source.skip_initial_space,
            short_lines=source.short_lines == "null",
            copy_text=isinstance(source, CopyFiles),
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
        names, begin, line_end = self._head(item)
        expected = self._expected if beginning.bytes == 0 else {}
        dialect = replace(self._dialect, line_end=line_end)
        parse = _Parse(self._source, dialect, names, columns, expected)
        hashed = self._hashed(item, beginning)
        with opened_stream(item.path, self._source.encoding, hashed, beginning.bytes) as stream:
            if beginning.bytes == 0:
                _pass_over(stream, begin)
            found = pieces(blocks(stream, CSV_BLOCK_BYTES), dialect, len(names))
            number = beginning.rows
            for parsed in prefetch(found, parse, PARSERS):
                yield parsed.batch(number)
                number += parsed.count
                if parsed.sorted is not None and parsed.sorted.too_long:
                    raise SourceError(item.path, f"row {number + 1} {parsed.sorted.too_long}")

    def _head(self, item: SourceItem) -> tuple[list[str], int, bytes | None]:
        """Return the names of the columns, where in UTF-8 the rows begin, and what ends a line."""
        source = self._source
        if item.bytes == 0:
            raise SourceError(
                item.path, "the file is empty, without even a header; deliver it again"
            )
        try:
            with opened_stream(item.path, source.encoding) as stream:
                has_header = not source.columns
                head = read_head(stream, self._dialect, source.skip_rows, has_header=has_header)
            line_end = head.line_end if source.line_breaks == "first" else None
            if source.columns:
                return list(source.columns), head.begin, line_end
            if not head.header.strip():
                raise SourceError(
                    item.path, "it has no header line; deliver it again, or declare columns=(...)"
                )
            if (packed := packed_as(head.header)) is not None:
                raise SourceError(
                    item.path, f"it is packed as {packed}. Name it so, or deliver it unpacked"
                )
            names = [value.decode() for value in split_record(head.header, self._dialect)]
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
        return without_doubles(item, names), head.begin, line_end


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
            # In a file of one column an empty line is a row, as for COPY.
            ignore_empty_lines=len(names) > 1,
        )
        escaped = [n for n in source.null_strings if source.escape and n.startswith(source.escape)]
        nulls = [null for null in source.null_strings if null not in escaped]
        self._rewriting = Rewriting(dialect, len(names), escaped)
        text = dict.fromkeys(names, pa.binary())
        self._convert, self._typed = (
            pacsv.ConvertOptions(
                column_types=types,
                include_columns=columns,
                null_values=[*nulls, NULL.decode()] if self._rewriting.marks_nulls else nulls,
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
        data = self._rewriting(data)
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


def _pass_over(stream: Stream, count: int) -> None:
    while count > 0 and (passed := stream.read(count)):
        count -= len(passed)
