"""The form in which a DuckLake client gets each column: its DuckLake type, PostgreSQL's expression.

A client reads columns of PostgreSQL's own types exactly, where DuckDB has the type and the value.
An error while a client reads hot rows would end its whole DuckDB. So no expression here can raise
one: a cast only ever widens, and a column that would need another cast keeps its table out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from psycopg import sql

from lakebed.resources.hot_columns import HotColumn

_PLAIN = {
    "SMALLINT": "int16",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOLEAN": "boolean",
    "VARCHAR": "varchar",
    "BLOB": "blob",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "TIME WITH TIME ZONE": "timetz",
    "UUID": "uuid",
    "INTERVAL": "interval",
}
_POSTGRES = {
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "BOOLEAN": "boolean",
    "VARCHAR": "text",
    "BLOB": "bytea",
    "DATE": "date",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "TIME WITH TIME ZONE": "time with time zone",
    "UUID": "uuid",
    "INTERVAL": "interval",
}
_WIDER = {
    "INTEGER": {"smallint"},
    "BIGINT": {"smallint", "integer"},
    "DOUBLE": {"real", "smallint", "integer"},
}
"""Types of PostgreSQL of which every value is one of a wider type of DuckDB."""
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_PRECISION = re.compile(r"\(\d\)")
_LAST_MOMENT = "294247-01-10 04:00:54.775807+00"
"""From here on DuckDB has no moment but infinity."""


@dataclass(frozen=True)
class ColumnForm:
    """A column as a client sees it.

    Attributes:
        name: The name.
        type: DuckLake's type; `list` for an array.
        element: DuckLake's type of an array's elements.
        hot: PostgreSQL's expression for it in a hot row.
        comment: What the table file says about it.
        checked: DuckDB's decimal, where a hot row may hold NaN: hot rows bring text, and a view
            casts it. A query that meets NaN then fails, instead of reading 0.
    """

    name: str
    type: str
    element: str | None
    hot: sql.Composable
    comment: str
    checked: str | None = None

    def as_text(self, duckdb: str) -> ColumnForm:
        """Return the column with text in hot rows, which a view casts to a DuckDB type."""
        text = sql.SQL("{}::text").format(sql.Identifier(self.name))
        return replace(self, hot=text, checked=duckdb)


def ducklake_type(duckdb: str) -> str | None:
    """Return DuckLake's name of a DuckDB type, None where it has none that clients read."""
    return f"decimal({duckdb[8:-1]})" if _DECIMAL.fullmatch(duckdb) else _PLAIN.get(duckdb)


def column_form(name: str, duckdb: str, comment: str, column: HotColumn) -> ColumnForm | str:
    """Return the form of a column, or why no form can hold it.

    Args:
        name: The name.
        duckdb: The DuckDB type that the contract gives it.
        comment: What the table file says about it.
        column: The column in PostgreSQL.
    """
    is_list = duckdb.endswith("[]")
    of = ducklake_type(duckdb.removesuffix("[]"))
    if of is None or (is_list and of == "blob"):
        return f"{name}: DuckLake clients have no form for {duckdb}"
    target = _postgres_of(duckdb.removesuffix("[]")) + ("[]" if is_list else "")
    if column.is_list != is_list or not _holds(duckdb.removesuffix("[]"), column):
        found = column.kind + ("[]" if column.is_list else "")
        return (
            f"{name}: is {found} in PostgreSQL and {duckdb} in its contract; `lakebed plan` "
            "shows what mends it"
        )
    hot = _expression(sql.Identifier(name), duckdb, target, column)
    return ColumnForm(name, "list" if is_list else of, of if is_list else None, hot, comment)


def may_be_misread(column: HotColumn, duckdb: str) -> bool:
    """Whether a hot value of the column could be one that DuckDB's type has not.

    Moments are not: those after DuckDB's last one are shown as infinity.
    """
    if duckdb == "VARCHAR" or (duckdb.startswith("TIMESTAMP") and not column.is_list):
        return False
    return column.misread() is not None


def _postgres_of(duckdb: str) -> str:
    decimal = _DECIMAL.fullmatch(duckdb)
    return f"numeric({decimal[1]},{decimal[2]})" if decimal else _POSTGRES[duckdb]


def _holds(duckdb: str, column: HotColumn) -> bool:
    """Whether DuckDB's type has every value of a column's, apart from those that are misread."""
    kind = _PRECISION.sub("", column.kind) if column.kind.startswith("time") else column.kind
    if duckdb == "VARCHAR":
        return not column.is_list or kind in ("text", "inet") or column.is_enum
    decimal = _DECIMAL.fullmatch(duckdb)
    if decimal is None:
        return kind == _POSTGRES[duckdb] or kind in _WIDER.get(duckdb, ())
    precision, scale = int(decimal[1]), int(decimal[2])
    if kind in _DIGITS:
        return precision - scale >= _DIGITS[kind]
    numeric = _NUMERIC.fullmatch(kind)
    if numeric is None:
        return False
    return int(numeric[2]) <= scale and int(numeric[1]) - int(numeric[2]) <= precision - scale


def _expression(
    name: sql.Identifier, duckdb: str, target: str, column: HotColumn
) -> sql.Composable:
    value = sql.SQL("{}::{}").format(name, sql.SQL(target))
    if duckdb.startswith("TIMESTAMP") and not column.is_list:
        return sql.SQL(
            "case when {0} >= {1}::{2} and {0} < 'infinity' then 'infinity' else {3} end"
        ).format(name, sql.Literal(_LAST_MOMENT), sql.SQL(target), value)
    return value
