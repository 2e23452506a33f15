"""The columns of hot tables, cold files and evolved columns, in a reader's own snapshot.

A missing column, in a table that was not altered yet or in a file older than the column, reads as
null. A column of another type is cast.
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
    """Lock tables' definitions until the transaction ends; return those newer than the snapshot.

    After an ALTER TABLE that rewrites a table, older snapshots see no rows in it. The file of such
    a table differs between the latest catalog and the snapshot's.
    """
    if not tables:
        return []
    names = [sql.Identifier(*table) for table in tables]
    held = sql.SQL(", ").join(
        # Takes the lock of a reader, on partition tables too, and reads nothing.
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
    """Return a table's columns and those that evolved; for one in both, the contract counts."""
    known = {name.lower() for name, _ in columns}
    return (*columns, *(column for column in evolved if column[0].lower() not in known))


def typed(
    columns: Sequence[tuple[str, str]],
    there: Collection[str],
    refused: Mapping[str, str] | None = None,
) -> sql.Composable:
    """Return the select list that gives columns their types, null for missing ones.

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
    """Query PostgreSQL in the connection's transaction.

    The query is passed as a literal: for a parameter DuckDB's client would import pandas, which
    takes longer than a small query.
    """
    text = sql.Literal(query.as_string())
    return connection.execute(
        sql.SQL("from postgres_query('pg', {})").format(text).as_string()
    ).fetchall()
