"""A project from Python: the object Lakebed loads, moves, queries and looks."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from lakebed import (
    ClosedError,
    Lakebed,
    LakebedError,
    LakeResource,
    LoadChoiceError,
    PartlyFailedError,
    SettingsError,
    TableError,
)
from tests.conftest import NOW

TABLES = '''
from datetime import UTC, datetime, timedelta
from typing import Annotated

import pandera.polars as pa
import polars as pl

from lakebed import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable, Tiering


class Sale(pa.DataFrameModel):
    """What was sold."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    item: pl.Int64


class Item(pa.DataFrameModel):
    """What can be sold."""

    item: pl.Int64 = pa.Field(ge=0)


sales = SourceTable(
    name="sales",
    model=Sale,
    source=ParquetFiles(glob="sales/*.parquet"),
    cursor="at",
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=30)),
)
items = SourceTable(
    name="items", model=Item, source=CsvFiles(glob="items.csv"), write_mode="replace"
)
'''


@pytest.fixture
def folder(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two tables, from below which the test works."""
    (tmp_path / "pyproject.toml").write_text("[tool.lakebed]\n")
    (tmp_path / ".env").write_text(f"LAKEBED_POSTGRES_URL={database}\nLAKEBED_CLOCK={NOW}\n")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "shop.py").write_text(TABLES)
    (tmp_path / "data" / "sales").mkdir(parents=True)
    (tmp_path / "data" / "items.csv").write_text("item\n1\n2\n")
    for month, count in ((1, 40), (6, 10)):
        moments = [datetime(2024, month, 1 + i % 28, tzinfo=UTC) for i in range(count)]
        frame = pl.DataFrame({"at": moments, "item": list(range(count))})
        frame.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC"))).write_parquet(
            tmp_path / "data" / "sales" / f"{month}.parquet"
        )
    monkeypatch.chdir(tmp_path / "tables")
    return tmp_path


def test_a_project_is_loaded_moved_and_queried(folder: Path) -> None:
    with Lakebed() as lake:
        assert lake.settings.project == folder
        assert lake.tables == ("items", "sales")
        reports = {report.table: report for report in lake.load()}
        assert {name: report.inserted for name, report in reports.items()} == {
            "items": 2,
            "sales": 50,
        }
        assert lake.load("sales")[0].load_id is None
        moved = lake.move("sales", due=True)
        assert [(one.partition_key, one.moved) for one in moved] == [("2024-01", 40)]
        assert lake.move("sales", due=True) == []
        found = lake.sql(
            "select count(*) as n, sum(item)::bigint as s from sales where item >= ?", [1]
        )
        assert found.columns == ("n", "s")
        assert found.rows() == [(48, sum(range(40)) + sum(range(10)))]
        assert found.polars().shape == (1, 2)
        assert len(found) == 1
        assert lake.sql("from items where item > 5").rows() == []
        with lake.session() as session:
            assert session.sql("select count(*) from sales").fetchall() == [(50,)]
        (sales,) = [table for table in lake.status().tables if table.name == "sales"]
        assert {p.key: p.state for p in sales.partitions if p.cold_rows} == {"2024-01": "cold"}
    with pytest.raises(ClosedError):
        lake.sql("select 1")


def test_what_fails_is_named_and_the_rest_is_done(folder: Path) -> None:
    (folder / "data" / "items.csv").write_text("item\n1\n-1\n")
    with pytest.raises(PartlyFailedError) as caught:
        Lakebed().load()
    assert [report.table for report in caught.value.done if report.load_id] == ["sales"]
    assert "items.csv" in str(caught.value)


def test_every_mistake_is_a_lakebed_error_with_exit_code_2(folder: Path) -> None:
    lake = Lakebed()
    for kind, mistake in (
        (TableError, lambda: lake.load("nope")),
        (TableError, lambda: lake.move("items", due=True)),
        (TableError, lambda: lake.move("sales", "2024")),
        (LoadChoiceError, lambda: lake.load("sales", windows=["2024-01"])),
    ):
        with pytest.raises(LakebedError) as caught:
            mistake()
        assert type(caught.value) is kind
        assert caught.value.exit_code == 2
    with pytest.raises(ValueError, match="due=True"):
        lake.move("sales")


def test_without_a_project_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="lakebed new"):
        Lakebed()
    assert list(tmp_path.iterdir()) == []


def test_the_resource_reads_the_lake_of_the_project(folder: Path) -> None:
    Lakebed().load("items")

    @dg.asset
    def counted(lake: LakeResource) -> int:
        with lake.get_connection() as connection:
            return connection.sql("select count(*) from items").fetchall()[0][0]

    result = dg.materialize([counted], resources={"lake": LakeResource()})
    assert result.output_for_node("counted") == 2
