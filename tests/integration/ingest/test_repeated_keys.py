"""A key that is there already refuses its file alone, and the file and the row are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform


class Item(pa.DataFrameModel):
    id: pl.Int64
    name: str = pa.Field(nullable=True)


ITEMS = SourceTable(name="items", model=Item, source=CsvFiles(glob="*.csv"), key=("id",))


@pytest.fixture
def items(platform_of: Callable[..., Platform]) -> Platform:
    return platform_of(ITEMS)


def deliver(platform: Platform, name: str, *ids: int) -> Path:
    path = platform.settings.data / name
    path.write_text("\n".join(["id,name", *(f"{i},x" for i in ids), ""]))
    return path


def load(platform: Platform, **changed: Any) -> LoadReport:
    table = replace(platform.table("items"), **changed)
    return load_table(platform.settings, platform.postgres, platform.clock, table)


def ids(platform: Platform) -> list[int]:
    with platform.postgres.connect() as connection:
        return [n for (n,) in connection.execute("select id from items order by id")]


def row_of(problem: str) -> int:
    found = re.match(r"row (\d+) ", problem)
    assert found is not None, problem
    return int(found[1])


def test_a_key_twice_in_a_file_refuses_that_file_of_an_empty_table(items: Platform) -> None:
    deliver(items, "a.csv", 1, 2)
    bad = deliver(items, "b.csv", 3, 4, 5, 4)
    deliver(items, "c.csv", 6)
    report = load(items)
    (refused,) = report.refused
    assert (refused.path, row_of(refused.problem)) == (str(bad), 4)
    assert f"row 2 of {bad}" in refused.problem
    assert ids(items) == [1, 2, 6]


@pytest.mark.parametrize("apart", [1, 3])
def test_a_key_of_another_file_and_of_the_table_refuses_the_later_file(
    items: Platform, apart: int
) -> None:
    deliver(items, "a.csv", 1, 2)
    assert load(items).inserted == 2
    known = deliver(items, "b.csv", 7, 2)
    deliver(items, "c.csv", 8, 9)
    later = deliver(items, "d.csv", 10, 11)
    found = {r.path: row_of(r.problem) for r in load(items, parallel_files=apart).refused}
    assert found == {str(known): 2}
    assert ids(items) == [1, 2, 8, 9, 10, 11]
    later.with_name("e.csv").write_text(later.read_text())
    found = {
        Path(r.path).name: row_of(r.problem) for r in load(items, parallel_files=apart).refused
    }
    assert found == {"b.csv": 2, "e.csv": 1}


def test_a_unique_index_of_somebody_is_a_key_too_and_nulls_are_none(items: Platform) -> None:
    deliver(items, "a.csv", 1)
    load(items)
    with items.postgres.connect() as connection:
        connection.execute("create unique index on items (name)")
    path = deliver(items, "b.csv", 2, 3)
    path.write_text("id,name\n2,\n3,\n4,new\n5,x\n")
    (refused,) = load(items).refused
    assert (refused.path, row_of(refused.problem)) == (str(path), 4)


def test_a_rejected_row_keeps_the_numbers_right(items: Platform) -> None:
    path = deliver(items, "a.csv", 1)
    path.write_text("id,name\nx,a\n1,a\n2,a\n1,b\n")
    (refused,) = load(items, reject_share=0.5).refused
    assert row_of(refused.problem) == 4
