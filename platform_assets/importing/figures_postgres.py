"""Compute the figures of a table in PostgreSQL, in one query."""

from __future__ import annotations

from typing import LiteralString

import polars as pl
from psycopg import sql

from lakebed.importing.figures import ColumnFigures, ComparedColumn, TableFigures
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

_NONE: LiteralString = "null, null, null"

_FIGURES: dict[str, LiteralString] = {
    "integer": "sum({0})::numeric, min({0})::numeric, max({0})::numeric",
    "decimal": ("trunc(sum({0} * {1})), trunc(min({0}) * {1}), trunc(max({0}) * {1})"),
    "float": "sum({0}::float8), min({0})::float8, max({0})::float8",
    "boolean": "sum({0}::int)::numeric, null, null",
    "text": 'sum(octet_length({0}))::numeric, min({0} collate "C"), max({0} collate "C")',
    "bytes": "sum(octet_length({0}))::numeric, null, null",
}


def postgres_figures(
    connection: Connection, table: SourceTable, columns: list[ComparedColumn]
) -> TableFigures:
    """Return the figures of a table's hot rows."""
    parts: list[sql.Composable] = [sql.SQL("count(*)")]
    for column in columns:
        name = sql.Identifier(column.name)
        parts.append(sql.SQL("count({})").format(name))
        if column.kind == "moment":
            micros: LiteralString = "extract(epoch from {})::numeric * 1000000"
            if column.dtype == pl.Date:
                micros = "({} - date '1970-01-01')::numeric * 86400000000"
            moment = sql.SQL(micros).format(name)
            parts.append(
                sql.SQL("trunc(sum({0})), trunc(min({0})), trunc(max({0}))").format(moment)
            )
        else:
            power = sql.Literal(10**column.scale)
            parts.append(sql.SQL(_FIGURES.get(column.kind, _NONE)).format(name, power))
    query = sql.SQL("select {} from {}").format(sql.SQL(", ").join(parts), table.relation)
    (row,) = connection.execute(query).fetchall()
    figures = {}
    for number, column in enumerate(columns):
        values, *rest = row[1 + 4 * number : 5 + 4 * number]
        exact = column.kind in ("integer", "decimal", "moment")
        total, least, greatest = rest
        figures[column.name] = ColumnFigures(
            values,
            total if total is None or column.kind == "float" else int(total),
            least if least is None or not exact else int(least),
            greatest if greatest is None or not exact else int(greatest),
        )
    return TableFigures(row[0], figures)
