"""Choose a type for each column of a SQLite table, from its declaration and from all of its rows.

SQLite stores in each row what it was given, whatever the column declares. So every row is read: one
pass finds the storage classes of all columns; texts of dates, times and booleans are cast as a load
casts them. A few odd values keep the declared type, and become rejects; many make the column text.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl
from psycopg import sql

from lakebed.ingest.casts import cast
from lakebed.ingest.sources.values import column as column_of

MAX_ODD_SHARE = 0.001
"""The share of values of another kind up to which a column keeps its declared type."""
ROWS_AT_ONCE = 65_536
_MAX_DIGITS = 38
_UTC = 'Annotated[pl.Datetime, "us", "UTC"]'
_TEXTS: dict[str, tuple[tuple[pl.DataType, str], ...]] = {
    "date": ((pl.Date(), "pl.Date"), (pl.Datetime("us", "UTC"), _UTC)),
    "time": ((pl.Time(), "pl.Time"), (pl.Datetime("us", "UTC"), _UTC)),
    "moment": ((pl.Datetime("us", "UTC"), _UTC),),
    "boolean": ((pl.Boolean(), "bool"),),
}
"""The types of which the texts of a column may be, and their names in a table file."""


@dataclass(frozen=True)
class StoredColumn:
    """What a table stores in a column.

    name: its name.  declared: its declared type, in capitals.  counts: how many values it has of
    each storage class, without nulls.  nulls: whether it holds nulls.
    """

    name: str
    declared: str
    counts: Mapping[str, int]
    nulls: bool


def stored_columns(
    connection: sqlite3.Connection, table: str, declared: Sequence[tuple[str, str]]
) -> list[StoredColumn]:
    """Read what a table stores in each of its columns. declared: names and declared types."""
    parts = ["count(*)"]
    for name, _ in declared:
        kind = f"nullif(typeof({_quoted(name)}), 'null')"
        parts.append(f"count({_quoted(name)}), min({kind}), max({kind})")
    ((rows, *found),) = connection.execute(
        f"select {', '.join(parts)} from {_quoted(table)}"  # noqa: S608
    ).fetchall()
    columns = []
    for number, (name, kind) in enumerate(declared):
        values, least, greatest = found[3 * number : 3 * number + 3]
        counts = {least: values} if values else {}
        if least != greatest:
            query = (
                f"select typeof({_quoted(name)}), count(*) from {_quoted(table)}"  # noqa: S608
                f" where {_quoted(name)} is not null group by 1"
            )
            counts = dict(connection.execute(query).fetchall())
        columns.append(StoredColumn(name, kind.upper(), counts, values < rows))
    return columns


def field_type(connection: sqlite3.Connection, table: str, column: StoredColumn) -> tuple[str, str]:
    """Return the type of a field as a table file writes it, and a remark for a person."""
    declared, stored = column.declared, set(column.counts)
    if not stored:
        return _by_declaration(declared)
    total = sum(column.counts.values())
    if len(stored) > 1 and not stored <= {"integer", "real"}:
        usual = _usual(declared)
        odd = sum(count for kind, count in column.counts.items() if kind not in usual)
        if odd > total * MAX_ODD_SHARE:
            kinds = ", ".join(sorted(stored))
            return "str", f"declared {declared or 'nothing'}, holds {kinds}"
        remark = f"{odd:,} of {total:,} values are of another kind: a load rejects them"
        return _of_one_class(connection, table, column, stored & usual, remark)
    return _of_one_class(connection, table, column, stored, "")


def _usual(declared: str) -> set[str]:
    """Return the storage classes that a declared type means, by SQLite's rules of affinity."""
    if re.search("DATE|TIME", declared):
        return {"text"}
    if "INT" in declared or "BOOL" in declared:
        return {"integer"}
    if re.search("CHAR|CLOB|TEXT", declared):
        return {"text"}
    if not declared or "BLOB" in declared:
        return {"blob"}
    return {"integer", "real"}


def _of_one_class(
    connection: sqlite3.Connection,
    table: str,
    column: StoredColumn,
    stored: set[str],
    remark: str,
) -> tuple[str, str]:
    declared = column.declared
    moment = re.search("DATE|TIME", declared) is not None
    if stored == {"text"} and (moment or "BOOL" in declared):
        return _of_texts(connection, table, column)
    if moment and stored <= {"integer", "real"}:
        kind = "pl.Int64" if stored == {"integer"} else "pl.Float64"
        return kind, "a time that is counted? see dates={...} of SqliteTable"
    if "BOOL" in declared and stored == {"integer"}:
        least, greatest = _ends(connection, table, column.name)
        if least >= 0 and greatest <= 1:
            return "bool", remark
        return "pl.Int64", f"declared {declared}, holds {least} to {greatest}"
    digits = re.fullmatch(r"(?:DECIMAL|NUMERIC) ?\( ?(\d+)(?: ?, ?(\d+))? ?\)", declared)
    if digits and stored <= {"integer", "real"}:
        precision, scale = int(digits[1]), int(digits[2] or 0)
        return _decimal(connection, table, column, precision, scale, remark)
    kinds = {
        frozenset({"integer"}): "pl.Int64",
        frozenset({"text"}): "str",
        frozenset({"blob"}): "pl.Binary",
    }
    return kinds.get(frozenset(stored), "pl.Float64"), remark


