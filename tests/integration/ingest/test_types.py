"""Every type: what a source says is in PostgreSQL to the byte, and in the lake, whatever it is."""

from __future__ import annotations

import ipaddress
import json
import math
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import psycopg
import pyarrow
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from psycopg import sql

from lakebed.ingest.load import load_table
from lakebed.pgcopy.literals import LITERAL_TYPES
from lakebed.schema.ddl import DriftError, ensure_table
from lakebed.spec.partitions import Grain
from lakebed.spec.policies import Partitioning, Tiering
from lakebed.spec.sources import CsvFiles, ParquetFiles
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from tests.support.processes import all_rows, move_key

MOODS = ["sad", "", "gläd"][::2]


def null() -> Any:
    return pa.Field(nullable=True)


def named(postgres: str) -> Any:
    return pa.Field(nullable=True, metadata={"postgres": postgres})


class Tiered(pa.DataFrameModel):
    id: pl.Int64
    at: Annotated[pl.Datetime, "us", "UTC"]
    i8: pl.Int8 = null()
    i16: pl.Int16 = null()
    i32: pl.Int32 = null()
    i64: pl.Int64 = null()
    u8: pl.UInt8 = null()
    u16: pl.UInt16 = null()
    u32: pl.UInt32 = null()
    u64: pl.UInt64 = null()
    f32: pl.Float32 = null()
    f64: pl.Float64 = null()
    flag: bool = null()
    words: str = null()
    blob: pl.Binary = null()
    day: pl.Date = null()
    clock: pl.Time = null()
    naive: Annotated[pl.Datetime, "us", None] = null()
    stamp: Annotated[pl.Datetime, "us", "UTC"] = null()
    money: Annotated[pl.Decimal, 12, 2] = null()
    wide: Annotated[pl.Decimal, 38, 10] = null()
    mood: Annotated[pl.Enum, MOODS] = named("mood")
    ident: str = named("uuid")
    j: str = named("json")
    jb: str = named("jsonb")
    host: str = named("inet")
    net: str = named("cidr")
    span: str = named("interval")
    tz: str = named("timetz")
    a_i16: Annotated[pl.List, pl.Int16] = null()
    a_u64: Annotated[pl.List, pl.UInt64] = null()
    a_i64: list[int] = null()
    a_f32: Annotated[pl.List, pl.Float32] = null()
    a_f64: list[float] = null()
    a_flag: list[bool] = null()
    a_words: list[str] = null()
    a_blob: Annotated[pl.List, pl.Binary] = null()
    a_day: Annotated[pl.List, pl.Date] = null()
    a_clock: Annotated[pl.List, pl.Time] = null()
    a_naive: Annotated[pl.List, pl.Datetime("us")] = null()
    a_stamp: Annotated[pl.List, pl.Datetime("us", "UTC")] = null()
    a_money: Annotated[pl.List, pl.Decimal(12, 2)] = null()
    a_ident: list[str] = named("uuid[]")


class Every(Tiered):
    any: str = named("numeric")


LONG_AGO = datetime(1, 1, 1)  # noqa: DTZ001
FAR_OFF = datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001
naive = st.datetimes(LONG_AGO, FAR_OFF)
aware = naive.map(lambda moment: moment.replace(tzinfo=UTC))
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
whole_money = st.integers(-(10**12) + 1, 10**12 - 1).map(lambda n: Decimal(n).scaleb(-2))
idents = st.uuids().map(str)
documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
texts_of_json = st.builds(
    lambda value, ascii, indent: json.dumps(value, ensure_ascii=ascii, indent=indent),
    documents,
    st.booleans(),
    st.none() | st.just(2),
)
hosts = st.builds(
    lambda address, less: f"{address}/{max(address.max_prefixlen - less, 0)}",
    st.ip_addresses(),
    st.integers(0, 128),
)
spans = st.builds(
    lambda m, d, us: f"P{m}M{d}DT{'-' if us < 0 else ''}{abs(us) // 10**6}.{abs(us) % 10**6:06}S",
    st.integers(-(2**31) + 1, 2**31 - 2),
    st.integers(-(2**31) + 1, 2**31 - 2),
    st.integers(-(2**63) + 1, 2**63 - 1),
)
zoned = st.builds(
    lambda clock, sign, z: f"{clock.isoformat()}{sign}{timedelta(seconds=z)!s:0>8}",
    st.times() | st.just(time(0)),
    st.sampled_from("+-"),
    st.integers(0, 16 * 3600 - 1),
)
numbers = st.decimals(allow_nan=False).filter(
    lambda n: not n.is_finite() or -500 < n.as_tuple().exponent < 500  # type: ignore[operator]
) | st.just(Decimal("NaN"))
ints = {f"i{n}": st.integers(-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)}
unsigned = {f"u{n}": st.integers(0, 2**n - 1) for n in (8, 16, 32, 64)}


