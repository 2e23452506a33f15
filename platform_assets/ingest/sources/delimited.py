"""CSV files: every value as bytes, lines that are no rows told apart with their numbers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv

from platform_assets.ingest.sources.broken_utf8 import BrokenUtf8
from platform_assets.ingest.sources.files import FileReader
from platform_assets.ingest.sources.reader import (
    Batch,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    row_numbers,
    without_doubles,
)
from platform_assets.sources import CsvFiles

CSV_BLOCK_BYTES = 8 * 2**20
HEAD_BYTES = 1 << 16
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


class CsvReader(FileReader):
    """Reads CsvFiles."""

    def __init__(self, source: CsvFiles, data: Path) -> None:
        """Read the files of source below data."""
        super().__init__(source.glob, data)
        self._source = source

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names in a file's header. Raises SourceError."""
        return _header(self._source, item)

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return no type for any column: all is text. Raises SourceError."""
        return dict.fromkeys(self.columns(item))

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows; nothing can be left out of a CSV file."""
        return _csv_batches(self._source, item, columns)


def _open_csv(item: SourceItem) -> pa.NativeFile:
    compression = COMPRESSED.get(Path(item.path).suffix)
    return pa.input_stream(item.path, compression=compression)


def _header(source: CsvFiles, item: SourceItem) -> list[str]:
    if item.bytes == 0:
        raise SourceError(item.path, "the file is empty, without even a header; deliver it again")
    try:
        with _open_csv(item) as stream:
            head = stream.read(HEAD_BYTES)
        if not head.strip():
            raise SourceError(item.path, "there is no header line in it; deliver it again")
        options = pacsv.ReadOptions(block_size=max(len(head), 1024))
        line = head.splitlines()[0] + b"\n"
        table = pacsv.read_csv(
            pa.BufferReader(line), read_options=options, parse_options=_parse_options(source)
        )
        names: list[str] = table.schema.names
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise SourceError(item.path, f"its header cannot be read ({first_line(error)})") from error
    names[0] = names[0].removeprefix("\ufeff")
    return without_doubles(item, names)


class _Stream(io.RawIOBase):
    """Passes bytes on as UTF-8, and counts the quotes: an odd number leaves one open to the end."""

    def __init__(self, stream: pa.NativeFile, quote: str, broken: BrokenUtf8) -> None:
        self.stream = stream
        self.quote = quote.encode()
        self.broken = broken
        self.count = 0
        self.over = b""  # marks are longer than what they stand for

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = CSV_BLOCK_BYTES if size < 0 else size
        data = self.over
        while len(data) < size:  # pyarrow takes what it gets for a block, and wants whole ones
            block: bytes = self.stream.read(size - len(data))
            self.count += block.count(self.quote)
            data += self.broken.mark(block)
            if not block:
                break
        self.over = data[size:]
        return data[:size]


def _csv_batches(source: CsvFiles, item: SourceItem, columns: list[str]) -> Iterator[Batch]:
    header = _header(source, item)
    with _open_csv(item) as stream:
        head = stream.read(HEAD_BYTES)
        _, _, rest = head.replace(b"\r", b"\n").partition(b"\n")
        if len(head) < HEAD_BYTES and not rest.strip():
            return  # pyarrow wants a row after the lines that it skips
    malformed: list[tuple[int, str, str]] = []
    broken = BrokenUtf8()

    def put_aside(row: pacsv.InvalidRow) -> str:
        problem = f"{row.actual_columns} values for {row.expected_columns} columns"
        malformed.append((row.number - 1, problem, broken.shown(row.text)))  # no header
        return "skip"

    try:
        with (
            _open_csv(item) as stream,
            pacsv.open_csv(
                counter := _Stream(stream, source.quote, broken),
                # Row numbers of malformed lines are only known when one thread reads.
                read_options=pacsv.ReadOptions(
                    use_threads=False,
                    block_size=CSV_BLOCK_BYTES,
                    column_names=header,
                    skip_rows=1,
                ),
                parse_options=_parse_options(source, put_aside),
                convert_options=pacsv.ConvertOptions(
                    column_types=dict.fromkeys(header, pa.binary()),
                    include_columns=columns,
                    null_values=list(source.null_strings),
                    strings_can_be_null=True,
                    check_utf8=False,
                ),
            ) as reader,
        ):
            row = 1
            skipped: list[int] = []  # the reader may be a block ahead of the batch that it gives
            for batch in reader:
                frame = broken.unmark(frame_of(pa.Table.from_batches([batch])))
                skipped += [number for number, _, _ in malformed]
                numbers = row_numbers(row, frame.height + len(skipped))
                numbers = numbers.filter(~numbers.is_in(skipped)).head(frame.height)
                yield Batch(frame, numbers, tuple(malformed))
                row = numbers[-1] + 1 if frame.height else row
                skipped = [number for number in skipped if number >= row]
                malformed.clear()
            if counter.count % 2:
                raise SourceError(
                    item.path, "a quote in it is opened and never closed, and hides what follows"
                )
            if malformed:
                empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.Binary))
                yield Batch(empty, row_numbers(row, 0), tuple(malformed))
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise SourceError(item.path, f"it cannot be read ({first_line(error)})") from error


def _parse_options(source: CsvFiles, invalid_row: Any = None) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=source.delimiter,
        quote_char=source.quote,
        newlines_in_values=True,
        invalid_row_handler=invalid_row,
    )
