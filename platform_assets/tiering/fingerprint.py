"""Fingerprints: what a set of rows comes to, alike in PostgreSQL and DuckDB whatever their order.

For every column the count of values and the sum of an integer made of each (quality/schema.py says
how). Sums see what XOR would not, duplicates that cancel; and they add up, so that the
fingerprint of a fold is the sum of the fingerprints of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Literal

from psycopg import sql

from platform_assets.quality.schema import Column

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
    columns: Sequence[Column], relation: sql.Composable, engine: Engine
) -> sql.Composed:
    """Return the query whose one row `read_fingerprint` reads. relation follows FROM."""
    parts: list[sql.Composable] = [sql.SQL("count(*)")]
    for column in columns:
        name = sql.Identifier(column.name)
        types = column.types
        number = types.to_integer_postgres if engine == "postgres" else types.to_integer_duckdb
        value = sql.SQL(number).format(name)
        parts.append(sql.SQL("count({})").format(name))
        text = (
            "coalesce(sum({})::text, '0')"
            if engine == "postgres"
            else "coalesce(sum({})::varchar, '0')"
        )
        parts.append(sql.SQL(text).format(value))
    numbered = [
        sql.SQL("{} as {}").format(part, sql.Identifier(f"f{i}")) for i, part in enumerate(parts)
    ]
    return sql.SQL("select {} from {}").format(sql.SQL(", ").join(numbered), relation)


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
