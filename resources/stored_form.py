"""The form in which Parquet holds a value of each DuckDB type, and the cast that restores it.

Parquet does not have all of DuckDB's types, and DuckDB then silently writes another one: HUGEINT
becomes DOUBLE, an INTERVAL loses microseconds, a TIMETZ its offset, an ENUM its order. So a column
of such a type is written in a form that holds each of its values, and read through a cast:

    HUGEINT, UHUGEINT              BIGINT, UBIGINT; text where a value is larger
    TIMESTAMP_S, TIMESTAMP_MS      TIMESTAMP; text where a value is outside of its range
    INTERVAL, TIMETZ, TIME_NS      text
    BIT, BIGNUM, ENUM              text
    lists, arrays, structs, maps, unions of those, in the same way

A type without such a form is refused by the name of the column: VARIANT, a UNION in a STRUCT or
with lists and structs among its members, types of extensions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import duckdb
from duckdb.sqltypes import DuckDBPyType
from psycopg import sql

from lakebed.errors import LakebedError

Form = Literal["narrow", "exact", "portable"]
"""narrow: quick to read, refuses some values. exact: every value. portable: for other programs."""

_AS_IT_IS = {
    *("boolean", "tinyint", "smallint", "integer", "bigint", "float", "double", "decimal"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "varchar", "blob", "uuid", "date", "time"),
    *("timestamp", "timestamp_ns", "timestamp with time zone", "geometry"),
}
_AS_TEXT = {"interval", "time with time zone", "time_ns", "bit", "bignum", "enum"}
_NARROW = {
    "hugeint": "BIGINT",
    "uhugeint": "UBIGINT",
    "timestamp_s": "TIMESTAMP",
    "timestamp_ms": "TIMESTAMP",
}
_PORTABLE = _NARROW | {"hugeint": "DECIMAL(38,0)", "uhugeint": "DECIMAL(38,0)"}
# DuckDB writes an offset of -15:00:01 as -15:01.
_TEXT_MAY_LIE = re.compile(r"\bTIME WITH TIME ZONE\b")
# And it reads no interval of a billion hours and more, though it writes them.
_FORM_MAY_LIE = re.compile(r"\b(INTERVAL|TIME WITH TIME ZONE)\b")
# Parquet has these as something else, even where all of their parts are as they are.
_NEVER_AS_IT_IS = re.compile(r"\b(UNION|GEOMETRY)\b")


class StoredColumn(NamedTuple):
    """A column of a file. kind: DuckDB's type in the query. stored: its type in the file."""

    name: str
    kind: str
    stored: str

    @property
    def is_as_queried(self) -> bool:
        """Whether the file's column has the query's own type."""
        return self.kind == self.stored and not _NEVER_AS_IT_IS.search(self.kind)


class UnstorableError(LakebedError, ValueError):
    """A column whose type cannot be stored in Parquet; the text names both."""

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        super().__init__(f"column {name!r} is of type {kind}, which Parquet cannot store")


class TooWideError(LakebedError, RuntimeError):
    """A value does not fit the narrow form of its column; the exact form holds it."""


@dataclass(frozen=True)
class Forms:
    """Which form a column is written in.

    exact: no column is in its narrow form.  before: column -> the type that it was stored in last;
    what was in its exact form stays so.
    """

    exact: bool = False
    before: Mapping[str, str] = field(default_factory=dict, hash=False)

    def columns(
        self, connection: duckdb.DuckDBPyConnection, query: sql.Composable
    ) -> tuple[StoredColumn, ...]:
        """Return the columns of a query, each with its form. Raises UnstorableError, duckdb.Error.

        Of columns with one name the later ones get the names that a file would give them.
        """
        found = []
        relation = connection.sql(sql.SQL("from ({}\n)").format(query).as_string())
        for name, kind in zip(relation.columns, relation.types, strict=True):
            exact = stored_kind(name, kind, "exact")
            use_exact = self.exact or self.before.get(name) == exact
            stored = exact if use_exact else stored_kind(name, kind, "narrow")
            found.append(StoredColumn(name, str(kind), stored))
        return tuple(found)


def stored_kind(name: str, kind: DuckDBPyType, form: Form) -> str:
    """Return the DuckDB type that Parquet stores in place of a column's own.

    Raises UnstorableError if no such type exists.
    """
    stored = _stored(kind, form, holds_unions=form != "portable")
    if stored is None:
        raise UnstorableError(name, str(kind))
    return stored


