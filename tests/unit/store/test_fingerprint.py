"""Fingerprints add up, do not depend on order, and see what XOR would not."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import duckdb
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from lakebed.spec.table import SourceTable
from lakebed.spec.types import TYPES
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from tests.tables.readings import Reading

TABLE = SourceTable(name="readings", model=Reading)
numbers = st.integers(-(2**63), 2**63 - 1)
prints = st.builds(
    lambda rows, sums: Fingerprint(rows, dict(zip("abc", sums, strict=True))),
    st.integers(0, 10**9),
    st.tuples(*[st.tuples(st.integers(0, 10**9), st.decimals(-(10**60), 10**60, places=2))] * 3),
)
rows = st.lists(st.tuples(st.text(), st.none() | st.floats(), numbers), max_size=8)


def of(values: list[tuple[str, float | None, int]]) -> Fingerprint:
    """Let DuckDB make the fingerprint of some readings."""
    with duckdb.connect(":memory:") as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            'create table r ("at" timestamptz, sensor varchar, value double, number bigint)'
        )
        for row in values:
            connection.execute("insert into r values ('2024-01-01', ?, ?, ?)", row)
        query = fingerprint_query(TABLE.columns, sql.Identifier("r"), "duckdb").as_string()
        return read_fingerprint(TABLE.columns, connection.execute(query).fetchall()[0])


@given(prints, prints, prints)
def test_adding_is_associative_and_does_not_depend_on_order(
    a: Fingerprint, b: Fingerprint, c: Fingerprint
) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a


@given(prints)
def test_a_fingerprint_comes_back_from_the_manifest_as_it_went_in(a: Fingerprint) -> None:
    assert Fingerprint.from_json(a.to_json()) == a
    assert a.differences(a) == []


@given(rows, rows)
def test_the_fingerprint_of_all_rows_is_the_sum_of_its_parts(
    some: list[tuple[str, float | None, int]], more: list[tuple[str, float | None, int]]
) -> None:
    assert of(some) + of(more) == of(more + some)


@given(st.lists(st.text() | st.binary(), max_size=20))
def test_the_integer_of_a_text_is_what_manifests_hold(values: list[str | bytes]) -> None:
    """The first 15 hexadecimal digits of its MD5: another one would condemn every older file."""
    with duckdb.connect(":memory:") as connection:
        for value in values:
            kind = TYPES[pl.String if isinstance(value, str) else pl.Binary]
            integer = sql.SQL(kind.to_integer_duckdb).format(sql.Identifier("value"))
            query = sql.SQL("select {} from (select ? as value)").format(integer)
            found = connection.execute(query.as_string(), [value]).fetchall()
            raw = value.encode() if isinstance(value, str) else value
            assert found == [(int(hashlib.md5(raw).hexdigest()[:15], 16),)]  # noqa: S324


def test_a_difference_is_said_in_words() -> None:
    one = Fingerprint(2, {"a": (2, Decimal(5)), "b": (1, Decimal(0))})
    other = Fingerprint(3, {"a": (3, Decimal(6)), "c": (1, Decimal(0))})
    assert one.differences(other) == [
        "2 rows against 3",
        "column a: 2 values that sum to 5 against 3 values that sum to 6",
        "column b: 1 values that sum to 0 against no such column",
        "column c: no such column against 1 values that sum to 0",
    ]


def test_what_is_easily_confused_has_another_fingerprint() -> None:
    row = ("a", 1.0, 5)
    variants = [
        [row],
        [row, row],
        [row, row, row],
        [("A", 1.0, 5)],
        [("a ", 1.0, 5)],
        [("", 1.0, 5)],
        [("a", None, 5)],
        [("a", 0.0, 5)],
        [("a", -0.0, 5)],
        [("a", float("nan"), 5)],
        [("a", float("inf"), 5)],
        [("a", 1.0000000000000002, 5)],
        [("a", 1.0, 6)],
        [],
    ]
    found = [str(of(variant)) for variant in variants]
    assert len(set(found)) == len(variants)