def one_nan(value: float) -> float:
    """PostgreSQL reads one NaN from text; there are more, which COPY BINARY carries."""
    return math.nan if math.isnan(value) else value


f32 = st.floats(width=32).map(one_nan)
f64 = st.floats().map(one_nan)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "at": aware,
    **ints,
    **unsigned,
    "f32": f32,
    "f64": f64,
    "flag": st.booleans(),
    "words": words,
    "blob": st.binary(),
    "day": st.dates(),
    "clock": st.times(),
    "naive": naive,
    "stamp": aware,
    "money": whole_money,
    "wide": st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}e-10")),
    "mood": st.sampled_from(MOODS),
    "ident": idents,
    "j": texts_of_json,
    "jb": texts_of_json,
    "host": hosts,
    "net": hosts.map(lambda text: str(ipaddress.ip_network(text, strict=False))),
    "span": spans,
    "tz": zoned,
    "a_i16": ints["i16"],
    "a_u64": unsigned["u64"],
    "a_i64": ints["i64"],
    "a_f32": f32,
    "a_f64": f64,
    "a_flag": st.booleans(),
    "a_words": words,
    "a_blob": st.binary(),
    "a_day": st.dates(),
    "a_clock": st.times(),
    "a_naive": naive,
    "a_stamp": aware,
    "a_money": whole_money,
    "a_ident": idents,
    "any": numbers.map(str),
}


