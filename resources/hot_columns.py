"""The columns that a hot table has in PostgreSQL, in a reader's snapshot: types and collations.

    is read as      DuckDB's postgres extension reads a column by its PostgreSQL type
    may be misread  DuckDB's type does not have a value and reads another one, without an error
    is lossy        the contract has another type, and the cast to it would round
    is opaque       PostgreSQL compares the text differently than DuckDB does

exactness.py searches the snapshot for such values before a query reads the column.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from psycopg import sql

from lakebed.resources.layouts import ask
from lakebed.resources.locks import Connection

Hot = Mapping[str, "HotColumn"]
"""The columns of a hot table, by name."""

_TEXTS = re.compile(r"text|character varying(\(\d+\))?")
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
_NUMERIC = re.compile(r"numeric(?:\((\d+),(-?\d+)\))?")
_MOMENT = re.compile(r"timestamp(\(\d\))? with(out)? time zone")
_INTEGERS = {"smallint", "integer", "bigint"}
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}

_COLUMNS = """\
with recursive found as (
  select nspname, relname, attnum, attname, attndims, attcollation,
    atttypid as kind, atttypmod as modifier, false as is_list
  from pg_attribute join pg_class c on c.oid = attrelid
  join pg_namespace n on n.oid = relnamespace
  where (nspname, relname) in ({places}) and attnum > 0 and not attisdropped
),
inner_types as (
  select *, 0 as depth from found
  union all
  select nspname, relname, attnum, attname, attndims, attcollation,
    case typtype when 'd' then typbasetype else typelem end,
    case typtype when 'd' then typtypmod else modifier end,
    is_list or typtype <> 'd', depth + 1
  from inner_types join pg_type t on t.oid = kind
  where typtype = 'd' or (typcategory = 'A' and typelem <> 0 and typlen = -1)
)
select distinct on (nspname, relname, attnum) nspname::text as schema, relname::text as name,
  attname::text as column, format_type(kind, modifier) as kind, t.typtype = 'e' as is_enum,
  is_list, attndims as dimensions, coalesce(collisdeterministic, true) as deterministic,
  case collname
    when 'default' then case datlocprovider when 'c' then datcollate
      else coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') end
    else collname end as collation
