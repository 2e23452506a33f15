"""Rows on the wire: Arrow batches of a Parquet file as PostgreSQL's COPY BINARY."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pgpq
import pyarrow.parquet as pq
from psycopg import sql
from psycopg.copy import LibpqWriter, QueuedLibpqWriter

from platform_assets.quality.schema import Column, arrow_schema
from resources.postgres import Connection

BATCH_ROWS = 131_072


def copy_rows(
    connection: Connection, target: sql.Composable, columns: Sequence[Column], parquet: Path
) -> int:
    """Stream a file's batches into a table; encoding runs beside the sending. Return the rows."""
    encoder = pgpq.ArrowToPostgresBinaryEncoder(arrow_schema(tuple(columns)))
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        target, sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    )
    rows = 0
    with pq.ParquetFile(parquet) as file, connection.cursor() as cursor:
        small = file.metadata.num_rows <= BATCH_ROWS
        writer = LibpqWriter(cursor) if small else QueuedLibpqWriter(cursor)
        with cursor.copy(statement, writer=writer) as copy:
            copy.write(encoder.write_header())
            for batch in file.iter_batches(BATCH_ROWS):
                copy.write(encoder.write_batch(batch))
                rows += batch.num_rows
            copy.write(encoder.finish())
    return rows