def nullable(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    if name == "at":
        return values
    if name.startswith("a_"):
        values = st.lists(st.none() | values, max_size=3)
    return st.none() | values


rows = st.fixed_dictionaries({name: nullable(name, values) for name, values in VALUES.items()})
"""Without an id."""
tables = st.lists(rows, min_size=1, max_size=12)

FEW = hypothesis_settings(max_examples=10, phases=[Phase.generate])
"""A load takes a third of a second: many rows in few loads, and what fails is not made smaller."""
LOADS = iter(range(10**6))

every = SourceTable(name="every", model=Every, source=ParquetFiles(glob="every*.parquet"))
merged = SourceTable(
    name="merged",
    model=Every,
    source=ParquetFiles(glob="merged*.parquet"),
    key=("id",),
    write_mode="merge",
)


def frame_of(table: SourceTable, made: list[dict[str, Any]]) -> pl.DataFrame:
    """The rows in the polars types that the contract names; an enum as plain text."""
    schema = {c.name: pl.String if c.types.labels else c.polars for c in table.contract}
    return pl.DataFrame(made, schema=schema)


def write_expected(
    connection: psycopg.Connection[Any], table: SourceTable, made: list[Any]
) -> None:
    """Let PostgreSQL itself read every value, one by one, beside the table."""
    expected, name = sql.Identifier("expected"), sql.Identifier(table.name)
    connection.execute(
        sql.SQL("create table if not exists {} (like {} including indexes)").format(expected, name)
    )
    connection.execute(sql.SQL("truncate {}").format(expected))
    values = sql.SQL(", ").join(
        sql.SQL(
            "%s::text::{0}" if c.types.literal and "[]" not in c.postgres else "%s::{0}"
        ).format(sql.SQL(c.postgres))
        for c in table.columns
    )
    connection.cursor().executemany(
        sql.SQL("insert into {} values ({})").format(expected, values),
        [[as_parameter(c.name, row[c.name]) for c in table.columns] for row in made],
    )


def as_parameter(name: str, value: Any) -> Any:
    """Return a value so that PostgreSQL reads all of it: its ISO intervals go through a double."""
    if name != "span" or value is None:
        return value
    found = re.fullmatch(r"P(-?\d+)M(-?\d+)DT(-?)(\d+)\.(\d{6})S", value)
    assert found is not None
    months, days, sign, seconds, rest = found.groups()
    return f"{months} months {days} days {sign}{int(seconds + rest)} microseconds"


def differing(connection: psycopg.Connection[Any], table: SourceTable) -> list[Any]:
    """Return ids and columns in which a row is not, byte for byte, what was expected."""
    pairs = sql.SQL(", ").join(
        sql.SQL("case when row(t.{0})::record *<> row(e.{0})::record then {1} end").format(
            sql.Identifier(c.name), sql.Literal(c.name)
        )
        for c in table.columns
    )
    query = sql.SQL(
        "select id, found from (select id, array_remove(array[{}], null) as found"
        " from {} t full join expected e using (id)) d where found <> '{{}}'"
    ).format(pairs, sql.Identifier(table.name))
    return connection.execute(query).fetchall()


@FEW
@given(made=tables)
def test_any_row_is_appended_to_the_byte(
    platform_of: Callable[..., Platform], made: list[dict[str, Any]]
) -> None:
    platform = platform_of(every)
    made = [{"id": number, **row} for number, row in enumerate(made)]
    load_alone(platform, every, made)
    with platform.postgres.connect(autocommit=True) as connection:
        write_expected(connection, every, made)
        found = differing(connection, every)
        connection.execute("truncate every")
    assert found == []


@FEW
@given(before=tables, after=tables)
def test_any_row_is_merged_to_the_byte_and_again_unchanged(
    platform_of: Callable[..., Platform],
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
) -> None:
    platform = platform_of(merged)
    old = {number: {"id": number, **row} for number, row in enumerate(before)}
    new = {number + 1: {"id": number + 1, **row} for number, row in enumerate(after)}
    load_alone(platform, merged, list(old.values()))
    load_alone(platform, merged, list(new.values()))
    again = load_alone(platform, merged, list(new.values()))
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, len(new))
    with platform.postgres.connect(autocommit=True) as connection:
        write_expected(connection, merged, list((old | new).values()))
        found = differing(connection, merged)
        connection.execute("truncate merged")
    assert found == []


def load_alone(platform: Platform, table: SourceTable, made: list[dict[str, Any]]) -> Any:
    """Load rows from a file of their own."""
    file = platform.settings.data / f"{table.name}_{next(LOADS)}.parquet"
    frame_of(table, made).write_parquet(file)
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    file.unlink()
    assert (report.rejected, report.refused, report.rows_read) == (0, (), len(made))
    return report


class Subtle(pa.DataFrameModel):
    id: int
    f: float
    n: str = pa.Field(metadata={"postgres": "numeric"})
    j: str = pa.Field(metadata={"postgres": "json"})
    fs: Annotated[pl.List, pl.Float32]


def test_a_merge_sees_what_equality_does_not(platform_of: Callable[..., Platform]) -> None:
    subtle = SourceTable(
        name="subtle",
        model=Subtle,
        source=ParquetFiles(glob="subtle*.parquet"),
        key=("id",),
        write_mode="merge",
    )
    platform = platform_of(subtle)
    row = {"id": 1, "f": 0.0, "n": "1.0", "j": '{"a":1}', "fs": [0.0]}
    load_alone(platform, subtle, [row])
    for change in ({"f": -0.0}, {"n": "1.00"}, {"j": '{"a": 1}'}, {"fs": [-0.0]}, {}):
        row |= change
        report = load_alone(platform, subtle, [row])
        assert (report.updated, report.unchanged) == ((1, 0) if change else (0, 1))
    with platform.postgres.connect() as connection:
        found = connection.execute("select f::text, n::text, j::text, fs::text from subtle")
        assert found.fetchall() == [("-0", "1.00", '{"a": 1}', "{-0}")]


