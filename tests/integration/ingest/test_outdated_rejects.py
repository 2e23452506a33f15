"""Rejects of what was read again wait no more: no retry brings an old text of a row back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.ingest.retry import retry_rejects
from lakebed.monitoring.status import read_status
from lakebed.recovery.rollback import rollback
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable
from lakebed.store.platform import Platform


class Order(pa.DataFrameModel):
    id: pl.Int64
    at: Annotated[pl.Datetime, "us", "UTC"]
    price: pl.Float64 = pa.Field(nullable=True, ge=0)


ORDERS = SourceTable(
    name="orders",
    model=Order,
    source=CsvFiles(glob="orders/**/*.csv"),
    cursor="at",
    write_mode="merge",
    key=("id",),
    reject_share=0.9,
    changed_files="reload",
)
BY_WINDOW = replace(
    ORDERS,
    cursor=None,
    write_mode="append",
    key=(),
    load_by="window",
    reject_share=1,
    changed_files=None,
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2026, 1, 1, tzinfo=UTC)
    ),
)
PRICES = "select id, price from orders order by id"


@pytest.fixture
def orders(platform_of: Callable[..., Platform]) -> Platform:
    return platform_of(ORDERS)


def deliver(platform: Platform, name: str, prices: dict[int, str], at: str = "2026-01-11") -> None:
    path = platform.settings.data / "orders" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{number},{at},{price}\n" for number, price in prices.items()]
    path.write_text("id,at,price\n" + "".join(lines))


def load(platform: Platform, table: SourceTable = ORDERS) -> LoadReport:
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert report.balanced
    assert report.refused == ()
    return report


def load_month(platform: Platform, key: str, table: SourceTable = BY_WINDOW) -> LoadReport:
    window = window_for_key(Grain.MONTH, key)
    return load_window(platform.settings, platform.postgres, platform.clock, table, window)


def retry(platform: Platform, table: SourceTable = ORDERS) -> LoadReport:
    return retry_rejects(platform.settings, platform.postgres, platform.clock, table)


def undo(platform: Platform, table: SourceTable = ORDERS, **more: Any) -> None:
    rollback(platform.postgres, platform.lake.files, table, **more)


def ask(platform: Platform, query: str) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def mend_in_quarantine(platform: Platform, price: str) -> None:
    with platform.postgres.connect() as connection:
        connection.execute(
            "update lakebed.rejected_row set source_row = source_row || jsonb_build_object('price',"
            " %s::text)",
            [price],
        )


def waiting(platform: Platform, name: str = "id") -> list[str]:
    """Return one column of the rows that wait, as the source has it."""
    query = (
        f"select coalesce(source_row ->> '{name}', '') from lakebed.rejected_row"  # noqa: S608
        " where resolved_by is null order by 1"
    )
    return [row[0] for row in ask(platform, query)]


def test_rejects_of_a_file_that_was_mended_are_not_loaded_over_its_newer_rows(
    orders: Platform,
) -> None:
    deliver(orders, "1.csv", {1: "1", 2: "a", 3: "b"})
    first = load(orders)
    mend_in_quarantine(orders, "99")  # what a retry would load
    deliver(orders, "1.csv", {1: "1", 2: "2", 3: "3", 4: "4"})
    second = load(orders)
    assert waiting(orders) == []
    assert retry(orders).load_id is None
    assert ask(orders, PRICES) == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    kept = "select load_id, resolved_by, superseded from lakebed.rejected_row"
    assert ask(orders, kept) == [(first.load_id, second.load_id, True)] * 2
    (status,) = read_status(orders).tables
    assert status.quarantined == 0


def test_a_reload_with_the_same_bad_rows_leaves_one_copy(orders: Platform) -> None:
    for number in range(6):
        deliver(orders, "1.csv", {1: "1", 2: "a", 5 + number: "5"})
        report = load(orders)
        assert waiting(orders) == ["2"]
    rows_in_file = "select load_id from lakebed.rejected_row where resolved_by is null"
    assert ask(orders, rows_in_file) == [(report.load_id,)]
    # Of those before as many are kept as loads can be undone.
    assert ask(orders, "select count(*) from lakebed.rejected_row") == [(1 + ORDERS.undo_loads,)]


@pytest.mark.parametrize("reload", [False, True])
def test_a_rollback_of_the_reload_opens_the_older_rejects_again(
    orders: Platform, reload: bool
) -> None:
    deliver(orders, "1.csv", {1: "1", 2: "a", 3: "b"})
    load(orders)
    deliver(orders, "1.csv", {1: "1", 2: "2", 3: "c"})
    load(orders)
    assert waiting(orders, "price") == ["c"]
    undo(orders, reload=reload)
    assert waiting(orders, "price") == ["a", "b"]
    report = load(orders)
    assert (report.load_id is not None) is reload
    assert waiting(orders, "price") == (["c"] if reload else ["a", "b"])


def test_loads_that_were_rolled_back_do_not_count_among_those_that_keep_older_rejects(
    orders: Platform,
) -> None:
    for number in range(2):
        deliver(orders, "1.csv", {1: "1", 2: "ab"[number]})
        load(orders)
    for number in range(ORDERS.undo_loads + 1):
        deliver(orders, "2.csv", {9: str(number)})
        load(orders)
        undo(orders)
    undo(orders)
    assert waiting(orders, "price") == ["a"]


def test_a_file_that_was_rolled_back_with_its_rejects_leaves_those_of_its_reload(
    orders: Platform,
) -> None:
    deliver(orders, "1.csv", {1: "1", 2: "a"})
    load(orders)
    undo(orders, reload=True)
    assert waiting(orders) == []
    load(orders)
    assert waiting(orders) == ["2"]


def test_a_file_that_has_grown_keeps_the_rejects_of_what_is_not_read_again(
    platform_of: Callable[..., Platform],
) -> None:
    grown = replace(ORDERS, write_mode="append", key=(), changed_files="grown")
    platform = platform_of(grown)
    deliver(platform, "1.csv", {1: "1", 2: "a"})
    load(platform, grown)
    deliver(platform, "1.csv", {1: "1", 2: "a", 3: "3", 4: "b"})
    load(platform, grown)
    assert waiting(platform) == ["2", "4"]


def test_rejects_of_other_files_stay_even_of_one_with_the_same_name_in_another_folder(
    orders: Platform,
) -> None:
    deliver(orders, "1.csv", {1: "1", 2: "a"})
    deliver(orders, "new/1.csv", {3: "3", 4: "b"})
    load(orders)
    deliver(orders, "1.csv", {1: "1", 2: "2"})
    load(orders)
    assert waiting(orders) == ["4"]
    deliver(orders, "new/1.csv", {3: "3", 4: "4"})
    load(orders)
    assert waiting(orders) == []


def test_a_file_is_known_by_its_name_where_the_data_has_moved(orders: Platform) -> None:
    deliver(orders, "1.csv", {1: "1", 2: "a"})
    deliver(orders, "new/orders/1.csv", {3: "3", 4: "b"})
    load(orders)
    with orders.postgres.connect() as connection:
        connection.execute(
            "update lakebed.rejected_row set source_file = replace(source_file, %s, '/mnt/old')",
            [str(orders.settings.data)],
        )
    deliver(orders, "1.csv", {1: "1", 2: "2"})
    load(orders)
    assert waiting(orders) == ["4"]


def test_a_replace_supersedes_all_rejects_of_the_table(
    platform_of: Callable[..., Platform],
) -> None:
    whole = replace(ORDERS, write_mode="replace", cursor=None, changed_files=None)
    platform = platform_of(whole)
    deliver(platform, "1.csv", {1: "1", 2: "a"})
    deliver(platform, "2.csv", {3: "3", 4: "b"})
    load(platform, whole)
    (platform.settings.data / "orders" / "2.csv").unlink()
    deliver(platform, "1.csv", {1: "1", 5: "5", 2: "a"})
    load(platform, whole)
    assert waiting(platform) == ["2"]


def test_a_window_loaded_again_supersedes_its_own_rejects_and_no_others(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(BY_WINDOW)
    deliver(platform, "1.csv", {1: "1", 2: "a"})
    deliver(platform, "2.csv", {3: "3", 4: "b"}, at="2026-02-11")
    deliver(platform, "3.csv", {5: "5"}, at="soon")
    for month in ("2026-01", "2026-02"):
        load_month(platform, month)
    assert waiting(platform) == ["2", "4", "5"]
    deliver(platform, "1.csv", {1: "1", 2: "2"})
    load_month(platform, "2026-02")
    assert waiting(platform) == ["2", "4", "5"]
    deliver(platform, "3.csv", {5: "5"})
    load_month(platform, "2026-01")
    assert waiting(platform) == ["4"]
    undo(platform, BY_WINDOW)
    assert waiting(platform) == ["2", "4", "5"]


def test_a_row_without_a_time_waits_on_where_a_window_passes_it_over(
    platform_of: Callable[..., Platform],
) -> None:
    """A reader leaves row groups out that are older than the window, rows without a time too."""
    table = replace(BY_WINDOW, source=ParquetFiles(glob="orders.parquet"), changed_files="refuse")
    platform = platform_of(table)
    start = datetime(2026, 1, 11, tzinfo=UTC)
    times = [start, None, start + timedelta(days=30), start + timedelta(days=31)]
    pl.DataFrame(
        {"id": [1, 2, 3, 4], "at": times, "price": [1.0] * 4},
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    ).write_parquet(platform.settings.data / "orders.parquet", row_group_size=2)
    assert load_month(platform, "2026-01", table).rejected == 1
    assert load_month(platform, "2026-02", table).rejected == 0
    assert waiting(platform) == ["2"]
