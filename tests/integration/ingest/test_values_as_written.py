"""What other programs write, through a whole load: each value is itself, or its row is a reject."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import pyarrow
import pyarrow.parquet as pq
import pytest

from lakebed import (
    CopyFiles,
    CsvFiles,
    DuckdbTable,
    JsonFiles,
    Mapped,
    ParquetFiles,
    SourceTable,
    SqliteTable,
)
from lakebed.ingest.load import LoadReport, load_table
from lakebed.store.platform import Platform


@dataclass
class Loads:
    """Loads tables of one home and asks PostgreSQL."""

    platform_of: Callable[..., Platform]

    @property
    def data(self) -> Path:
        return self.platform_of().settings.data

    def __call__(self, name: str, model: Any, source: Any, **fields: Any) -> LoadReport:
        fields.setdefault("reject_share", 1.0)
        fields.setdefault("changed_files", "refuse")
        table = SourceTable(name=name, model=model, source=source, **fields)
        platform = self.platform_of(table)
        return load_table(platform.settings, platform.postgres, platform.clock, table)

    def rows(self, query: str) -> list[Any]:
        with self.platform_of().postgres.connect() as connection:
            return connection.execute(query).fetchall()

    def rejects(self) -> list[Any]:
        return self.rows(
            "select row_number, column_name, source_row from lakebed.rejected_row"
            " order by source_file, row_number"
        )


@pytest.fixture
def load(platform_of: Callable[..., Platform]) -> Loads:
    loads = Loads(platform_of)
    loads.data.mkdir(parents=True, exist_ok=True)
    return loads


class Price(pa.DataFrameModel):
    id: pl.Int64
    v: Annotated[pl.Decimal, 38, 18]


PRICES = [0.07, 1.1, 19.99, 598431.19, 744743.69, 8.37]


@pytest.mark.parametrize("kind", ["parquet", "sqlite", "duckdb", "json"])
def test_a_float_is_the_decimal_that_its_text_names(load: Loads, kind: str) -> None:
    frame = pl.DataFrame({"id": range(len(PRICES)), "v": PRICES})
    match kind:
        case "parquet":
            frame.write_parquet(load.data / "p.parquet")
        case "json":
            frame.write_ndjson(load.data / "p.jsonl")
        case "sqlite":
            frame.write_database("p", f"sqlite:///{load.data}/p.db")
        case _:
            with duckdb.connect(load.data / "p.duckdb") as connection:
                connection.register("frame", frame.to_arrow())
                connection.execute("create table p as from frame")
    sources = {
        "parquet": ParquetFiles("p.parquet"),
        "json": JsonFiles("p.jsonl"),
        "sqlite": SqliteTable(database="p.db", table="p"),
        "duckdb": DuckdbTable(database="p.duckdb", table="p"),
    }
    assert load("prices", Price, sources[kind]).inserted == len(PRICES)
    assert load.rows("select v from prices order by id") == [(Decimal(repr(v)),) for v in PRICES]


class Hours(pa.DataFrameModel):
    id: pl.Int64
    closes: pl.Time = pa.Field(nullable=True)


@pytest.mark.parametrize("kind", ["csv", "parquet", "duckdb"])
def test_an_hour_beyond_the_day_is_a_reject_whatever_it_comes_from(load: Loads, kind: str) -> None:
    with duckdb.connect(load.data / "h.duckdb") as connection:
        connection.execute(
            "create table h as select 1::bigint id, time '22:00' closes"
            " union all select 2, time '24:00:00' union all select 3, null"
        )
        connection.execute(f"copy h to '{load.data}/h.parquet'")
        connection.execute(f"copy h to '{load.data}/h.csv' (header)")
    sources = {
        "csv": CsvFiles("h.csv"),
        "parquet": ParquetFiles("h.parquet"),
        "duckdb": DuckdbTable(database="h.duckdb", table="h"),
    }
    report = load("hours", Hours, sources[kind])
    assert (report.inserted, report.rejected) == (2, 1)
    assert load.rows("select * from hours order by id") == [(1, time(22)), (3, None)]
    ((number, column, row),) = load.rejects()
    assert (number, column) == (2, "closes")
    assert row["closes"].startswith("24:00:00")


class Valid(pa.DataFrameModel):
    id: pl.Int64
    valid_to: Annotated[pl.Datetime, "us", "UTC"]


def test_the_last_day_that_spark_writes_is_that_day(load: Loads) -> None:
    times = [datetime(2026, 1, 1), datetime(9999, 12, 31, 23, 59, 59), datetime(1500, 1, 1)]  # noqa: DTZ001
    pq.write_table(
        pyarrow.table({"id": [1, 2, 3], "valid_to": pyarrow.array(times, pyarrow.timestamp("us"))}),
        load.data / "scd.parquet",
        use_deprecated_int96_timestamps=True,
    )
    assert load("scd", Valid, ParquetFiles("scd.parquet")).inserted == 3
    found = load.rows("select valid_to from scd order by id")
    assert found == [(each.replace(tzinfo=UTC),) for each in times]


class Amount(pa.DataFrameModel):
    id: pl.Int64
    v: Annotated[pl.Decimal, 5, 2]


def test_a_decimal_beyond_the_precision_of_its_file_is_one_reject(load: Loads) -> None:
    whole = pyarrow.array([Decimal("12345.60"), Decimal("1.23")], pyarrow.decimal128(38, 2))
    short = pyarrow.Array.from_buffers(pyarrow.decimal128(5, 2), 2, whole.buffers())
    pq.write_table(pyarrow.table({"id": [1, 2], "v": short}), load.data / "a.parquet")
    pq.write_table(
        pyarrow.table({"id": [3], "v": pyarrow.array([Decimal("4.56")], pyarrow.decimal128(5, 2))}),
        load.data / "b.parquet",
    )
    report = load("amounts", Amount, ParquetFiles("*.parquet"))
    assert (report.inserted, report.rejected, report.refused) == (2, 1, ())
    assert load.rejects() == [(1, "v", {"id": 1, "v": "12345.60"})]


def test_a_number_of_more_digits_than_its_column_does_not_fit_it(load: Loads) -> None:
    with duckdb.connect(load.data / "h.duckdb") as connection:
        connection.execute(
            "create table h as select 1::bigint id,"
            " 170141183460469231731687303715884105727::hugeint v"
        )
    wide = type(
        "Wide",
        (pa.DataFrameModel,),
        {"__annotations__": {"id": pl.Int64, "v": Annotated[pl.Decimal, 38, 0]}},
    )
    assert load("wide", wide, DuckdbTable(database="h.duckdb", table="h")).rejected == 1
    ((message,),) = load.rows("select message from lakebed.rejected_row")
    assert "does not fit" in message


class Odd(pa.DataFrameModel):
    b: pl.Int64
    x: pl.Int64 = pa.Field(alias=" a")
    y: pl.Int64 = pa.Field(alias="a")
    z: pl.Int64 = pa.Field(alias='q"r')
    w: pl.Int64 = pa.Field(alias="q_r")
    v: pl.Int64 = pa.Field(alias="_dlt_id")


def test_values_stay_in_their_columns_whatever_those_are_called(load: Loads) -> None:
    (load.data / "o.csv").write_text('b, a,a,"q""r",q_r,_dlt_id\n1,2,3,4,5,6\n')
    assert load("odd", Odd, CsvFiles("o.csv")).inserted == 1
    found = load.rows('select b, " a", a, "q""r", q_r, _dlt_id from odd')
    assert found == [(1, 2, 3, 4, 5, 6)]


class Stop(pa.DataFrameModel):
    id: pl.Int64
    at: pl.Time
    name: str = pa.Field(nullable=True)


STOPS = [(1, time(12), "a\tb"), (2, time(9, 5), None)]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (CsvFiles("s.txt"), 'id,at,name\n1,12:00,"a\tb"\n2,9:05,\n'),
        (CsvFiles("s.txt", short_lines="null"), 'id,at,name\n1,12:00:00,"a\tb"\n2,9:05\n'),
        (CsvFiles("s.txt", skip_initial_space=True), 'id, at, name\n1, 12:00, "a\tb"\n2, 9:05, \n'),
        (CopyFiles("s.txt", columns=("id", "at", "name")), "1\t12:00\ta\\tb\n2\t9:05\t\\N\n\\.\n"),
        (CsvFiles("s.txt", delimiter="|"), "id|at|name\r\n1|12:00|a\tb\r\n2|9:05|\r\n"),
    ],
    ids=["csv", "short lines", "spaces", "copy", "windows"],
)
def test_each_dialect_loads(load: Loads, source: CsvFiles, text: str) -> None:
    (load.data / "s.txt").write_bytes(text.encode())
    report = load("stops", Stop, source)
    assert (report.inserted, report.rejected, report.refused) == (2, 0, ())
    assert load.rows("select * from stops order by id") == STOPS


def test_a_break_of_another_kind_makes_no_row(load: Loads) -> None:
    (load.data / "u.csv").write_bytes(b"id,v\n1,note: \r2,paid\n3,ef\n")
    model = type(
        "Note", (pa.DataFrameModel,), {"__annotations__": {"id": pl.Int64, "v": pl.String}}
    )
    report = load("notes", model, CsvFiles("u.csv"))
    assert (report.rows_read, report.inserted, report.rejected) == (2, 1, 1)
    assert load.rows("select id, v from notes") == [(3, "ef")]
    assert load.rejects() == [(1, None, {"line": "1,note: \r2,paid"})]


def test_a_member_of_an_archive_is_loaded_alone_and_once(load: Loads) -> None:
    with zipfile.ZipFile(load.data / "gtfs.zip", "w") as archive:
        archive.writestr("stops.txt", "id,at\n1,12:00\n")
        archive.writestr("routes.txt", "route_id\n7\n")
    source = CsvFiles("gtfs.zip/stops.txt")
    transforms = {"name": Mapped("id", values={1: "one"})}
    assert load("stops", Stop, source, transforms=transforms).inserted == 1
    assert load("stops", Stop, source, transforms=transforms).files == 0
