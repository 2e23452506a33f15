"""TPC-H in both tiers: its tables, its rows, its 22 queries and their official answers.

`lineitem` and `orders` have a time and move to the lake; the other six stay hot. DuckDB's tpch
extension makes the rows, and has the answers at the scales 0.01, 0.1 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
from duckdb_extensions import import_extension
from psycopg import sql

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.table import Grain, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform

QUERIES = tuple(range(1, 23))
_LONG, _SHORT, _TEXT, _DATE = pl.Int64, pl.Int32, str, pl.Date
_MONEY = Annotated[pl.Decimal, 15, 2]
_TIME = Annotated[pl.Datetime, "us", "UTC"]
_COLUMNS: dict[str, dict[str, Any]] = {
    "lineitem": {
        "l_orderkey": _LONG,
        "l_partkey": _LONG,
        "l_suppkey": _LONG,
        "l_linenumber": _LONG,
        "l_quantity": _MONEY,
        "l_extendedprice": _MONEY,
        "l_discount": _MONEY,
        "l_tax": _MONEY,
        "l_returnflag": _TEXT,
        "l_linestatus": _TEXT,
        "l_shipdate": _TIME,
        "l_commitdate": _DATE,
        "l_receiptdate": _DATE,
        "l_shipinstruct": _TEXT,
        "l_shipmode": _TEXT,
        "l_comment": _TEXT,
    },
    "orders": {
        "o_orderkey": _LONG,
        "o_custkey": _LONG,
        "o_orderstatus": _TEXT,
        "o_totalprice": _MONEY,
        "o_orderdate": _TIME,
        "o_orderpriority": _TEXT,
        "o_clerk": _TEXT,
        "o_shippriority": _SHORT,
        "o_comment": _TEXT,
    },
    "customer": {
        "c_custkey": _LONG,
        "c_name": _TEXT,
        "c_address": _TEXT,
        "c_nationkey": _SHORT,
        "c_phone": _TEXT,
        "c_acctbal": _MONEY,
        "c_mktsegment": _TEXT,
        "c_comment": _TEXT,
    },
    "part": {
        "p_partkey": _LONG,
        "p_name": _TEXT,
        "p_mfgr": _TEXT,
        "p_brand": _TEXT,
        "p_type": _TEXT,
        "p_size": _SHORT,
        "p_container": _TEXT,
        "p_retailprice": _MONEY,
        "p_comment": _TEXT,
    },
    "partsupp": {
        "ps_partkey": _LONG,
        "ps_suppkey": _LONG,
        "ps_availqty": _LONG,
        "ps_supplycost": _MONEY,
        "ps_comment": _TEXT,
    },
    "supplier": {
        "s_suppkey": _LONG,
        "s_name": _TEXT,
        "s_address": _TEXT,
        "s_nationkey": _SHORT,
        "s_phone": _TEXT,
        "s_acctbal": _MONEY,
        "s_comment": _TEXT,
    },
    "nation": {"n_nationkey": _SHORT, "n_name": _TEXT, "n_regionkey": _SHORT, "n_comment": _TEXT},
    "region": {"r_regionkey": _SHORT, "r_name": _TEXT, "r_comment": _TEXT},
}
_KEYS = {
    "lineitem": ("l_shipdate", "l_orderkey", "l_linenumber"),
    "orders": ("o_orderdate", "o_orderkey"),
    "customer": ("c_custkey",),
    "part": ("p_partkey",),
    "partsupp": ("ps_partkey", "ps_suppkey"),
    "supplier": ("s_suppkey",),
    "nation": ("n_nationkey",),
    "region": ("r_regionkey",),
}


def tables() -> tuple[SourceTable, ...]:
    """Return the eight tables, which no source fills."""
    return tuple(_table(name, columns) for name, columns in _COLUMNS.items())


def _table(name: str, columns: dict[str, Any]) -> SourceTable:
    model = type(name.title(), (pa.DataFrameModel,), {"__annotations__": columns})
    time = next((column for column, kind in columns.items() if kind is _TIME), None)
    if time is None:
        return SourceTable(name=name, model=model, key=_KEYS[name])
    return SourceTable(
        name=name,
        model=model,
        key=_KEYS[name],
        partitioning=Partitioning(
            column=time,
            grain=Grain.YEAR,
            start=datetime(1992, 1, 1, tzinfo=UTC),
            end=datetime(1999, 1, 1, tzinfo=UTC),
        ),
        tiering=Tiering(hot_for=timedelta(0)),
    )


@contextmanager
def generated(platform: Platform, scale: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Make the empty tables in PostgreSQL; yield DuckDB with the rows, and PostgreSQL as pg."""
    with platform.postgres.connect(autocommit=True) as connection:
        for table in platform.tables:
            ensure_table(connection, table)
            if table.partitioning:
                ensure_partition_tables(connection, table, table.windows(platform.clock.now()))
    with platform.lake.attached(read_only=False) as duck:
        import_extension("tpch")
        duck.execute("load tpch")
        duck.execute(f"call dbgen(sf = {scale:f})")
        yield duck


def insert(duck: duckdb.DuckDBPyConnection, table: SourceTable, condition: str = "true") -> None:
    """Insert the rows of a table that a condition of DuckDB chooses into PostgreSQL."""
    columns = sql.SQL(", ").join(
        sql.SQL("cast({0} as {1})").format(sql.Identifier(column.name), sql.SQL(column.duckdb))
        for column in table.columns
    )
    statement = sql.SQL("insert into pg.public.{0} select {1} from memory.main.{0} where {2}")
    duck.execute(
        statement.format(sql.Identifier(table.name), columns, sql.SQL(condition)).as_string()
    )


def query(number: int) -> str:
    """Return the text of one of the 22 queries, without its semicolon."""
    found = _known("select query from tpch_queries() where query_nr = ?", number)
    return str(found[0][0]).rstrip("; \n")


def answer(number: int, scale: float) -> list[list[str]]:
    """Return the official answer to a query: its rows, each value as text."""
    found = _known(
        "select answer from tpch_answers() where query_nr = ? and scale_factor = ?",
        number,
        scale,
    )
    return [line.split("|") for line in str(found[0][0]).splitlines()[1:]]


def differences(found: Sequence[Sequence[Any]], expected: Sequence[Sequence[str]]) -> list[str]:
    """Describe how an answer differs from the official one. Numbers may differ by a hundredth."""
    if len(found) != len(expected):
        return [f"{len(found)} rows, expected {len(expected)}"]
    return [
        f"row {number}: {mine!r}, expected {yours!r}"
        for number, (row, official) in enumerate(zip(found, expected, strict=True))
        for mine, yours in zip(row, official, strict=True)
        if not _same(mine, yours)
    ]


def _same(value: Any, official: str) -> bool:
    if value is None:
        return official in ("", "NULL")
    if isinstance(value, int | float | Decimal):
        return abs(Decimal(str(value)) - Decimal(official)) <= Decimal("0.01")
    if isinstance(value, datetime):
        return value.astimezone(UTC) == datetime.fromisoformat(official).replace(tzinfo=UTC)
    return str(value) == official


@cache
def _known(text: str, *params: float) -> list[tuple[Any, ...]]:
    import_extension("tpch")
    with duckdb.connect() as connection:
        connection.execute("load tpch")
        return connection.execute(text, params).fetchall()
