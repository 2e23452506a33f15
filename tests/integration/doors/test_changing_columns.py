"""Attached clients follow columns that evolve, widen and are added, in both tiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from lakebed.doors.write import refresh_catalog, write_catalog
from lakebed.schema.apply import apply_plan, read_plan
from lakebed.store.platform import Platform
from tests.integration.ingest.test_evolve import MERGED, load, rows, settle, table
from tests.support.clients import attached, needs_ducklake
from tests.support.tiers import do

pytestmark = needs_ducklake

ALL = "from events order by n"


def loaded(platform: Platform, frame: pl.DataFrame, name: str) -> None:
    """Load a file, and what follows a load of `lakebed load`."""
    load(platform, frame, name)
    assert refresh_catalog(platform, platform.table("events")) == []


@pytest.mark.parametrize("more", [{}, MERGED], ids=["no key", "a key"])
def test_an_attached_client_follows_columns_that_loads_add_and_widen(
    platform_of: Callable[..., Platform], more: dict[str, Any]
) -> None:
    platform = platform_of(table(**more))
    load(platform, rows(1, 2), "a.parquet")
    settle(platform)
    write_catalog(platform)
    with attached(platform) as client:
        assert [row[1] for row in client.execute(ALL).fetchall()] == [1, 2]
        loaded(platform, rows(3, 4, extra=pl.Series([7, 8], dtype=pl.Int32)), "b.parquet")
        expected: list[Any] = [(1, None), (2, None), (3, 7), (4, 8)]
        query = "select n, extra from events order by n"
        assert client.execute(query).fetchall() == expected
        settle(platform)
        assert client.execute(query).fetchall() == expected
        # A wider type: the view is taken off the table, and made again.
        loaded(platform, rows(5, extra=pl.Series([2**40], dtype=pl.Int64)), "c.parquet")
        expected.append((5, 2**40))
        assert client.execute(query).fetchall() == expected
        settle(platform)
        assert client.execute(query).fetchall() == expected
        assert client.execute("select n from events where extra > 7 order by n").fetchall() == [
            (4,),
            (5,),
        ]


def test_a_table_whose_views_were_withdrawn_is_hidden_until_the_catalog_is_written(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    load(platform, rows(1), "a.parquet")
    write_catalog(platform)
    with attached(platform) as client:
        do(
            platform,
            "select lakebed.withdraw_client_views('events')",
            "alter table events alter column n type numeric(30, 0)",
        )
        assert client.execute("show tables").fetchall() == []
        written = write_catalog(platform)
        assert "`lakebed plan`" in written.left_out["events"]
        do(platform, "alter table events alter column n type bigint")
        write_catalog(platform)
        assert client.execute("select n from events").fetchall() == [(1,)]


def test_apply_widens_a_column_that_clients_read(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(table())
    load(platform, rows(1), "a.parquet")
    do(platform, "alter table events alter column n type integer")
    write_catalog(platform)
    with attached(platform) as client, platform.postgres.connect(autocommit=True) as connection:
        assert client.execute("select n from events").fetchall() == [(1,)]
        events, now = platform.table("events"), platform.clock.now()
        done = apply_plan(connection, events, read_plan(connection, events, now), now)
        assert ["n" in change.columns for change in done] == [True]
        assert refresh_catalog(platform) == []
        do(platform, "update events set n = 1099511627776")
        assert client.execute("select n from events").fetchall() == [(2**40,)]
