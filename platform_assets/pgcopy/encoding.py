"""Rows on the wire: Arrow batches of a Parquet file as PostgreSQL's COPY BINARY."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pgpq
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from psycopg import sql

from lakebed.pgcopy.arrays import array_wire
from lakebed.pgcopy.background import prefetch
from lakebed.pgcopy.literals import LITERAL_TYPES
from lakebed.pgcopy.wire import COLUMN, big_endian, select, where_not_null
from lakebed.resources.postgres import Connection
from lakebed.spec.schema import Column, arrow_schema
from lakebed.spec.types import widest

CHUNK_ROWS = 16_384
"""pgpq holds the GIL while it encodes: short pieces let the sender and the reader go on."""
CHUNKS_AHEAD = 4
BATCH_ROWS = 65_536
"""Smaller batches of a Parquet file cost far more to read, in threads or not."""


def copy_rows(
    connection: Connection, target: sql.Composable, columns: Sequence[Column], parquet: Path
) -> int:
    """Stream a file's batches into a table; encoding runs ahead of sending.

    Return how many rows arrived: a trigger of the table may leave some out.
    """
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        target, sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
    )
    with pq.ParquetFile(parquet) as file, connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for chunk in prefetch(_encoded(file, tuple(columns)), CHUNKS_AHEAD):
                copy.write(chunk)
        return cursor.rowcount


def _encoded(file: pq.ParquetFile, columns: tuple[Column, ...]) -> Iterator[bytes]:
    encoder = Encoder(columns)
    yield encoder.header()
    # By place: dlt writes odd names otherwise, and Arrow takes a dot for a field inside another.
    for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
        for first in range(0, batch.num_rows, CHUNK_ROWS):
            yield encoder.rows(batch.slice(first, CHUNK_ROWS))
    yield encoder.end()


class Encoder:
    """Turns batches of the columns' Arrow types into COPY BINARY.

    Most types go as they are through pgpq. What it has no encoding for is made into bytes first,
    which it passes on.
    """

    def __init__(self, columns: Sequence[Column], *, infinities: bool = False) -> None:
        """Encode these columns, in this order.

        infinities: dates and moments may hold those of DuckDB, which pgpq takes for far-off ones.
        """
        plain = arrow_schema(tuple(columns))
        self._wires = {
            index: wire
            for index, column in enumerate(columns)
            if (wire := _wire_of(column, infinities)) is not None
        }
        self._schema = pa.schema(
            [
                field.with_type(pa.binary()) if index in self._wires else field
                for index, field in enumerate(plain)
            ]
        )
        builders = {
            field.name: pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(field)
            for field in self._schema
        }
        for column in columns:
            if column.types.literal == "jsonb":
                builders[column.name] = StringEncoderBuilder.new_with_output(
                    self._schema.field(column.name), Jsonb()
                )
        self._encoder = pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(self._schema, builders)

    def header(self) -> bytes:
        """Return what comes before all rows."""
        return self._encoder.write_header()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Return the rows of a batch."""
        if self._wires:
            arrays = [
                self._wires[index](array) if index in self._wires else array
                for index, array in enumerate(batch.columns)
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return self._encoder.write_batch(batch)

    def end(self) -> bytes:
        """Return what comes after all rows."""
        return self._encoder.finish()


def _wire_of(column: Column, infinities: bool) -> Callable[[pa.Array], pa.Array] | None:
    """Return what makes bytes of a column that pgpq cannot encode."""
    array = pa.types.is_list(column.arrow)
    kind = column.arrow.value_type if array else column.arrow
    wire = LITERAL_TYPES[column.types.literal].wire if column.types.literal else None
    # pgpq takes the elements of an array for timestamps without a zone.
    if pa.types.is_timestamp(kind) and (infinities or (array and kind.tz)):
        wire = _wire_moment
    if pa.types.is_date(kind) and infinities:
        wire = _wire_day
    if wire is None or not array:
        return wire
    return partial(_wire_array, oid=_OIDS[widest(column.postgres.removesuffix("[]"))], wire=wire)


_OIDS = {
    "uuid": 2950,
    "date": 1082,
    "timestamp without time zone": 1114,
    "timestamp with time zone": 1184,
}


def _wire_array(arrays: pa.Array, *, oid: int, wire: Callable[[pa.Array], pa.Array]) -> pa.Array:
    return array_wire(arrays, oid, wire(arrays.flatten()))


def _wire_moment(moments: pa.Array) -> pa.Array:
    since_1970 = pl.Series(moments.cast(pa.int64()))
    return where_not_null(moments, big_endian(_since_2000(since_1970, 946_684_800_000_000), "q"))


def _wire_day(days: pa.Array) -> pa.Array:
    return where_not_null(
        days, big_endian(_since_2000(pl.Series(days.cast(pa.int32())), 10_957), "i")
    )


def _since_2000(since_1970: pl.Series, epoch: int) -> pl.Series:
    """Return moments or days as PostgreSQL counts them; its infinities are the least and the most.

    DuckDB's are the most, and the same with a minus.
    """
    most, dtype = since_1970.upper_bound().item(), since_1970.dtype
    return select(
        since_1970,
        pl.when(most == COLUMN)
        .then(pl.lit(most, dtype))
        .when(-most == COLUMN)
        .then(pl.lit(-most - 1, dtype))
        .otherwise(COLUMN - epoch),
    )
