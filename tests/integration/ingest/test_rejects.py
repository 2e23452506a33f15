"""Rejected rows are listed, exported, mended and loaded again: each once, or not at all."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.ingest.retry import retry_rejects
from lakebed.ingest.waiting import Selection, export, newest
from lakebed.ingest.writers import LoadConflictError
from lakebed.recovery.rollback_candidates import loads_of
from lakebed.spec.table import (
    CsvFiles,
    Grain,
    Mapped,
    ParquetFiles,
    Partitioning,
    SourceTable,
    TableError,
)
from lakebed.store.platform import Platform
from tests.support import processes

HEADER = "Order ID,Land,at,amount\n"
GERMAN = Mapped("amount", decimal=",")


class Order(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    country: str = pa.Field(nullable=True, isin=["DE", "FR"])
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)


ORDERS = SourceTable(
    name="orders",
    model=Order,
    source=CsvFiles(glob="orders/*.csv"),
    cursor="at",
    transforms={
        "id": Mapped("Order ID"),
        "country": Mapped("Land", trim=True, case="upper", values={"GERMANY": "DE"}),
    },
    reject_share=0.9,
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
)
MENDED = replace(ORDERS, transforms=dict(ORDERS.transforms) | {"amount": GERMAN})
ROWS = [
    '1,Germany,2024-02-01,"1,50"',
    "2, fr ,2024-02-01,2",
    "3,Spain,2024-02-01,3",
    '4,de,2024-03-09T00:00:00Z,"4,25"',
]


def deliver(platform: Platform, name: str, *rows: str) -> None:
    path = platform.settings.data / "orders" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))


def load(platform: Platform, table: SourceTable = ORDERS) -> LoadReport:
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert report.balanced
    assert report.refused == ()
    return report


def retry(platform: Platform, table: SourceTable, **more: Any) -> LoadReport:
    report = retry_rejects(platform.settings, platform.postgres, platform.clock, table, **more)
    assert report.balanced
    return report


def ask(platform: Platform, query: str) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(query).fetchall()


IDS = "select id, country, amount::text from orders order by id"
QUARANTINE = (
    "select source_row->>'Order ID', column_name, resolved_by is not null"
    " from lakebed.rejected_row order by 1"
)


@pytest.fixture
def orders(platform_of: Callable[..., Platform]) -> Platform:
    platform = platform_of(ORDERS)
    deliver(platform, "1.csv", *ROWS)
    report = load(platform)
    assert (report.inserted, report.rejected) == (1, 3)
    return platform


def test_a_shaped_table_loads_and_names_the_source_in_its_rejects(orders: Platform) -> None:
    assert ask(orders, IDS) == [(2, "FR", "2.00")]
    found = ask(orders, "select message, source_row from lakebed.rejected_row order by row_number")
    assert [row["Order ID"] for _, row in found] == ["1", "3", "4"]
    assert "country: breaks the rule isin" in found[1][0]
    assert "'Land' is 'Spain'" in found[1][0]


def test_after_a_fix_of_the_table_file_good_rows_leave_and_bad_ones_have_their_new_reason(
    orders: Platform,
) -> None:
    with orders.postgres.connect() as connection:
        stands = loads_of(connection, ORDERS)
    assert retry(orders, ORDERS).inserted == 0
    with orders.postgres.connect() as connection:
        # What loaded nothing is no state to go back to.
        assert loads_of(connection, ORDERS) == stands
    before = ask(orders, "select cursor_to from lakebed.load order by committed_at limit 1")
    report = retry(orders, MENDED)
    assert (report.rows_read, report.inserted, report.rejected) == (3, 2, 1)
    assert ask(orders, IDS) == [(1, "DE", "1.50"), (2, "FR", "2.00"), (4, "DE", "4.25")]
    assert ask(orders, QUARANTINE) == [
        ("1", "amount", True),
        ("3", "country", False),
        ("4", "amount", True),
    ]
    resolved = ask(orders, "select distinct resolved_by from lakebed.rejected_row order by 1")
    assert resolved == [(report.load_id,), (None,)]
    wider = replace(
        MENDED, transforms=dict(MENDED.transforms) | {"country": Mapped("Land", trim=True)}
    )
    again = retry(orders, wider)
    assert (again.rows_read, again.rejected) == (1, 1)
    # A retry does not move the cursor from which the source goes on.
    after = ask(orders, "select cursor_to from lakebed.load order by committed_at desc limit 1")
    assert after == before
    assert load(orders, MENDED).load_id is None


def test_rows_that_were_mended_in_the_quarantine_load(orders: Platform) -> None:
    with orders.postgres.connect() as connection:
        connection.execute(
            'update lakebed.rejected_row set source_row = source_row || \'{"Land": "fr"}\''
            " where source_row->>'Order ID' = '3'"
        )
    report = retry(orders, ORDERS, column="country")
    assert (report.rows_read, report.inserted) == (1, 1)
    assert ask(orders, IDS) == [(2, "FR", "2.00"), (3, "FR", "3.00")]


def test_a_retry_takes_the_rows_of_one_load_or_column_alone(orders: Platform) -> None:
    deliver(orders, "2.csv", '5,de,2024-02-01,"5,5"', "6,fr,2024-02-01,6")
    second = load(orders)
    assert retry(orders, MENDED, load_id="no such load").load_id is None
    assert retry(orders, MENDED, load_id=second.load_id).inserted == 1
    assert retry(orders, MENDED, column="country").rejected == 1
    assert retry(orders, MENDED, column="amount").inserted == 2
    assert [row[0] for row in ask(orders, IDS)] == [1, 2, 4, 5, 6]


def test_a_row_that_lacks_a_column_stays_and_is_named_and_a_line_that_is_no_row_waits(
    orders: Platform,
) -> None:
    deliver(orders, "2.csv", "6,fr,2024-02-01,6", "7,fr")
    load(orders)
    needs_more = replace(
        MENDED, transforms=dict(MENDED.transforms) | {"country": Mapped("Country")}
    )
    report = retry(orders, needs_more)
    assert report.load_id is None
    (refused,) = report.refused
    assert "1.csv" in refused.path
    assert "column 'Country' is missing" in refused.problem
    assert retry(orders, MENDED).rows_read == 3
    assert ask(orders, "select count(*) from lakebed.rejected_row where resolved_by is null") == [
        (2,)
    ]


class Log(pa.DataFrameModel):
    line: str


def test_a_line_that_is_no_row_waits_beside_rows_of_a_column_of_that_name(
    platform_of: Callable[..., Platform],
) -> None:
    logs = SourceTable(name="logs", model=Log, source=CsvFiles(glob="logs.csv"), reject_share=0.9)
    platform = platform_of(logs)
    (platform.settings.data / "logs.csv").write_text('line\nfine\na,b\n"x"y\n')
    assert load(platform, logs).rejected == 2
    assert retry(platform, logs).rows_read == 0
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute(
            "update lakebed.rejected_row set source_row = jsonb_build_object('line', 'a; b')"
            " where source_row->>'$line' = 'a,b'"
        )
    assert retry(platform, logs).inserted == 1
    assert ask(platform, "select line from logs order by 1") == [("a; b",), ("fine",)]


def test_a_row_that_changes_while_it_is_loaded_again_stops_the_retry(orders: Platform) -> None:
    def mend(step: str) -> None:
        if step == "written":
            with orders.postgres.connect() as other:
                other.execute("update lakebed.rejected_row set source_row = '{}'")

    before = ask(orders, IDS)
    with pytest.raises(LoadConflictError, match="3 of the rejected rows were changed"):
        retry_rejects(orders.settings, orders.postgres, orders.clock, MENDED, on_step=mend)
    assert ask(orders, IDS) == before


@pytest.mark.parametrize(
    "step", ["extracted", "began", "copied", "written", "recorded", "committed"]
)
@pytest.mark.thorough_but("written", "committed")
def test_a_killed_retry_that_is_run_again_loads_each_row_once(
    platform: Platform, step: str
) -> None:
    folder = platform.settings.data / "readings"
    folder.mkdir()
    at = datetime(2024, 2, 1, tzinfo=UTC)
    pl.DataFrame(
        {
            "at": [at] * 400,
            "sensor": ["a"] * 400,
            "value": [1.5] * 397 + [-2000.0] * 3,
            "number": range(400),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).write_parquet(folder / "1.parquet")
    load(platform, platform.table("readings"))
    with platform.postgres.connect() as connection:
        connection.execute(
            'update lakebed.rejected_row set source_row = source_row || \'{"value": "7"}\''
            " where row_number <> 400"
        )
    assert processes.run(processes.retry, platform.settings, "readings", step) == -9
    shutil.rmtree(platform.settings.home / "dlt", ignore_errors=True)
    committed = step == "committed"
    assert ask(platform, "select count(*) from readings") == [(399 if committed else 397,)]
    for _ in range(2):
        assert processes.run(processes.retry, platform.settings, "readings", None) == 0
        assert ask(platform, "select count(*), count(distinct number) from readings") == [
            (399, 399)
        ]
        assert ask(
            platform, "select row_number from lakebed.rejected_row where resolved_by is null"
        ) == [(400,)]


def test_a_row_would_be_doubled_without_the_settling(
    orders: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakebed.ingest.sources.quarantined import QuarantineReader

    monkeypatch.setattr(QuarantineReader, "settle", lambda *args: [])
    retry(orders, MENDED)
    retry(orders, MENDED)
    assert [row[0] for row in ask(orders, IDS)] == [1, 1, 2, 4, 4]


class Typed(pa.DataFrameModel):
    id: pl.Int64 = pa.Field(lt=5)
    raw: pl.Binary
    exact: Annotated[pl.Decimal, 20, 4]
    at: Annotated[pl.Datetime, "us", "UTC"]
    clock: pl.Time
    real: pl.Float64


class Wider(Typed):
    id: pl.Int64


def test_typed_values_come_out_of_a_retry_as_the_source_had_them(
    platform_of: Callable[..., Platform],
) -> None:
    strict = SourceTable(
        name="typed", model=Typed, source=ParquetFiles(glob="typed.parquet"), reject_share=1
    )
    platform = platform_of(strict)
    frame = pl.DataFrame(
        {
            "id": [1, 7, 8],
            "raw": [b"a", b"\xff\0", b""],
            "exact": ["1.5", "1234567890123456.7891", "-0.0001"],
            "at": [1, 2**50 + 1, -(2**50)],
            "clock": [0, 86_399_999_999_000, 1_000],
            "real": [0.1, 1e-300, -0.0],
        }
    ).with_columns(
        pl.col("exact").cast(pl.Decimal(20, 4)),
        pl.col("at").cast(pl.Datetime("us", "UTC")).dt.convert_time_zone("Asia/Tokyo"),
        pl.col("clock").cast(pl.Time),
    )
    frame.write_parquet(platform.settings.data / "typed.parquet")
    assert load(platform, strict).rejected == 2
    assert retry(platform, replace(strict, model=Wider)).inserted == 2
    expected = frame.with_columns(pl.col("at").dt.convert_time_zone("UTC")).rows()
    assert ask(platform, "select * from typed order by id") == [
        (i, raw, exact, at, clock, real) for i, raw, exact, at, clock, real in expected
    ]


def test_the_quarantine_is_listed_and_exported_for_spreadsheets(
    orders: Platform, tmp_path: Path
) -> None:
    deliver(orders, "2.csv", "8,=HYPERLINK(),2024-02-01,-5", "9,fr,2024-02-01,9")
    second = load(orders)
    chosen = Selection("orders", column="country")
    with orders.postgres.connect() as connection:
        rows, of_rows = newest(connection, chosen, 1)
        assert (of_rows, rows[0]["source_row"]["Order ID"]) == (2, "8")
        assert newest(connection, Selection("orders", load_id=second.load_id), 9)[1] == 1
        for suffix in ("csv", "jsonl", "parquet"):
            assert export(connection, ORDERS, Selection("orders"), tmp_path / f"r.{suffix}") == 4
    with (tmp_path / "r.csv").open(newline="") as stream:
        cells = list(csv.DictReader(stream))
    assert list(cells[0])[:4] == ["at", "Order ID", "Land", "amount"]
    assert [row["Land"] for row in cells] == ["Germany", "Spain", "de", "'=HYPERLINK()"]
    assert (cells[3]["amount"], cells[3]["lakebed_row"]) == ("-5", "1")
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["source_row"]["Order ID"] for line in lines] == ["1", "3", "4", "8"]
    frame = pl.read_parquet(tmp_path / "r.parquet")
    assert frame["Land"].to_list()[3] == "=HYPERLINK()"
    assert frame["lakebed_column"].to_list() == ["amount", "country", "amount", "country"]
    assert sorted(p.name for p in tmp_path.glob("*r.*")) == ["r.csv", "r.jsonl", "r.parquet"]


class Kept(pa.DataFrameModel):
    id: pl.Int64
    amount: pl.Int64


def test_a_bad_row_of_a_whole_extract_spares_its_row_under_the_sources_names(
    platform_of: Callable[..., Platform],
) -> None:
    table = SourceTable(
        name="kept",
        model=Kept,
        source=CsvFiles(glob="kept.csv"),
        key=("id",),
        write_mode="merge",
        deletes="full_extract",
        reject_share=0.9,
        transforms={"id": Mapped("No", trim=True)},
    )
    platform = platform_of(table)
    path = platform.settings.data / "kept.csv"
    path.write_text("No,amount\n 1,1\n2,2\n3,3\n4,4\n")
    load(platform, table)
    path.write_text("No,amount\n 1 ,one\n2,2\n4,4\n")
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert report.rejected == 1
    assert ask(platform, "select id from kept order by 1") == [(1,), (2,), (4,)]
    with pytest.raises(TableError, match="a load reads its whole source"):
        retry(platform, table)
