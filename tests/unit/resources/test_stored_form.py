"""What a query gives is what is read back of its file: type and value, of every type of DuckDB."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from psycopg import sql

from lakebed.resources.live_models import FileGroup, rows_of
from lakebed.resources.stored_form import (
    Forms,
    StoredColumn,
    UnstorableError,
    as_stored,
    stored_kind,
)

WHOLE = 170141183460469231731687303715884105727
SAMPLES: dict[str, list[str]] = {
    "BOOLEAN": ["true", "false"],
    "TINYINT": ["-128", "127"],
    "SMALLINT": ["-32768", "32767"],
    "INTEGER": ["-2147483648", "2147483647"],
    "BIGINT": ["-9223372036854775808", "9223372036854775807"],
    "HUGEINT": ["9007199254740993", f"-{WHOLE}-1", str(WHOLE)],
    "UTINYINT": ["0", "255"],
    "USMALLINT": ["0", "65535"],
    "UINTEGER": ["0", "4294967295"],
    "UBIGINT": ["0", "18446744073709551615"],
    "UHUGEINT": ["0", "340282366920938463463374607431768211455"],
    "BIGNUM": ["'-" + "9" * 60 + "'", "0"],
    "FLOAT": ["'nan'", "'-inf'", "1.17549435e-38", "0.1"],
    "DOUBLE": ["'nan'", "'inf'", "5e-324", "0.1"],
    "DECIMAL(38,10)": ["0.0000000001", "-9999999999999999999999999999.9999999999"],
    "DECIMAL(4,1)": ["1.5"],
    "VARCHAR": ["''", "'a' || chr(0) || 'é'", "'NULL'"],
    "JSON": ["""'{"a": [1.0, null]}'""", "'null'", "'12345678901234567890.10'"],
    "BLOB": [r"'\x00\xFF'", "''"],
    "BIT": ["'0001'", "'" + "10" * 99 + "'"],
    "UUID": ["'ffffffff-ffff-ffff-ffff-ffffffffffff'"],
    "DATE": ["'infinity'", "'-infinity'", "'0044-03-15 (BC)'", "'5000000-01-01'"],
    "TIME": ["'24:00:00'", "'12:34:56.123456'"],
    "TIME_NS": ["'24:00:00'", "'12:34:56.123456789'"],
    "TIME WITH TIME ZONE": ["'12:00:00+05:30'", "'23:59:59.999999-15:59:59'", "'06:30:00+00'"],
    "TIMESTAMP": ["'infinity'", "'0044-03-15 (BC) 00:00:00'", "'290000-01-01 00:00:00.000001'"],
    "TIMESTAMP_S": ["'infinity'", "'2020-01-01 00:00:01'", "'290000-01-01 00:00:00'"],
    "TIMESTAMP_MS": ["'-infinity'", "'2020-01-01 00:00:01.123'", "'290000-01-01 00:00:00'"],
    "TIMESTAMP_NS": ["'infinity'", "'2020-01-01 00:00:01.123456789'"],
    "TIMESTAMP WITH TIME ZONE": ["'infinity'", "'2020-01-01 00:00:00.123456+02'"],
    "INTERVAL": ["'2000 hours'", "'0.123456 seconds'", "'-1 month'", "'1 month -1 day 1 hour'"],
    "ENUM('sad', 'it''s', 'glad')": ["'glad'", "'sad'", "'it''s'"],
    "GEOMETRY": ["'POINT (1 2)'", "'LINESTRING (0 0, 0.1 1)'"],
}
# What Parquet has no form for: VARIANT there has other types inside than DuckDB's.
REFUSED = {"VARIANT"}
NESTED = {"LIST", "ARRAY", "STRUCT", "MAP", "UNION"}
# No column of a query has these.
NO_COLUMN = {"NULL", "TYPE"}


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def test_every_type_of_duckdb_has_samples_or_is_refused(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    rows = connection.execute("select distinct logical_type from duckdb_types()").fetchall()
    known = {kind.partition("(")[0] for kind in SAMPLES} - {"JSON"}
    assert {row[0] for row in rows} == known | REFUSED | NESTED | NO_COLUMN


@pytest.mark.parametrize("kind", SAMPLES)
def test_each_value_reads_back_with_its_type(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, kind: str
) -> None:
    _round_trip(connection, tmp_path, kind, [f"cast({s} as {kind})" for s in SAMPLES[kind]])


@pytest.mark.parametrize("seed", range(40))
def test_each_nesting_of_types_reads_back(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    kind, make = _nested(chance, 3, unions=True)
    _round_trip(connection, tmp_path, kind, [make() for _ in range(6)])


def _nested(chance: random.Random, depth: int, unions: bool) -> tuple[str, Callable[[], str]]:
    """Return a type and what makes an expression of it, null now and then."""
    if depth == 0:
        kind = chance.choice(sorted(SAMPLES.keys() - {"GEOMETRY"}))
        return kind, lambda: f"cast({chance.choice([*SAMPLES[kind], 'null'])} as {kind})"
    form = chance.choice(["list", "array", "struct", "map"] + ["union"] * unions)
    depth = 1 if form == "union" else depth
    inner, make = _nested(chance, depth - 1, unions and form != "struct")
    other, also = _nested(chance, 0, False)
    kinds = {
        "list": f"{inner}[]",
        "array": f"{inner}[2]",
        "struct": f'STRUCT("a b" {inner}, "select" {other})',
        "map": f"MAP(INTEGER, {inner})",
        "union": f'UNION("first" {inner}, "second" {other})',
    }
    kind = kinds[form]

    def value() -> str:
        texts = {
            "list": f"[{make()}, null]",
            "array": f"[{make()}, null]",
            "struct": f"""{{'a b': {make()}, 'select': {also()}}}""",
            "map": f"map {{1: {make()}, 2: null}}",
            "union": chance.choice(
                [f'union_value("first" := {make()})', f'union_value("second" := {also()})']
            ),
        }
        return f"cast({chance.choice([texts[form], texts[form], 'null'])} as {kind})"

    return kind, value


def _round_trip(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, kind: str, values: list[str]
) -> None:
    body = " union all ".join(
        f"select {i} as i, {value} as x"
        for i, value in enumerate([*values, f"cast(null as {kind})"])
    )
    # A table, as the query's own type and value: what it gives without any file.
    connection.execute(f"create or replace temp table given as {body}")
    query = sql.SQL("from given")
    written = []
    for number, forms in enumerate((Forms(exact=True), Forms())):
        layout = forms.columns(connection, query)
        file = tmp_path / f"{number}.parquet"
        statement = sql.SQL("copy ({}) to {}").format(as_stored(query, layout), str(file))
        try:
            connection.execute(statement.as_string())
        except duckdb.ConversionException:
            assert not forms.exact, "the exact form holds every value"
            continue
        written.append((layout, file))
    for layout, file in written:
        columns = [(column.name, column.kind) for column in layout]
        read = rows_of([FileGroup(layout, (str(file),))], columns)
        connection.execute(
            sql.SQL("create or replace temp view back as {}").format(read).as_string()
        )
        assert connection.sql("from back").types == connection.sql("from given").types
        differ = connection.execute(
            "select given.x::varchar, back.x::varchar from given join back using (i)"
            " where given.x is distinct from back.x"
            " or given.x::varchar is distinct from back.x::varchar"
        ).fetchall()
        assert differ == []
        assert connection.execute("select count(*) from back").fetchall() == [(len(values) + 1,)]


@pytest.mark.parametrize(
    "kind",
    [
        *("VARIANT", "VARIANT[]", 'STRUCT("a" VARIANT)'),
        *('STRUCT("a" UNION("b" INTEGER))', 'UNION("a" INTEGER[])', 'UNION("a" GEOMETRY)'),
    ],
)
def test_a_type_without_a_form_is_refused_by_the_name_of_its_column(
    connection: duckdb.DuckDBPyConnection, kind: str
) -> None:
    query = sql.SQL("select 1 as n, cast(null as {}) as odd").format(sql.SQL(kind))
    with pytest.raises(UnstorableError) as refused:
        Forms().columns(connection, query)
    assert refused.value.name == "odd"


@pytest.mark.parametrize(
    "value", ["to_microseconds(9223372036854775807)", "'12:00:00-15:00:01'::timetz"]
)
def test_a_value_whose_text_is_another_one_is_refused(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, value: str
) -> None:
    query = sql.SQL("select {} as took").format(sql.SQL(value))
    layout = Forms().columns(connection, query)
    statement = sql.SQL("copy ({}) to {}").format(
        as_stored(query, layout), str(tmp_path / "x.parquet")
    )
    with pytest.raises(duckdb.InvalidInputException, match="took"):
        connection.execute(statement.as_string())


def test_what_was_exact_stays_exact_and_the_rest_is_narrow(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    query = sql.SQL("select 1::hugeint as a, 1::hugeint as b")
    columns = Forms(before={"a": "VARCHAR"}).columns(connection, query)
    assert {c.name: c.stored for c in columns} == {"a": "VARCHAR", "b": "BIGINT"}
    assert stored_kind("a", connection.type("HUGEINT"), "portable") == "DECIMAL(38,0)"


def test_a_query_of_plain_types_is_written_as_it_is() -> None:
    query = sql.SQL("from t")
    assert as_stored(query, [StoredColumn("n", "INTEGER", "INTEGER")]) is query
