"""Fingerprints: a checksum of a set of rows, equal in PostgreSQL and DuckDB in any order.

For every column: the count of values, and the sum of an integer made of each value (spec/types.py
defines it). Sums detect duplicates that XOR would cancel. And they add up: the fingerprint of a
compacted file is the sum of the fingerprints of its parts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal

from psycopg import sql

from lakebed.spec.schema import Column

Engine = Literal["postgres", "duckdb"]
_EXACT = Context(prec=200)


@dataclass(frozen=True)
class Fingerprint:
    """rows: how many.  columns: for each column its count of values and their sum."""

    rows: int
    columns: dict[str, tuple[int, Decimal]]

    def __add__(self, other: Fingerprint) -> Fingerprint:
        """Return the fingerprint of both sets of rows together."""
        return Fingerprint(
            self.rows + other.rows,
            {
                name: (count + other.columns[name][0], _EXACT.add(total, other.columns[name][1]))
                for name, (count, total) in self.columns.items()
            },
        )

    def differences(self, other: Fingerprint) -> list[str]:
        """Say in words where the two differ; empty where they are alike."""
        found = [f"{self.rows} rows against {other.rows}"] if self.rows != other.rows else []
        for name in sorted(self.columns.keys() | other.columns.keys()):
            mine, yours = self.columns.get(name), other.columns.get(name)
            if mine != yours:
                found.append(f"column {name}: {_words(mine)} against {_words(yours)}")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the form that the manifest keeps."""
        columns = {name: [count, str(total)] for name, (count, total) in self.columns.items()}
        return {"rows": self.rows, "columns": columns}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Fingerprint:
        """Read the form that the manifest keeps."""
        columns = {
            n: (int(count), Decimal(total)) for n, (count, total) in value["columns"].items()
        }
        return cls(int(value["rows"]), columns)


def fingerprint_query(
    columns: Sequence[Column],
    relation: sql.Composable,
    engine: Engine,
    low_cardinality: Collection[str] = (),
) -> sql.Composed:
    """Return the query whose one row `read_fingerprint` reads. relation follows FROM.

    few: text columns with few distinct values; each value is then digested once, not once a row.
    The result does not depend on it.
    """
    grouped = [column for column in columns if column.name in low_cardinality and is_text(column)]
    if grouped:
        return _grouped_query(columns, grouped, relation, engine)
    parts: list[sql.Composable] = [sql.SQL("count(*)")]
    for column in columns:
        name = sql.Identifier(column.name)
        parts.append(sql.SQL("count({})").format(name))
        parts.append(_as_text(sql.SQL("sum({})").format(_integer(column, name, engine)), engine))
    return sql.SQL("select {} from {}").format(_numbered("f", parts), relation)


def _grouped_query(
    columns: Sequence[Column], grouped: Sequence[Column], relation: sql.Composable, engine: Engine
) -> sql.Composed:
    """Return the query that first groups by the combinations of the values of `grouped`."""
    # Group by the bytes of a text: a collation may treat two texts as equal.
    bytewise = sql.SQL('{} collate "C"' if engine == "postgres" else "{}")
    exact = sql.SQL("numeric" if engine == "postgres" else "hugeint")
    inner: list[sql.Composable] = [sql.SQL("count(*) as n")]
    outer: list[sql.Composable] = [sql.SQL("coalesce(sum(n), 0)")]
    keys: list[sql.Composable] = []
    for number, column in enumerate(columns):
        name, one = sql.Identifier(column.name), sql.Identifier(f"v{number}")
        if column in grouped:
            key = bytewise.format(name) if not column.types.labels else name
            keys.append(key)
            inner.append(sql.SQL("{} as {}").format(key, one))
            outer.append(sql.SQL("coalesce(sum(n) filter (where {} is not null), 0)").format(one))
            total = sql.SQL("sum(n * ({})::{})").format(_integer(column, one, engine), exact)
        else:
            count = sql.Identifier(f"n{number}")
            inner.append(sql.SQL("count({}) as {}").format(name, count))
            inner.append(sql.SQL("sum({}) as {}").format(_integer(column, name, engine), one))
            outer.append(sql.SQL("coalesce(sum({}), 0)").format(count))
            total = sql.SQL("sum({})").format(one)
        outer.append(_as_text(total, engine))
    return sql.SQL("select {} from (select {} from {} group by {}) lakebed_few").format(
        _numbered("f", outer), sql.SQL(", ").join(inner), relation, sql.SQL(", ").join(keys)
    )


def _integer(column: Column, value: sql.Composable, engine: Engine) -> sql.Composed:
    types = column.types
    text = types.to_integer_postgres if engine == "postgres" else types.to_integer_duckdb
    return sql.SQL(text).format(value)


def is_text(column: Column) -> bool:
    """Whether a column's values are texts, which are digested."""
    return column.types.postgres == "text" or bool(column.types.labels)


def _as_text(total: sql.Composable, engine: Engine) -> sql.Composed:
    kind = sql.SQL("text" if engine == "postgres" else "varchar")
    return sql.SQL("coalesce({}::{}, '0')").format(total, kind)


def _numbered(prefix: str, parts: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL(", ").join(
        sql.SQL("{} as {}").format(part, sql.Identifier(f"{prefix}{i}"))
        for i, part in enumerate(parts)
    )


def read_fingerprint(columns: Sequence[Column], row: Sequence[Any]) -> Fingerprint:
    """Turn the row of a fingerprint query into a Fingerprint."""
    pairs = zip(row[1::2], row[2::2], strict=True)
    return Fingerprint(
        int(row[0]),
        {
            column.name: (int(count), Decimal(total))
            for column, (count, total) in zip(columns, pairs, strict=True)
        },
    )


def _words(value: tuple[int, Decimal] | None) -> str:
    return "no such column" if value is None else f"{value[0]} values that sum to {value[1]}"
