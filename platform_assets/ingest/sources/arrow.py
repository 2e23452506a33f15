"""Arrow IPC: files, batch by batch, and streams, which may be compressed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.ingest.sources.files import FileReader
from lakebed.ingest.sources.parquet import OTHER_TYPE
from lakebed.ingest.sources.places import is_url, open_file
from lakebed.ingest.sources.reader import (
    BATCH_ROWS,
    Batch,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    row_numbers,
    types_of,
    without_doubles,
)
from lakebed.ingest.sources.streams import bytes_at, codec_of, opened_stream, with_packed

FILE_MAGIC = b"ARROW1"
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


class ArrowReader(FileReader):
    """Reads ArrowFiles."""

    suffixes = (*with_packed(".arrow", ".arrows", ".ipc"), ".feather")

    def _names(self, item: SourceItem) -> list[str]:
        with _opened(item) as (schema, _):
            return without_doubles(item, list(schema.names))

    def _types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        with _opened(item) as (schema, _):
            return types_of(schema)

    def doubt_of_end(self, item: SourceItem) -> str | None:
        """Return whether a stream has no end mark: cut off between two batches, it still reads."""
        if codec_of(item.path) is not None:
            return None  # a compressed file has its own end mark
        if bytes_at(item.path, 0, len(FILE_MAGIC)) == FILE_MAGIC:
            return None
        begin = max(item.bytes - len(END_OF_STREAM), 0)
        if bytes_at(item.path, begin, len(END_OF_STREAM)) == END_OF_STREAM:
            return None
        return "the stream has no end mark"

    def _rows(
        self, item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
    ) -> Iterator[Batch]:
        row = 1
        try:
            with _opened(item) as (_, batches):
                for whole in batches:
                    for begin in range(0, whole.num_rows, BATCH_ROWS):
                        part = whole.select(columns).slice(begin, BATCH_ROWS)
                        frame = frame_of(pa.Table.from_batches([part]))
                        yield Batch(frame, row_numbers(row, frame.height))
                        row += frame.height
        except pa.ArrowNotImplementedError as error:
            raise SourceError(
                item.path, f"it has a type that cannot be read ({first_line(error)}); {OTHER_TYPE}"
            ) from error
        except (pa.ArrowInvalid, OSError) as error:
            raise SourceError(
                item.path, f"it is damaged after row {row - 1} ({first_line(error)})"
            ) from error


@contextmanager
def _opened(item: SourceItem) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """Open a file or a stream, whichever it is. Raises SourceError."""
    if item.bytes == 0:
        raise SourceError(item.path, "the file is empty (0 bytes); deliver it again")
    if codec_of(item.path) is not None:
        with opened_stream(item.path, None) as stream:
            opened = _begun(item, pa.ipc.open_stream, stream)
            yield opened.schema, iter(opened)
        return
    source = (
        pa.PythonFile(open_file(item.path), mode="r") if is_url(item.path) else pa.OSFile(item.path)
    )
    with source:
        is_file = source.read(len(FILE_MAGIC)) == FILE_MAGIC
        source.seek(0)
        if is_file:
            opened = _begun(item, pa.ipc.open_file, source)
            yield opened.schema, map(opened.get_batch, range(opened.num_record_batches))
        else:
            opened = _begun(item, pa.ipc.open_stream, source)
            yield opened.schema, iter(opened)


def _begun(item: SourceItem, opener: Any, source: Any) -> Any:
    try:
        return opener(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise SourceError(
            item.path,
            f"it is not a whole Arrow file or stream ({first_line(error)}); deliver it again",
        ) from error
