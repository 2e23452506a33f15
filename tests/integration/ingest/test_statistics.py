"""A load refreshes the statistics of what has changed much since they were taken."""

from __future__ import annotations

from lakebed.store.platform import Platform
from tests.integration.ingest.test_load import Row, ask, deliver, load, readings


def known_rows(platform: Platform) -> dict[str, float]:
    query = (
        "select relname::text, reltuples from pg_class where relname ~ '^readings(_2024_0[23])?$'"
    )
    return dict(ask(platform, query))


def test_leaves_are_analyzed_when_a_tenth_of_their_rows_has_changed(platform: Platform) -> None:
    def deliver_rows(name: str, hours: int, count: int) -> None:
        rows: list[Row] = [(hours, "a", 1.0, number) for number in range(count)]
        deliver(platform, f"readings/{name}.parquet", readings(rows))

    march = 29 * 24
    deliver_rows("1", 0, 1000)
    deliver_rows("2", march, 200)
    load(platform, "readings")
    assert known_rows(platform) == {
        "readings": 1200.0,
        "readings_2024_02": 1000.0,
        "readings_2024_03": 200.0,
    }
    deliver_rows("3", 0, 60)
    deliver_rows("4", march, 30)
    load(platform, "readings")
    assert known_rows(platform) == {
        "readings": 1200.0,
        "readings_2024_02": 1000.0,
        "readings_2024_03": 230.0,
    }
    deliver_rows("5", 0, 60)
    load(platform, "readings")
    assert known_rows(platform)["readings_2024_02"] == 1120.0
