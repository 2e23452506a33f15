"""All queries of TPC-H, over tables that lie in both tiers, give the official answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import tpch
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, settings_for
from tests.support.processes import move_key

SCALE = 0.01
COLD = ("1992", "1993", "1994", "1995")


@pytest.fixture(scope="module")
def split(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Four of seven years are cold; of these, some rows came late and some are there twice."""
    name = server.create(migrated)
    settings = settings_for(tmp_path_factory.mktemp("tpch"), server.url_of(name))
    platform = open_platform(settings, tpch.tables())
    with tpch.generated(platform, SCALE) as duck:
        settling = [table for table in platform.tables if table.tiering]
        for table in platform.tables:
            low_cardinality = (
                f"{table.key[-2]}::varchar || {table.key[-1]}" if table.tiering else "1"
            )
            tpch.insert(
                duck, table, f"hash({low_cardinality}) % 20 > 0 or not {bool(table.tiering)}"
            )
        for table in settling:
            for key in COLD:
                assert move_key(platform, table.name, key).moved > 100
        for table in settling:
            low_cardinality = f"{table.key[-2]}::varchar || {table.key[-1]}"
            cold = f"{table.require_partitioning.column} < '1996-01-01'"
            tpch.insert(duck, table, f"hash({low_cardinality}) % 20 = 0")
            tpch.insert(duck, table, f"hash({low_cardinality}) % 50 = 1 and {cold}")
    yield platform
    server.drop(name)


@pytest.mark.parametrize("number", tpch.QUERIES)
def test_a_query_of_tpch_gives_the_official_answer(split: Platform, number: int) -> None:
    with split.lake.session() as session:
        found = session.sql(tpch.query(number)).fetchall()
    assert found
    assert tpch.differences(found, tpch.answer(number, SCALE)) == []


def test_the_official_answers_are_compared(split: Platform) -> None:
    expected = tpch.answer(1, SCALE)
    with split.lake.session() as session:
        found = [list(row) for row in session.sql(tpch.query(1)).fetchall()]
    assert tpch.differences(found[1:], expected) == ["3 rows, expected 4"]
    found[2][3] += 1
    (wrong,) = tpch.differences(found, expected)
    assert wrong.startswith("row 2")
