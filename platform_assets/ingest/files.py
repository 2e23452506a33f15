"""Source files: which there are, which version each is, and their rows as batches.

A batch is a polars DataFrame with the columns as the file has them (CSV: all text), with the number
of its first row. Nothing is cast or judged here.
"""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from platform_assets.catalog import CsvFiles, ParquetFiles, Source

BATCH_ROWS = 131_072
CSV_BLOCK_BYTES = 8 * 2**20
HEAD_BYTES = 1 << 16
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}


class SourceFileError(RuntimeError):
    """A file that cannot be loaded as it is; the text names the file, the fault and the way out."""

    def __init__(self, path: str, problem: str) -> None:
        """Keep the path, so that a load can leave this file out and go on with the others."""
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


@dataclass(frozen=True, order=True)
class SourceFile:
    """A file at one version. version is size-mtime_ns, so that a changed file is another.

    name: as the ledger knows it, relative to LAKEBED_DATA where it lies there, so that the data can
    be moved or mounted elsewhere.
    """

    path: str
    version: str
    bytes: int
    name: str


@dataclass(frozen=True)
class Batch:
    """Some rows of a file. numbers: of each row, from 1, without a CSV's header.

    malformed: lines that are no rows at all, as (row number, what is wrong, text).  left_out: how
    many rows before these were not read, being older than asked for.
    """

    frame: pl.DataFrame
    numbers: pl.Series
    malformed: tuple[tuple[int, str, str], ...] = ()
    left_out: int = 0


def find_files(source: Source, data: Path) -> list[SourceFile]:
    """Return the files of a source, by name. A file that vanishes meanwhile is left out."""
    pattern = str(Path(glob.escape(str(data))) / source.glob)
    found = []
    for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207  (may be absolute)
        path = Path(name)
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            inside = path.is_relative_to(data)
            label = path.relative_to(data).as_posix() if inside else str(path)
            found.append(SourceFile(str(path), _version(stat), stat.st_size, label))
    return found


def check_unchanged(file: SourceFile) -> None:
    """Make sure that a file is still at the version that was found. Raises SourceFileError."""
    try:
        version = _version(Path(file.path).stat())
    except FileNotFoundError:
        version = "gone"
    if version != file.version:
        raise SourceFileError(
            file.path, "it changed while it was read; deliver files beside and rename them"
        )


def _version(stat: os.stat_result) -> str:
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def file_columns(source: Source, file: SourceFile) -> list[str]:
    """Return the names of a file's columns, reading its head alone. Raises SourceFileError."""
    if isinstance(source, ParquetFiles):
        return _without_doubles(file, list(_parquet(file).schema_arrow.names))
    return _csv_header(source, file)


def read_batches(
    source: Source, file: SourceFile, *, columns: list[str], newer: tuple[str, Any] | None = None
) -> Iterator[Batch]:
    """Yield the rows of a file.

    columns: those to read, each in the file.  newer: (column, value) leaves out Parquet row groups
    in which no row has at least this value; rows are not filtered. Raises SourceFileError.
    """
    if isinstance(source, ParquetFiles):
        yield from _parquet_batches(file, columns, newer)
    else:
        yield from _csv_batches(source, file, columns)


def _parquet(file: SourceFile) -> pq.ParquetFile:
    if file.bytes == 0:
        raise SourceFileError(file.path, "the file is empty (0 bytes); deliver it again")
    try:
        return pq.ParquetFile(file.path)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceFileError(
            file.path, f"this is no whole Parquet file ({_first_line(error)}); deliver it again"
        ) from error


def _parquet_batches(
    file: SourceFile, columns: list[str], newer: tuple[str, Any] | None
) -> Iterator[Batch]:
    with _parquet(file) as parquet:
        row = 1
        for index in range(parquet.metadata.num_row_groups):
            rows = parquet.metadata.row_group(index).num_rows
            if newer is not None and _all_older(parquet, index, *newer):
                row += rows
                nothing = parquet.schema_arrow.empty_table().select(columns)
                yield Batch(_frame(nothing), _numbers(row, 0), left_out=rows)
                continue
            try:
                for batch in parquet.iter_batches(
                    BATCH_ROWS, row_groups=[index], columns=columns, use_threads=True
                ):
                    frame = _frame(pa.Table.from_batches([batch]))
                    yield Batch(frame.select(columns), _numbers(row, frame.height))
                    row += batch.num_rows
            except (pa.ArrowInvalid, OSError) as error:
                raise SourceFileError(
                    file.path, f"it is damaged after row {row - 1} ({_first_line(error)})"
                ) from error


