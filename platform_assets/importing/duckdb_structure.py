"""Read the structure of a DuckDB file from its catalogue; expressions are parsed by sqlglot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from lakebed.importing.expressions import UntranslatableError, index_parts, translate
from lakebed.importing.structure import (
    DatabaseStructure,
    ImportSourceError,
    LeftOut,
    SourceCheck,
    SourceForeignKey,
    SourceIndex,
    TableStructure,
)
from lakebed.ingest.sources.reader import first_line

_DIALECT = "duckdb"
_AGAIN = "write it again in SQL of PostgreSQL, or as a model"


def read_duckdb(
    database: Path, columns: Mapping[str, Mapping[str, str]], booleans: Mapping[str, frozenset[str]]
) -> DatabaseStructure:
    """Read the structure of tables of the schema main of a DuckDB file.

    Args:
        database: The file.
        columns: The tables to read, by name, with the names here of their columns.
        booleans: The boolean columns of each table, by their names here.

    Raises:
        ImportSourceError: DuckDB cannot read the file.
    """
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            tables = tuple(
                _table(connection, name, names, booleans.get(name, frozenset()))
                for name, names in columns.items()
            )
            views = connection.execute(
                "select view_name, sql from duckdb_views() where not internal order by 1"
            ).fetchall()
    except duckdb.Error as error:
        raise ImportSourceError(
            f"{database}: DuckDB cannot read it ({first_line(error)})"
        ) from error
    return DatabaseStructure(
        tables, tuple(LeftOut("view", name, text, _AGAIN) for name, text in views)
    )


def _table(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    ours: Mapping[str, str],
    booleans: frozenset[str],
) -> TableStructure:
    names = {source.lower(): name for source, name in ours.items()}
    left_out: list[LeftOut] = []

    def ask(query: str) -> list[tuple[Any, ...]]:
        found = connection.execute(
            f"{query} where schema_name = 'main' and table_name = ?", [table]
        )
        return found.fetchall()

    key: tuple[str, ...] = ()
    indexes: list[SourceIndex] = []
    checks: list[SourceCheck] = []
    foreign: dict[SourceForeignKey, None] = {}
    for kind, columns, text, name, parent, theirs in ask(
        "select constraint_type, constraint_column_names, expression, constraint_name,"
        " referenced_table, referenced_column_names from duckdb_constraints()"
    ):
        if kind == "PRIMARY KEY":
            key = tuple(columns)
        elif kind == "UNIQUE":
            indexes.append(SourceIndex("", tuple(columns), unique=True))
        elif kind == "FOREIGN KEY":
            foreign[SourceForeignKey(tuple(columns), parent, tuple(theirs))] = None
        elif kind == "CHECK":
            try:
                checks.append(SourceCheck(translate(text, _DIALECT, names, booleans), name))
            except UntranslatableError as error:
                left_out.append(LeftOut("check", f"{table}.{name}", text, str(error)))
    for name, unique, text in ask("select index_name, is_unique, sql from duckdb_indexes()"):
        try:
            where, parts = index_parts(text, _DIALECT, names, booleans)
        except UntranslatableError as error:
            left_out.append(LeftOut("index", f"{table}.{name}", text, str(error)))
        else:
            indexes.append(_index(name, unique, where, parts, ours))
    identity, defaults = None, {}
    for name, text in ask("select column_name, column_default from duckdb_columns()"):
        if text is None or text.upper() == "NULL":
            continue
        if re.match(r"nextval\(", text, re.IGNORECASE):
            identity = name
            continue
        try:
            defaults[name] = translate(text, _DIALECT, {})
        except UntranslatableError as error:
            left_out.append(LeftOut("default", f"{table}.{name}", text, str(error)))
    return TableStructure(
        table, key, identity, defaults, tuple(indexes), tuple(foreign), tuple(checks),
        tuple(left_out),
    )  # fmt: skip


def _index(
    name: str, unique: bool, where: str | None, parts: tuple[str, ...], ours: Mapping[str, str]
) -> SourceIndex:
    """Return an index by its columns, where it has columns alone."""
    columns = {f'("{name}")': source for source, name in ours.items()}
    if all(part in columns for part in parts):
        plain = tuple(columns[part] for part in parts)
        return SourceIndex(name, plain, unique, where=where)
    return SourceIndex(name, (), unique, where=where, expressions=parts)
