"""Rows of cold files on their way back into PostgreSQL: read by DuckDB, encoded, copied.

Values of a type that DuckDB does not have are text in the file, and are encoded from that text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import duckdb
import polars as pl
import pyarrow as pa
from psycopg import sql

from lakebed.pgcopy.encoding import Encoder
from lakebed.pgcopy.literals import LITERAL_TYPES
from lakebed.resources.layouts import typed
from lakebed.resources.postgres import Connection
from lakebed.spec.schema import Column, arrow_schema

BATCH_ROWS = 65_536


def copy_cold_rows(
    connection: Connection,
    into: sql.Composable,
    columns: Sequence[Column],
    reader: duckdb.DuckDBPyConnection,
    rows: sql.Composable,
) -> int:
    """Stream rows of cold files into a table of these columns; return how many.

    A column may be null in rows that are older than it, whatever the contract says.
    rows: DuckDB's query of the columns as the files have them.  Raises ValueError where a text in
    a file is not a value of its type.
    """
    columns = [replace(column, nullable=True) for column in columns]
    schema = arrow_schema(tuple(columns))
    encoder = Encoder(columns, infinities=True)
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        into, sql.SQL(", ").join(map(sql.Identifier, schema.names))
    )
    query = sql.SQL("select {} from ({})").format(_in_arrow(columns), rows)
    batches = reader.execute(query.as_string()).to_arrow_reader(BATCH_ROWS)
    count = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(encoder.header())
        for batch in batches:
            copy.write(encoder.rows(_read(batch, columns).cast(schema)))
            count += batch.num_rows
        copy.write(encoder.end())
    return count


def _in_arrow(columns: Sequence[Column]) -> sql.Composable:
    def kind(column: Column) -> str:
        if not column.types.literal:
            return column.duckdb
        return "VARCHAR[]" if pa.types.is_list(column.arrow) else "VARCHAR"

    return sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(
            sql.Identifier(column.name), sql.SQL(kind(column))
        )
        for column in columns
    )


def _read(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """Bring the texts of types that travel as text into their one form."""
    arrays = list(batch.columns)
    for index, column in enumerate(columns):
        if column.types.literal is None or pa.types.is_list(column.arrow):
            continue
        literal = LITERAL_TYPES[column.types.literal]
        if literal.wire is None:
            continue  # the text itself is what is copied
        read = literal.read(pl.Series(column.name, arrays[index], dtype=pl.String))
        if read.null_count() != arrays[index].null_count:
            raise ValueError(f"column {column.name} has a text that is not {literal.word}")
        arrays[index] = read.to_arrow().cast(pa.string())
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def as_they_are_now(columns: Sequence[Column], in_file: Mapping[str, str]) -> sql.Composable:
    """Return the select list that gives a cold file's rows the columns and types of now.

    in_file: name and PostgreSQL type of the file's columns.
    """
    return sql.SQL(", ").join(
        sql.Identifier(column.name)
        if in_file.get(column.name) == column.postgres
        else typed([(column.name, column.in_file)], in_file)
        for column in columns
    )