from inner_types join pg_type t on t.oid = kind
left join pg_collation l on l.oid = attcollation
join pg_database d on datname = current_database()
order by nspname, relname, attnum, depth desc"""

_BY_CODE_POINT = {"c", "posix", "ucs_basic", "pg_c_utf8", "c.utf8", "c.utf-8"}


@dataclass(frozen=True)
class HotColumn:
    """A column of a hot table.

    Attributes:
        kind: The type as format_type() spells it; of a domain its base type, of an array that of
            its elements.
        is_enum: Whether the type is an enum.
        is_list: Whether the column is an array.
        dimensions: What an array was declared with; PostgreSQL does not enforce it.
        deterministic: Whether two texts are equal only if their bytes are.
        collation: The collation, or the database's where the column has its default.
    """

    name: str
    kind: str
    is_enum: bool = False
    is_list: bool = False
    dimensions: int = 0
    deterministic: bool = True
    collation: str | None = None

    @property
    def order(self) -> str | None:
        """How PostgreSQL orders the texts of the column, where that is not by code point."""
        if self.is_enum:
            return "the order of the enum's labels"
        if self.collation is None or self.collation.lower() in _BY_CODE_POINT:
            return None
        return f"the collation {self.collation}"

    @property
    def is_numeric(self) -> bool:
        """Whether the column is a numeric, whose NaN DuckDB reads as 0."""
        return not self.is_list and self.kind.startswith("numeric")

    def is_opaque(self, duckdb_kind: str) -> bool:
        """Whether PostgreSQL may find other texts equal, or in another order, than DuckDB does."""
        if duckdb_kind != "VARCHAR" or self.is_enum:
            return False
        return not self.deterministic or _TEXTS.fullmatch(self.kind) is None

    def comparable(self, kind: str, operator: str) -> str | None:
        """Return how to write a value so that PostgreSQL finds every row that DuckDB does.

        Args:
            kind: What the value is: integer, decimal, text or uuid.
            operator: The comparison. Equal texts are equal by any collation, and indexes know it.

        Returns:
            SQL with braces for the value as text; None if the column is of another kind.
        """
        if self.is_list or self.is_enum:
            return None
        if kind == "integer" and self.kind in _INTEGERS:
            return "{}::bigint"
        if kind in ("integer", "decimal") and _NUMERIC.fullmatch(self.kind):
            return "{}::numeric"
        if kind == "text" and _TEXTS.fullmatch(self.kind):
            return "{}::text" if operator in ("=", "in") else '{}::text collate "C"'
        return "{}::uuid" if kind == self.kind == "uuid" else None

    def misread(self) -> sql.Composable | None:
        """Return PostgreSQL's condition for values that DuckDB's type cannot hold; None if none."""
        name = sql.Identifier(self.name)
        of_value = _misread(self.kind)
        if not self.is_list:
            return None if of_value is None else sql.SQL(of_value).format(name)
        condition = sql.SQL("array_ndims({}) > 1").format(name)
        if of_value is not None:
            element = sql.SQL(of_value).format(sql.Identifier("lakebed_e"))
            condition = sql.SQL(
                "({} or exists (select from unnest({}) as u (lakebed_e) where {}))"
            ).format(condition, name, element)
        return condition

    def loss(self, duckdb_kind: str) -> str | None:
        """Explain why the contract's type cannot hold the column's values; None if it can."""
        if self.is_list or not _is_lossy(self.kind, duckdb_kind):
            return None
        return f"is {self.kind} in PostgreSQL and {duckdb_kind} in its contract, which would round"


def hot_columns(
    connection: duckdb.DuckDBPyConnection, tables: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Hot]:
    """Return the columns of those tables, as (schema, name), that are there."""
    if not tables:
        return {}
    return _by_table(ask(connection, _columns_query(tables)))


def hot_columns_of(
    connection: Connection, tables: Collection[tuple[str, str]]
) -> dict[tuple[str, str], Hot]:
    """Return the same as `hot_columns`, from a plain connection to PostgreSQL."""
    if not tables:
        return {}
    return _by_table(connection.execute(_columns_query(tables)).fetchall())


def _columns_query(tables: Collection[tuple[str, str]]) -> sql.Composed:
    places = sql.SQL(", ").join(sql.SQL("({}, {})").format(*table) for table in tables)
    return sql.SQL(_COLUMNS).format(places=places)


def _by_table(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, str], Hot]:
    found: dict[tuple[str, str], dict[str, HotColumn]] = {}
    for schema, table, name, *more in rows:
        found.setdefault((schema, table), {})[name] = HotColumn(name, *more)
    return dict(found)


def _misread(kind: str) -> str | None:
    """Return the condition for a value of a type, with braces for the value."""
    numeric = _NUMERIC.fullmatch(kind)
    if numeric:
        # Only a numeric without a precision takes infinities.
        return "{0} = 'NaN'" if numeric[1] else "{0} in ('NaN', 'Infinity', '-Infinity')"
    if _MOMENT.fullmatch(kind):
        # The last microsecond of DuckDB's 64 bits means its infinity.
        return "({0} >= '294247-01-10 04:00:54.775807+00' and {0} < 'infinity')"
    if kind.startswith("interval"):
        return "not isfinite({0})"
    return None


def _is_lossy(kind: str, duckdb_kind: str) -> bool:
    """Whether a cast from what DuckDB reads a type as to the contract's could round."""
    numeric, decimal = _NUMERIC.fullmatch(kind), _DECIMAL.fullmatch(duckdb_kind)
    if decimal:
        if numeric and numeric[1]:
            return int(numeric[2]) > int(decimal[2])
        return bool(numeric) or kind in ("real", "double precision")
    if duckdb_kind in _WHOLE:
        if numeric and numeric[1]:
            return int(numeric[2]) > 0
        return bool(numeric) or kind in ("real", "double precision")
    if duckdb_kind == "FLOAT":
        return bool(numeric) or kind == "double precision"
    return duckdb_kind in ("DATE", "TIME") and _MOMENT.fullmatch(kind) is not None