def _decimal(
    connection: sqlite3.Connection,
    table: str,
    column: StoredColumn,
    precision: int,
    scale: int,
    remark: str,
) -> tuple[str, str]:
    """Return the decimal that holds all values, or a float where one has more digits."""
    name = _quoted(column.name)
    query = (
        f"select count(*), max(abs({name})) from {_quoted(table)}"  # noqa: S608
        f" where typeof({name}) in ('integer', 'real') and "
    )
    ((finer, _),) = connection.execute(f"{query} round({name}, {scale}) <> {name}").fetchall()
    ((_, greatest),) = connection.execute(f"{query} true").fetchall()
    whole = len(str(int(greatest))) if greatest < 10.0**_MAX_DIGITS else _MAX_DIGITS + 1
    if finer or whole + scale > _MAX_DIGITS:
        why = f"{finer:,} values have more than {scale} digits after the point"
        return "pl.Float64", f"declared {column.declared}: {why}"
    if whole + scale > precision and greatest >= 1:
        return f"Annotated[pl.Decimal, {whole + scale}, {scale}]", (
            f"declared {column.declared}, holds {greatest}"
        )
    return f"Annotated[pl.Decimal, {precision}, {scale}]", remark


def _of_texts(connection: sqlite3.Connection, table: str, column: StoredColumn) -> tuple[str, str]:
    """Return the type that a load can cast the texts of a column to."""
    declared, name = column.declared, _quoted(column.name)
    kind = "moment"
    if "BOOL" in declared:
        kind = "boolean"
    elif declared == "DATE":
        kind = "date"
    elif re.match(r"TIME\b", declared):
        kind = "time"
    candidates = _TEXTS[kind]
    failed = [0] * len(candidates)
    rows = connection.execute(
        f"select cast({name} as blob) from {_quoted(table)}"  # noqa: S608
        f" where typeof({name}) = 'text'"
    )
    total = 0
    while batch := rows.fetchmany(ROWS_AT_ONCE):
        texts = column_of(column.name, [value for (value,) in batch])
        total += len(texts)
        for number, (dtype, _) in enumerate(candidates):
            failed[number] += cast(texts, dtype).series.null_count()
    odd = sum(count for one, count in column.counts.items() if one != "text")
    for (_, named), count in zip(candidates, failed, strict=True):
        if count + odd <= total * MAX_ODD_SHARE:
            bad = count + odd
            remark = f"{bad:,} of {total + odd:,} values are not: a load rejects them"
            return named, remark if bad else ""
    return "str", f"declared {declared}, and {min(failed):,} of {total:,} values are not"


def _by_declaration(declared: str) -> tuple[str, str]:
    """Return the type of a column that holds no value yet."""
    if re.match(r"TIME\b", declared):
        return "pl.Time", ""
    if re.search("DATE|TIME", declared):
        return ("pl.Date" if declared == "DATE" else _UTC), ""
    if "BOOL" in declared:
        return "bool", ""
    digits = re.fullmatch(r"(?:DECIMAL|NUMERIC) ?\( ?(\d+)(?: ?, ?(\d+))? ?\)", declared)
    if digits and int(digits[1]) <= _MAX_DIGITS:
        return f"Annotated[pl.Decimal, {digits[1]}, {digits[2] or 0}]", ""
    if "INT" in declared:
        return "pl.Int64", ""
    if re.search("CHAR|CLOB|TEXT", declared):
        return "str", ""
    if not declared or "BLOB" in declared:
        return "pl.Binary", "nothing is stored in it yet"
    return "pl.Float64", ""


def _ends(connection: sqlite3.Connection, table: str, name: str) -> tuple[int, int]:
    query = (
        f"select min({_quoted(name)}), max({_quoted(name)}) from {_quoted(table)}"  # noqa: S608
        f" where typeof({_quoted(name)}) = 'integer'"
    )
    ((least, greatest),) = connection.execute(query).fetchall()
    return least, greatest


def _quoted(name: str) -> str:
    return sql.Identifier(name).as_string()
