"""Which columns are where, in a reader's own snapshot: in cold files, evolved ones.

A column that is not there, in a table that was not altered yet or in a file from before the column,
reads as null; a column that has another type there is cast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import duckdb
from psycopg import sql

Layout = frozenset[tuple[str, str]]
"""Name and PostgreSQL type of each column of a cold file. Files of one layout are read as one."""


def rewritten_since(
    connection: duckdb.DuckDBPyConnection, tables: Collection[tuple[str, str]]
) -> list[str]:
    """Keep tables as they are until the transaction ends; return those the snapshot is too old for.

    An ALTER TABLE that writes a table anew leaves nothing in it for snapshots from before: such a
    table's file is another one in the latest catalog than in the snapshot's.
    """
    if not tables:
        return []
    names = [sql.Identifier(*table) for table in tables]
    held = sql.SQL(", ").join(
        # Takes the lock that reading takes, of the leaves too, and reads nothing.
        sql.SQL("exists (select from {} limit 0) as {}").format(name, sql.Identifier(f"t{i}"))
        for i, name in enumerate(names)
    )
    ask(connection, sql.SQL("select {}").format(held))
    query = sql.SQL(
        "with hot as (select unnest(array[{}]::regclass[]) as oid),"
        " files as (select oid from hot union"
        " select p.relid from hot, lateral pg_partition_tree(hot.oid) p)"
        " select c.relname::text as name from files join pg_class c on c.oid = files.oid"
        " where c.relfilenode <> 0 and c.relfilenode <> pg_relation_filenode(c.oid)"
    ).format(sql.SQL(", ").join(sql.Literal(name.as_string()) for name in names))
    return [name for (name,) in ask(connection, query)]


def evolved_columns(
    connection: duckdb.DuckDBPyConnection,
) -> dict[str, list[tuple[str, str]]]:
    """Return name and DuckDB type of the evolved columns of each table, in their order."""
    query = sql.SQL(
        "select table_name, column_name, duckdb_type from lakebed.evolved_column order by position"
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for table, name, kind in ask(connection, query):
        found.setdefault(table, []).append((name, kind))
    return found


def with_evolved(
    columns: Sequence[tuple[str, str]], evolved: Sequence[tuple[str, str]]
) -> tuple[tuple[str, str], ...]:
    """Return a table's columns and those that evolved; what the contract knows it says itself."""
    known = {name.lower() for name, _ in columns}
    return (*columns, *(column for column in evolved if column[0].lower() not in known))


def typed(
    columns: Sequence[tuple[str, str]],
    there: Collection[str],
    refused: Mapping[str, str] | None = None,
) -> sql.Composable:
    """Return the select list that gives columns their types, null for those that are not there.

    refused: columns whose reading fails, and the error's text.
    """
    return sql.SQL(", ").join(
        sql.SQL("cast({} as {}) as {}").format(
            _value(name, there, refused or {}), sql.SQL(kind), sql.Identifier(name)
        )
        for name, kind in columns
    )


def _value(name: str, there: Collection[str], refused: Mapping[str, str]) -> sql.Composable:
    if name in refused:
        return sql.SQL("error({})").format(sql.Literal(refused[name]))
    return sql.Identifier(name) if name in there else sql.NULL


def names_of(layout: Layout) -> frozenset[str]:
    """Return the names of a layout's columns."""
    return frozenset(name for name, _ in layout)


def ask(connection: duckdb.DuckDBPyConnection, query: sql.Composable) -> list[tuple[Any, ...]]:
    """Return what PostgreSQL answers, in the connection's transaction.

    The query goes as a literal: for a parameter DuckDB's client would import pandas, to see whether
    the value is one of its own, which takes longer than a small query.
    """
    text = sql.Literal(query.as_string())
    return connection.execute(
        sql.SQL("from postgres_query('pg', {})").format(text).as_string()
    ).fetchall()