def _frame(table: pa.Table) -> pl.DataFrame:
    """Raises pa.ArrowInvalid for a type that polars does not have."""
    try:
        frame = pl.from_arrow(table)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise pa.ArrowInvalid(_first_line(error)) from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _numbers(first: int, count: int) -> pl.Series:
    return pl.int_range(first, first + count, eager=True)


def _all_older(parquet: pq.ParquetFile, row_group: int, column: str, value: Any) -> bool:
    index = parquet.schema_arrow.names.index(column)
    if parquet.metadata.num_columns != len(parquet.schema_arrow.names):
        return False  # nested columns: the statistics are numbered otherwise
    statistics = parquet.metadata.row_group(row_group).column(index).statistics
    if statistics is None or not statistics.has_min_max:
        return False
    try:
        return bool(statistics.max < value)
    except (TypeError, ValueError, OverflowError):
        return False  # the file has the column in another type, or finer than Python's


def _open_csv(file: SourceFile) -> pa.NativeFile:
    compression = COMPRESSED.get(Path(file.path).suffix)
    return pa.input_stream(file.path, compression=compression)


def _csv_header(source: CsvFiles, file: SourceFile) -> list[str]:
    if file.bytes == 0:
        raise SourceFileError(
            file.path, "the file is empty, without even a header; deliver it again"
        )
    try:
        with _open_csv(file) as stream:
            head = stream.read(HEAD_BYTES)
        if not head.strip():
            raise SourceFileError(file.path, "there is no header line in it; deliver it again")
        options = pacsv.ReadOptions(block_size=max(len(head), 1024))
        line = head.splitlines()[0] + b"\n"
        table = pacsv.read_csv(
            pa.BufferReader(line), read_options=options, parse_options=_parse_options(source)
        )
        names: list[str] = table.schema.names
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise SourceFileError(
            file.path, f"its header cannot be read ({_first_line(error)})"
        ) from error
    names[0] = names[0].removeprefix("\ufeff")
    return _without_doubles(file, names)


def _without_doubles(file: SourceFile, names: list[str]) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise SourceFileError(file.path, f"column {name!r} stands in it twice")
    return names


class _QuoteCounter(io.RawIOBase):
    """Passes bytes on and counts the quotes: an odd number leaves one open to the end."""

    def __init__(self, stream: pa.NativeFile, quote: str) -> None:
        self.stream = stream
        self.quote = quote.encode()
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(None if size < 0 else size)
        self.count += data.count(self.quote)
        return data


def _csv_batches(source: CsvFiles, file: SourceFile, columns: list[str]) -> Iterator[Batch]:
    header = _csv_header(source, file)
    with _open_csv(file) as stream:
        head = stream.read(HEAD_BYTES)
        _, _, rest = head.replace(b"\r", b"\n").partition(b"\n")
        if len(head) < HEAD_BYTES and not rest.strip():
            return  # pyarrow wants a row after the lines that it skips
    malformed: list[tuple[int, str, str]] = []

    def put_aside(row: pacsv.InvalidRow) -> str:
        problem = f"{row.actual_columns} values for {row.expected_columns} columns"
        malformed.append((row.number - 1, problem, row.text))  # without the header
        return "skip"

    try:
        with (
            _open_csv(file) as stream,
            pacsv.open_csv(
                counter := _QuoteCounter(stream, source.quote),
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
                frame = _frame(pa.Table.from_batches([batch]))
                skipped += [number for number, _, _ in malformed]
                numbers = _numbers(row, frame.height + len(skipped))
                numbers = numbers.filter(~numbers.is_in(skipped)).head(frame.height)
                yield Batch(frame, numbers, tuple(malformed))
                row = numbers[-1] + 1 if frame.height else row
                skipped = [number for number in skipped if number >= row]
                malformed.clear()
            if counter.count % 2:
                raise SourceFileError(
                    file.path, "a quote in it is opened and never closed, and hides what follows"
                )
            if malformed:
                empty = pl.DataFrame(schema=dict.fromkeys(columns, pl.Binary))
                yield Batch(empty, _numbers(row, 0), tuple(malformed))
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise SourceFileError(file.path, f"it cannot be read ({_first_line(error)})") from error


def _parse_options(source: CsvFiles, invalid_row: Any = None) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=source.delimiter,
        quote_char=source.quote,
        newlines_in_values=True,
        invalid_row_handler=invalid_row,
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