def test_history_sees_what_equality_does_not(platform_of: Callable[..., Platform]) -> None:
    table = SourceTable(
        name="versions",
        model=Subtle,
        source=ParquetFiles(glob="versions*.parquet"),
        key=("id",),
        write_mode="history",
    )
    platform = platform_of(table)
    row = {"id": 1, "f": 0.0, "n": "1.0", "j": '{"a":1}', "fs": [0.0]}
    load_alone(platform, table, [row])
    for change in ({}, {"j": '{"a": 1}'}, {"f": -0.0}, {"n": "1.00"}, {}):
        row |= change
        report = load_alone(platform, table, [row])
        assert (report.updated, report.unchanged) == ((1, 0) if change else (0, 1))
    with platform.postgres.connect() as connection:
        found = connection.execute(
            "select f::text, n::text, j::text, valid_to is null from versions"
        ).fetchall()
    # The clock stands still: each correction is of the same moment.
    assert found == [("-0", "1.00", '{"a": 1}', True)]


class Settling(Tiered):
    """Keys of the types whose equality both engines share."""

    mood: Annotated[pl.Enum, MOODS] = pa.Field(metadata={"postgres": "mood"})
    ident: str = pa.Field(metadata={"postgres": "uuid"})
    host: str = pa.Field(metadata={"postgres": "inet"})
    u64: pl.UInt64


KEY = ("id", "at", "mood", "ident", "host", "u64")
settling = SourceTable(
    name="settling",
    model=Settling,
    source=ParquetFiles(glob="settling*.parquet"),
    key=KEY,
    write_mode="merge",
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=1)),
)
staying = SourceTable(
    name="staying",
    model=Settling,
    source=ParquetFiles(glob="staying*.parquet"),
    key=KEY,
    write_mode="merge",
)
in_january = st.datetimes(datetime(2024, 1, 1), datetime(2024, 1, 31))  # noqa: DTZ001
settled = {
    **{name: nullable(name, values) for name, values in VALUES.items() if name != "any"},
    "at": in_january.map(lambda moment: moment.replace(tzinfo=UTC)),
    # DuckDB writes -00:00:11 as -00:11; the move sees it and refuses.
    "tz": nullable("tz", VALUES["tz"].filter(lambda text: not re.search(r":00:\d\d$", text))),
    **{name: VALUES[name] for name in KEY[2:]},
}


