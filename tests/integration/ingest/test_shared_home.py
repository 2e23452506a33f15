"""Loads of two databases from one home: neither writes in the folder of the other one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import polars as pl
import pytest

from lakebed.ingest import stream
from lakebed.ingest.load import load_table
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server
from tests.support.tiers import ask


@pytest.fixture
def other(platform: Platform, server: Server, migrated: str) -> Iterator[Platform]:
    """The same home, with another database."""
    name = server.create(migrated)
    yield open_platform(replace(platform.settings, postgres_url=server.url_of(name)))
    server.drop(name)


def load(platform: Platform, on_step: Callable[[str], None] = lambda step: None) -> int:
    table = platform.table("readings")
    report = load_table(
        platform.settings, platform.postgres, platform.clock, table, on_step=on_step
    )
    assert report.refused == ()
    return report.inserted


def test_two_loads_of_one_table_at_once(
    platform: Platform, other: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "FIRST_PACKAGE_ROWS", 50)
    monkeypatch.setattr(stream, "PACKAGE_ROWS", 100)
    rows = 1000
    folder = platform.settings.data / "readings"
    folder.mkdir()
    pl.DataFrame(
        {
            "at": pl.datetime_range(
                pl.datetime(2024, 2, 1, time_zone="UTC"),
                pl.datetime(2024, 2, 1, time_zone="UTC") + pl.duration(minutes=rows - 1),
                "1m",
                eager=True,
            ),
            "sensor": "s",
            "value": 1.0,
            "number": range(rows),
        }
    ).write_parquet(folder / "1.parquet")
    theirs: list[int] = []

    def on_step(step: str) -> None:
        if step == "extracted" and not theirs:
            theirs.append(load(other))

    assert (load(platform, on_step), theirs) == (rows, [rows])
    for each in (platform, other):
        assert ask(each, "select count(*)::int, sum(number)::int from readings") == [(1000, 499500)]
    assert list((platform.settings.home / "dlt").iterdir()) == []
