"""Rows on the wire: Arrow batches of a Parquet file as PostgreSQL's COPY BINARY."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pgpq
import pyarrow.parquet as pq
from psycopg import sql

from platform_assets.ingest.beside import ahead
from platform_assets.quality.schema import Column, arrow_schema
from resources.postgres import Connection

CHUNK_ROWS = 16_384
"""pgpq holds the GIL while it encodes: short pieces let the sender and the reader go on."""
CHUNKS_AHEAD = 8


def copy_rows(
    connection: Connection, target: sql.Composable, columns: Sequence[Column], parquet: Path
) -> int:
    """Stream a file's batches into a table; encoding runs ahead of sending. Return the rows."""
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        target, sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    )
    with (
        pq.ParquetFile(parquet) as file,
        connection.cursor() as cursor,
        cursor.copy(statement) as copy,
    ):
        for chunk in ahead(_encoded(file, tuple(columns)), CHUNKS_AHEAD):
            copy.write(chunk)
        return int(file.metadata.num_rows)


def _encoded(file: pq.ParquetFile, columns: tuple[Column, ...]) -> Iterator[bytes]:
    encoder = pgpq.ArrowToPostgresBinaryEncoder(arrow_schema(columns))
    yield encoder.write_header()
    for batch in file.iter_batches(CHUNK_ROWS):
        yield encoder.write_batch(batch)
    yield encoder.finish()