def as_stored(query: sql.Composable, columns: Sequence[StoredColumn]) -> sql.Composable:
    """Return the query that gives the rows of a query in the form in which they are stored.

    The query begins on the first line: DuckDB's errors name lines of its own.
    """
    if all(column.kind == column.stored for column in columns):
        return query
    selected = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(stored_value(column), sql.Identifier(column.name))
        for column in columns
    )
    return sql.SQL("select {} from ({}\n) as lakebed_rows").format(selected, query)


def stored_value(column: StoredColumn, *, read_back: bool = True) -> sql.Composable:
    """Return the expression that gives a column of a query in its stored form.

    DuckDB refuses a value that the form would change, naming the column.

    Args:
        column: The column and its stored form.
        read_back: Whether DuckDB reads the text of an interval again, and so refuses one that it
            writes and cannot read.
    """
    name = sql.Identifier(column.name)
    if column.kind == column.stored:
        return name
    value = _cast(name, column.stored)
    may_lie = _FORM_MAY_LIE if read_back else _TEXT_MAY_LIE
    if not may_lie.search(column.kind) and "DECIMAL(38,0)" not in column.stored:
        return value
    back = sql.SQL("try_cast(try_cast({} as {}) as {})").format(
        name, sql.SQL(column.stored), sql.SQL(column.kind)
    )
    problem = (
        f"column {column.name!r} is stored as {column.stored}, which does not hold its value of "
        f"type {column.kind}: "
    )
    return sql.SQL(
        "case when {back} is not distinct from {name} then {value}"
        " else error({problem} || {name}::varchar) end"
    ).format(back=back, name=name, value=value, problem=sql.Literal(problem))


def as_queried(
    columns: Sequence[tuple[str, str]], layout: Sequence[StoredColumn]
) -> sql.Composable:
    """Return the select list that restores the types and values of a file's columns.

    columns: name and DuckDB type. layout: the file's columns; missing ones are null.
    """
    there = {column.name: column for column in layout}
    parts = []
    for name, kind in columns:
        column = there.get(name)
        value: sql.Composable = sql.SQL("null") if column is None else sql.Identifier(name)
        if column is not None and column.stored != column.kind:
            value = _cast(value, column.stored)
        if column is None or column.kind != kind or not column.is_as_queried:
            value = _cast(value, kind)
        parts.append(sql.SQL("{} as {}").format(value, sql.Identifier(name)))
    return sql.SQL(", ").join(parts)


def _stored(kind: DuckDBPyType, form: Form, *, holds_unions: bool) -> str | None:
    """Return the type in the file, None if it cannot be stored.

    holds_unions: false inside a struct or a union, where DuckDB cannot cast a union back.
    """
    name = str(kind.id)
    if name in _AS_IT_IS:
        return str(kind)
    if name in _NARROW:
        return {"narrow": _NARROW, "portable": _PORTABLE}.get(form, {}).get(name, "VARCHAR")
    if name in _AS_TEXT:
        return "VARCHAR"
    if name not in ("list", "array", "struct", "map", "union"):
        return None
    if name == "union" and not (holds_unions and _is_plain_union(kind)):
        return None
    holds_unions = holds_unions and name not in ("struct", "union")
    # The parts of an array include its length, those of a union its tag, which has no name.
    parts = [(label, part) for label, part in kind.children if isinstance(part, DuckDBPyType)]
    if name == "union":
        parts = parts[1:]
    stored = [(label, _stored(part, form, holds_unions=holds_unions)) for label, part in parts]
    if any(part is None for _, part in stored):
        return None
    if name in ("list", "array"):
        return f"{stored[0][1]}[]"
    if name == "map":
        return f"MAP({stored[0][1]}, {stored[1][1]})"
    if all(part == str(own) for (_, part), (_, own) in zip(stored, parts, strict=True)):
        return str(kind)
    if not all(label for label, _ in stored):
        return None  # a struct without names cannot be named in a cast
    members = ", ".join(f"{sql.Identifier(label).as_string()} {part}" for label, part in stored)
    return f"{name.upper()}({members})"


def _is_plain_union(kind: DuckDBPyType) -> bool:
    """Whether DuckDB can cast a union back from the struct in Parquet."""
    members = {str(part.id) for _, part in kind.children[1:] if isinstance(part, DuckDBPyType)}
    return not members & {"list", "array", "struct", "map", "union", "geometry"}


def _cast(value: sql.Composable, kind: str) -> sql.Composable:
    return sql.SQL("cast({} as {})").format(value, sql.SQL(kind))
