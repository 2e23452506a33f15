"""Compute the figures of a table in DuckDB, in one query."""

from __future__ import annotations

import re
from decimal import Context, Decimal

import duckdb
from psycopg import sql

from lakebed.importing.figures import ColumnFigures, ComparedColumn, TableFigures

_PARTS = {
    "integer": "sum({0})::varchar, min({0}), max({0})",
    "decimal": "sum({0})::varchar, min({0}), max({0})",
    "float": "sum({0}::double), min({0}), max({0})",
    "boolean": "sum({0}::int)::varchar, null, null",
    "text": "sum(octet_length(encode({0})))::varchar, min({0}), max({0})",
    "bytes": "sum(octet_length({0}))::varchar, null, null",
    "moment": "sum(epoch_us({0}))::varchar, min(epoch_us({0})), max(epoch_us({0}))",
}
_EXACT = Context(prec=200)
_COUNTED_ONLY = "null, null, null"
_LIKE = {
    "integer": r"U?(TINY|SMALL|BIG)?INT(EGER)?",
    "decimal": r"DECIMAL\(.*\)|U?(BIG|HUGE)INT",
    "float": r"FLOAT|DOUBLE",
    "boolean": r"BOOLEAN",
    "text": r"VARCHAR",
    "bytes": r"BLOB",
    "moment": r"TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?|DATE|TIME",
}
"""The types of DuckDB whose figures are those of a kind; of others only values are counted."""


def duckdb_figures(
    connection: duckdb.DuckDBPyConnection, table: str, columns: list[ComparedColumn]
) -> TableFigures:
    """Return the figures of a table of the schema main of a DuckDB file."""
    types = dict(
        connection.execute(
            "select column_name, data_type from duckdb_columns()"
            " where schema_name = 'main' and table_name = ?",
            [table],
        ).fetchall()
    )
    parts = ["count(*)"]
    alike = {}
    for column in columns:
        name = sql.Identifier(column.source).as_string()
        kind = types.get(column.source, "")
        alike[column.name] = re.fullmatch(_LIKE[column.kind], kind) is not None
        figures = _PARTS[column.kind] if alike[column.name] else _COUNTED_ONLY
        parts += [f"count({name})", figures.format(name)]
    relation = sql.Identifier("main", table).as_string()
    (row,) = connection.execute(f"select {', '.join(parts)} from {relation}").fetchall()  # noqa: S608
    found = {}
    for number, column in enumerate(columns):
        values, total, least, greatest = row[1 + 4 * number : 5 + 4 * number]
        if not alike[column.name]:
            found[column.name] = ColumnFigures(values, unlike=values)
            continue
        exact = column.kind != "float"
        found[column.name] = ColumnFigures(
            values,
            _last_digits(total, column.scale) if exact else total,
            _last_digits(least, column.scale) if column.kind == "decimal" else least,
            _last_digits(greatest, column.scale) if column.kind == "decimal" else greatest,
        )
    return TableFigures(row[0], found)


def _last_digits(value: str | Decimal | None, scale: int) -> int | None:
    """Return a number as a whole number of its last digit."""
    return None if value is None else int(Decimal(value).scaleb(scale, _EXACT))
