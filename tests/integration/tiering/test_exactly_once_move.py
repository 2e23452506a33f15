"""No query ever sees a row twice or misses one, whatever a mover does and however it dies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lakebed.demo.demo_files import write_demo_files
from lakebed.ingest.load import load_table
from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from lakebed.store.policy import due
from tests.conftest import Server, settings_for
from tests.support import processes
from tests.support.checkout import DEMO_TABLES

FLIGHTS = (
    "select count(*), sum(distance)::bigint, sum(flight)::bigint, count(tailnum),"
    " sum(dep_delay)::bigint from flights"
)
# Without a key, a row that is hot and cold at once counts twice.
WEATHER = "select count(*), sum(wind_dir)::bigint, count(temp) from weather"
PAUSES = [(0.0, 0.0), (0.15, 0.15)]


@pytest.fixture(scope="module")
def loaded(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a database with the demo's flights and weather loaded, nothing moved."""
    name = server.create(migrated)
    settings = demo_settings(tmp_path_factory.mktemp("demo"), server.url_of(name))
    write_demo_files(settings.data)
    platform = open_platform(settings)
    for table in ("flights", "weather"):
        load_table(settings, platform.postgres, platform.clock, platform.table(table))
    yield name
    server.drop(name)


def demo_settings(home: Path, url: str) -> Settings:
    tables = DEMO_TABLES
    return settings_for(
        home, url, LAKEBED_TABLES=str(tables), LAKEBED_CLOCK="2013-12-31T00:00:00+00:00"
    )


@pytest.fixture
def demo(server: Server, loaded: str, tmp_path: Path) -> Iterator[Platform]:
    """A platform over a copy of that database, with a lake of its own."""
    name = server.create(loaded)
    yield open_platform(demo_settings(tmp_path, server.url_of(name)))
    server.drop(name)


def due_keys(platform: Platform, name: str) -> list[str]:
    return [window.key for window in due(platform.table(name), platform.clock.now())]


def answer(platform: Platform, query: str) -> processes.Answer:
    with platform.lake.session() as session:
        return tuple(session.sql(query).fetchall()[0])


def live_generations(platform: Platform) -> list[tuple[str, int]]:
    with platform.postgres.connect() as connection:
        return connection.execute(
            "select partition_key, count(*) from lakebed.cold_file where superseded_at is null"
            " group by 1 order by 1"
        ).fetchall()


def test_readers_see_every_flight_once_while_all_due_partitions_move(demo: Platform) -> None:
    truth = answer(demo, FLIGHTS)
    assert truth[0] == 336_776
    keys = due_keys(demo, "flights")
    assert len(keys) == 9
    with processes.readers(demo.settings, FLIGHTS, PAUSES) as answers:
        assert processes.run(processes.move_many, demo.settings, "flights", keys, None, None) == 0
    assert all(len(found) >= 3 for found in answers)
    assert {seen for found in answers for seen in found} == {truth}
    assert live_generations(demo) == [(key, 1) for key in keys]
    with demo.postgres.connect() as connection:
        left = connection.execute("select count(*) from flights where time_hour < '2013-10-01'")
        assert left.fetchone() == (0,)


@pytest.mark.parametrize("sabotage", processes.MOVE_SABOTAGES)
@pytest.mark.thorough_but("record before the delete")
def test_readers_notice_a_mover_without_its_fence(demo: Platform, sabotage: str) -> None:
    assert wrong_answers(demo, sabotage=sabotage)


def test_readers_notice_that_their_manifest_and_rows_are_of_two_snapshots(demo: Platform) -> None:
    assert wrong_answers(demo, careless_reader=True)


@pytest.mark.thorough
def test_readers_of_the_sabotage_tests_are_right_where_nothing_is_sabotaged(demo: Platform) -> None:
    assert not wrong_answers(demo)


def wrong_answers(
    demo: Platform, *, sabotage: str | None = None, careless_reader: bool = False
) -> list[processes.Answer]:
    truth = answer(demo, WEATHER)
    keys = due_keys(demo, "weather")
    with processes.readers(demo.settings, WEATHER, PAUSES, sabotage=careless_reader) as answers:
        assert (
            processes.run(processes.move_many, demo.settings, "weather", keys, None, sabotage) == 0
        )
    return [seen for found in answers for seen in found if seen != truth]