@hypothesis_settings(max_examples=2, phases=[Phase.generate])
@given(made=st.lists(st.fixed_dictionaries(settled), min_size=8, max_size=30))
def test_any_row_settles_and_is_read_as_if_it_had_not(
    platform_of: Callable[..., Platform], made: list[dict[str, Any]]
) -> None:
    platform = platform_of(settling, staying)
    with platform.postgres.connect(autocommit=True) as connection:
        for table in (settling, staying):
            ensure_table(connection, table)
        connection.execute("truncate settling, staying, lakebed.cold_file cascade")
    rows = [{"id": number, **row} for number, row in enumerate(made)]
    # The first half comes again after the move: their keys, with what other rows hold beside them.
    keys = [{name: row[name] for name in KEY} for row in rows]
    others = [row | key for row, key in zip(reversed(rows), keys, strict=True)]
    for load in (rows[:-2], others[: len(rows) // 2] + rows[-2:]):
        for table in (settling, staying):
            load_alone(platform, table, load)
        before = all_rows(platform, "settling")
        assert seen(platform, settling) == seen(platform, staying)
        assert move_key(platform, "settling", "2024-01").moved == len(load)
        assert all_rows(platform, "settling") == before
        assert seen(platform, settling) == seen(platform, staying)
    with duckdb.connect(str(write_catalog(platform)), read_only=True) as catalog:
        types = [row[:2] for row in catalog.execute("describe settling").fetchall()]
    assert types == seen(platform, staying)[0]


def seen(platform: Platform, table: SourceTable) -> tuple[list[Any], list[Any]]:
    """Return the types and the rows that a reader sees, floats by their bits."""
    columns = [
        f'"{c.name}"::bit::varchar' if c.duckdb in ("FLOAT", "DOUBLE") else f'"{c.name}"::varchar'
        for c in table.columns
    ]
    with platform.lake.session() as session:
        types = [row[:2] for row in session.sql(f"describe {table.name}").fetchall()]
        query = f"select {', '.join(columns)} from {table.name} order by id"  # noqa: S608
        return types, session.sql(query).fetchall()


JUNK = {
    "uuid": st.text("0123456789abcdefABCDEFg-{} ", max_size=40),
    "inet": st.text("0123456789abcdef.:/ ", max_size=22),
    "cidr": st.text("0123456789.:/", max_size=14),
    "interval": st.text("PT0123456789YMWDHS.:-+ daysmonthyear", max_size=20),
    "time with time zone": st.text("0123456789:.+-Zz ", max_size=18),
    "numeric": st.text("0123456789.eE+- naif", max_size=12),
    "json": st.text('{}[]",:012.eE+- \\utrfalsn\n\x00\x1f', max_size=14),
    "jsonb": st.text('{}[]",:012.eE+- \\udD89aAfF0', max_size=16),
}
SPELLINGS = {
    "uuid": [
        "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
        "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
    ],
    "inet": [
        *("10.0.0.1", "10.0.0.1/8", "0.0.0.0/0", "256.0.0.1", "1.2.3.4/33", "1.2.3", "::", "::1"),
        *("1::", "::ffff:1.2.3.4/96", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7::", "1::8/128", "::1/129"),
        *("1:2:3:4:5:6:1.2.3.4", "1::2::3", ":1", "12345::", "FE80::1", "::1.2.3.256", "1:2"),
    ],
    "cidr": ["10.0.0.0/8", "10.0.0.1/8", "10.0.0.1", "2001:db8::/32", "2001:db8::1/32", "::/0"],
    "interval": [
        *("1 day", "1 year 2 mons 3 days 04:05:06.789", "-1 mons +2 days -00:00:01.5", "P1Y2M3W4D"),
        *("P1Y2M10DT2H30M", "PT-0.5S", "PT0.000001S", "00:00:00.000001", "12:30", "1 mon", "P", ""),
        *("2 years", "-178956970 years", "5 days -23:59:59.999999", "PT36H", "P-1DT-1H"),
    ],
    "time with time zone": [
        *("12:30:00+02", "12:30Z", "24:00:00+00", "24:00:00.1+00", "23:59:59.999999-15:59:59"),
        *("12:30:00 -0530", "12:30:00+05:30:15", "12:30:60+00", "25:00:00Z", "12:00:00+16"),
    ],
    "numeric": [
        *("1", "-0.00", "1.50", "007", "1e3", "-1.5E-3", ".5", "5.", "NaN", "-inf", "+Infinity"),
        *("1e-400", "9" * 9000, "0." + "0" * 9000 + "1", "1e9999", "10000.0001", "-9999e4", "e5"),
    ],
    "json": ["[" * 500 + "]" * 500, '{"a": [1, {"b": null}], "c": "\\""}', "01", '"\\u12"', " 1 "],
    "jsonb": ['"\\u0000"', '"\\\\u0000"', '"\\ud83d\\ude00"', '"\\ud83d"', "1e999999", "1e-9999"],
}


@pytest.mark.parametrize("kind", JUNK)
def test_what_is_read_is_what_postgres_reads(database: str, kind: str) -> None:
    texts = [*SPELLINGS[kind], *generated(JUNK[kind], 400)]
    series = pl.Series("c", texts, dtype=pl.String)
    read = LITERAL_TYPES[kind].read(series)
    with psycopg.connect(database, autocommit=True) as connection:
        valid = [
            row[0]
            for row in connection.execute(
                "select pg_input_is_valid(replace(t, chr(1), ''), %s) and position(chr(1) in t) = 0"
                " from unnest(%s::text[]) with ordinality u(t, i) order by i",
                # Text cannot hold NUL, which is not JSON either.
                [kind, [text.replace("\0", "\1") for text in texts]],
            )
        ]
        accepted = [one is not None for one in read]
        guessed = [text for text, a, v in zip(texts, accepted, valid, strict=True) if a and not v]
        assert guessed == []
        if kind in ("json", "jsonb"):
            assert [t for t, a, v in zip(texts, accepted, valid, strict=True) if v and not a] == []
        assert sum(accepted) >= 2
        pairs = [(t, one) for t, one in zip(texts, read, strict=True) if one is not None]
        same = sql.SQL(
            "select t, r from unnest(%s::text[], %s::text[]) u(t, r)"
            " where row(t::{0})::record *<> row(r::{0})::record"
        ).format(sql.SQL(kind))
        lists = [[t for t, _ in pairs], [r for _, r in pairs]]
        assert connection.execute(same, lists).fetchall() == []


def generated(strategy: st.SearchStrategy[str], count: int) -> list[str]:
    """Draw texts from a strategy, the same in each run."""
    found: list[str] = []

    @hypothesis_settings(max_examples=count, phases=[Phase.generate])
    @given(strategy)
    def draw(text: str) -> None:
        found.append(text)

    draw()
    return found


class Visit(pa.DataFrameModel):
    id: int
    ident: str = named("uuid")
    mood: Annotated[pl.Enum, ["sad", "glad"]] = named("feeling")
    doc: str = named("jsonb")
    host: str = named("inet")
    span: str = named("interval")
    big: pl.UInt64 = null()
    tags: list[str] = null()
    marks: Annotated[pl.List, pl.Int16] = null()
    any: str = named("numeric")


visits = SourceTable(
    name="visits",
    model=Visit,
    source=CsvFiles(glob="visits*.csv", delimiter=";", quote="'"),
    reject_share=0.9,
)
GOOD = """\
1;A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11;glad;{"a": 1};10.0.0.1/8;P1DT2H;18446744073709551615;\
{a,NULL,"b \\"c\\",d",""};[1, null];1e2
"""
BAD = {
    "ident": ("zzz", "is not a uuid"),
    "mood": ("furious", "is not a label of sad, glad"),
    "doc": ("{a: 1}", "is not JSON"),
    "host": ("10.0.0.300", "is not an address"),
    "span": ("1 fortnight", "is not an interval"),
    "big": ("18446744073709551616", "does not fit a whole number"),
    "tags": ("{a", "is not an array"),
    "marks": ("[1, 40000]", "has an element that does not fit a whole number"),
    "any": ("1,5", "is not a number"),
}


def test_bad_values_of_a_csv_are_rejected_one_by_one(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(visits)
    names = [c.name for c in visits.columns]
    lines = [
        ";".join([str(n), *(text if name == bad else "" for name in names[1:])])
        for n, (bad, (text, _)) in enumerate(BAD.items(), start=2)
    ]
    text = ";".join(names) + "\n" + GOOD + "\n".join(lines) + "\n"
    (platform.settings.data / "visits.csv").write_text(text)
    report = load_table(platform.settings, platform.postgres, platform.clock, visits)
    assert (report.inserted, report.rejected, report.refused) == (1, len(BAD), ())
    with platform.postgres.connect() as connection:
        rejects = connection.execute(
            "select column_name, message from lakebed.rejected_row order by row_number"
        ).fetchall()
        row = connection.execute(
            "select ident::text, mood::text, doc::text, host::text, span::text, big, tags, marks,"
            ' "any"::text from visits'
        ).fetchone()
    assert [column for column, _ in rejects] == list(BAD)
    for (_, found), (_, reason) in zip(rejects, BAD.values(), strict=True):
        assert reason in found
    assert row == (
        *("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "glad", '{"a": 1}', "10.0.0.1/8"),
        *("1 day 02:00:00", Decimal(2**64 - 1), ["a", None, 'b "c",d', ""], [1, None], "100"),
    )
    with platform.lake.session() as session:
        # DuckDB's scan would make a double of a numeric without precision, and 0 of its NaN.
        assert session.sql('select "any", typeof("any") from visits').fetchall() == [
            ("100", "VARCHAR")
        ]


def test_an_enum_is_made_shared_and_never_changed_silently(
    platform_of: Callable[..., Platform],
) -> None:
    class Sad(pa.DataFrameModel):
        mood: Annotated[pl.Enum, ["sad"]] = named("feeling")

    class SadOrGlad(pa.DataFrameModel):
        mood: Annotated[pl.Enum, ["sad", "glad"]] = named("feeling")

    class GladOrSad(pa.DataFrameModel):
        mood: Annotated[pl.Enum, ["glad", "sad"]] = named("feeling")

    one, two, three, four = (
        SourceTable(name=f"t{i}", model=model, source=ParquetFiles(glob="none"))
        for i, model in enumerate((Sad, Sad, SadOrGlad, GladOrSad))
    )
    platform = platform_of(one, two, three, four)
    with platform.postgres.connect(autocommit=True) as connection:
        for table in (one, one, two):
            ensure_table(connection, table)
        with pytest.raises(DriftError, match=r"ALTER TYPE public.feeling ADD VALUE 'glad'"):
            ensure_table(connection, three)
        connection.execute("alter type feeling add value 'glad'")
        ensure_table(connection, three)
        with pytest.raises(DriftError, match=r"in this order.*name another type"):
            ensure_table(connection, four)
        with pytest.raises(DriftError, match=r"labels sad, glad, the contract says sad, in"):
            ensure_table(connection, one)


def test_native_types_of_parquet_become_the_contracts(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(visits_of_parquet)
    ident = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    long = Decimal("-" + "123456789" * 6 + ".00000001")
    arrow = pyarrow.table(
        {
            "logical": pyarrow.array([ident.bytes, None], pyarrow.uuid()),
            "fixed": pyarrow.array([ident.bytes, None], pyarrow.binary(16)),
            "plain": pyarrow.array([ident.bytes, None], pyarrow.binary(16)),
            "idents": pyarrow.ListArray.from_arrays(
                [0, 2, 2], pyarrow.array([ident.bytes, None], pyarrow.uuid())
            ),
            "long": pyarrow.array([long, Decimal("0.00000001")], pyarrow.decimal256(70, 8)),
            "money": pyarrow.array([Decimal("1.5"), None], pyarrow.decimal256(70, 8)),
            "doc": pyarrow.array(["{}", None], pyarrow.json_()),
            "mood": pyarrow.array(["glad", None]).dictionary_encode(),
            "words": pyarrow.array(["a", None], pyarrow.large_string()),
            "at": pyarrow.array([1_000, None], pyarrow.timestamp("ns")),
            "span": pyarrow.array([-1_500_000_000, None], pyarrow.duration("ns")),
            "marks": pyarrow.array([[1, None], [2, 3]], pyarrow.list_(pyarrow.int64(), 2)),
        }
    )
    pq.write_table(arrow, platform.settings.data / "native.parquet")
    report = load_table(platform.settings, platform.postgres, platform.clock, visits_of_parquet)
    assert (report.inserted, report.rejected, report.refused) == (2, 0, ())
    with platform.postgres.connect() as connection:
        found = connection.execute("select * from native").fetchall()
    assert found == [
        (
            *(ident, ident, ident.bytes, [ident, None], long, Decimal("1.50"), {}, "glad", "a"),
            *(datetime(1970, 1, 1, microsecond=1), timedelta(seconds=-1.5), [1, None]),  # noqa: DTZ001
        ),
        (None, None, None, [], Decimal("0.00000001"), *[None] * 6, [2, 3]),
    ]


class Native(pa.DataFrameModel):
    logical: str = named("uuid")
    fixed: str = named("uuid")
    plain: pl.Binary = null()
    idents: list[str] = named("uuid[]")
    long: str = named("numeric")
    money: Annotated[pl.Decimal, 12, 2] = null()
    doc: str = named("jsonb")
    mood: Annotated[pl.Enum, ["sad", "glad"]] = named("feeling")
    words: str = null()
    at: Annotated[pl.Datetime, "us", None] = null()
    span: str = named("interval")
    marks: Annotated[pl.List, pl.Int16] = null()


visits_of_parquet = SourceTable(
    name="native", model=Native, source=ParquetFiles(glob="native.parquet")
)
