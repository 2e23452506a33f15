"""Evolved columns: columns that a source added and the model does not have.

`lakebed.evolved_column` records them in the transaction that adds them. Loads, moves and reads use
the contract's columns and these; for a column in both, the contract counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.spec.postgres_types import polars_type, types_of
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable

EVOLVED_QUERY = """\
select column_name, postgres_type, source,
  to_char(added_at at time zone 'UTC', 'YYYY-MM-DD') as added_on
from lakebed.evolved_column where table_name = {} order by position"""
"""The evolved columns of a table, whose name goes into the braces; read by `extended_by`."""


def effective(connection: Connection, table: SourceTable) -> SourceTable:
    """Return the table with its evolved columns: how it is loaded, moved and read."""
    query = sql.SQL(EVOLVED_QUERY).format(sql.Literal(table.name))
    return extended_by(table, connection.execute(query).fetchall())


def extended_by(table: SourceTable, rows: Iterable[Sequence[Any]]) -> SourceTable:
    """Return the table with the evolved columns of the rows of EVOLVED_QUERY."""
    known = {column.name.lower() for column in table.columns if not column.evolved}
    return table.extended(
        [
            evolved_column(name, postgres, source, added_on)
            for name, postgres, source, added_on in rows
            if name.lower() not in known
        ]
    )


def evolved_column(name: str, postgres: str, source: str, added_on: str) -> Column:
    """Return an evolved column. postgres: a type that `types_of` knows.  added_on: a UTC day."""
    dtype, types = polars_type(postgres), types_of(postgres)
    assert dtype is not None
    assert types is not None
    return Column(
        name=name,
        polars=dtype,
        types=types,
        nullable=True,
        unique=False,
        description=f"brought by {source} on {added_on}",
        checks=(),
        evolved=True,
    )


def utc_day(moment: datetime) -> str:
    """Return the day of a moment as EVOLVED_QUERY writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def record_statement(
    table: SourceTable, column: Column, source: str, now: datetime
) -> sql.Composed:
    """Return the statement that records an evolved column, or its wider type."""
    return sql.SQL(
        "insert into lakebed.evolved_column"
        " (table_name, column_name, postgres_type, duckdb_type, source, added_at)"
        " values ({}, {}, {}, {}, {}, {}) on conflict (table_name, column_name) do update set"
        " postgres_type = excluded.postgres_type, duckdb_type = excluded.duckdb_type,"
        " widened_at = excluded.added_at"
    ).format(table.name, column.name, column.postgres, column.duckdb, source, now.isoformat())
