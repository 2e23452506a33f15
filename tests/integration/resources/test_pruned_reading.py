"""Ten thousand cold partitions cost a query nothing but those that it needs; answers stay whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lakebed.resources.read_errors import FileMissingError
from lakebed.resources.session import ReadSession
from lakebed.resources.touched import touched
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.lake_tables import connect
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, settings_for
from tests.support.processes import move_key

MONTHS = [f"2024-{month:02d}" for month in range(1, 5)]
MANY = 10_000
JANUARY = "select * from readings where \"at\" >= '2024-01-05' and \"at\" < '2024-02-01'"


@pytest.fixture(scope="module")
def settled(
    server: Server, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Three cold months and a hot one of both tables; before them 10,000 days without files."""
    name = server.create(migrated)
    platform = open_platform(settings_for(tmp_path_factory.mktemp("lake"), server.url_of(name)))
    with platform.postgres.connect(autocommit=True) as connection:
        for table in platform.tables:
            ensure_table(connection, table)
            windows = [window_for_key(table.require_partitioning.grain, key) for key in MONTHS]
            ensure_partition_tables(connection, table, windows)
        days = "(select '2024-01-01Z'::timestamptz + i * interval '1 day' as t, i"
        days += " from generate_series(0, 120) i) days"
        connection.execute(
            f"insert into readings select t, 's' || i % 7, i / 10.0, i from {days}"  # noqa: S608
        )
        connection.execute(
            f"insert into accounts select t, i, 'o' || i % 5, i, t from {days}"  # noqa: S608
        )
        for table in platform.tables:
            for key in MONTHS[:3]:
                move_key(platform, table.name, key)
        connection.execute(
            "insert into lakebed.cold_file (table_name, partition_key, generation, path, rows,"
            " bytes, sha256, lower_bound, upper_bound, fingerprint, columns)"
            " select table_name, d::date::text, 1, table_name || '/gone_' || i, 1, 1, 'none',"
            " d, d + interval '1 day', fingerprint, columns"
            " from lakebed.cold_file, generate_series(1, %s) i,"
            " lateral (select '2024-01-01Z'::timestamptz - i * interval '1 day' as d) days"
            " where partition_key = '2024-01'",
            [MANY],
        )
    yield platform
    server.drop(name)


def opened(session: ReadSession, query: str) -> list[str]:
    """Run a query; return the Parquet files that DuckDB opened for it, as its own log says."""
    session.bare.execute("call enable_logging('FileSystem')")
    try:
        session.sql(query).fetchall()
        found = session.bare.execute(
            "select distinct parse_filename(path) from duckdb_logs_parsed('FileSystem')"
            " where path like '%.parquet' order by 1"
        ).fetchall()
    finally:
        session.bare.execute("call disable_logging()")
        session.bare.execute("call truncate_duckdb_logs()")
    return [name for (name,) in found]


@pytest.mark.parametrize(
    ("query", "files"),
    [
        ("select count(*) from readings where \"at\" >= '2024-04-01'", []),
        (JANUARY, ["readings_2024_01_g0001.parquet"]),
        (
            "select count(*) from accounts where opened >= '2024-02-01' and opened < '2024-03-02'",
            ["accounts_2024_02_g0001.parquet", "accounts_2024_03_g0001.parquet"],
        ),
        ("select 1", []),
    ],
)
def test_of_ten_thousand_partitions_only_those_needed_are_opened(
    settled: Platform, query: str, files: list[str]
) -> None:
    with settled.lake.session() as session:
        assert opened(session, query) == files


def test_what_is_touched_is_counted(settled: Platform) -> None:
    with settled.lake.session() as session:
        (january,) = touched(session, JANUARY)
        (april,) = touched(session, "select count(*) from readings where \"at\" >= '2024-04-01'")
        (everything,) = touched(session, "select count(*) from readings")
    assert (january.cold.files, january.of_cold.files) == (1, MANY + 3)
    assert (january.cold.rows, january.hot_rows) == (31, 0)
    assert (april.cold.files, april.cold.bytes, april.hot_rows) == (0, 0, 30)
    assert everything.cold == everything.of_cold
    assert everything.hot_rows == 30


def test_a_query_that_needs_a_file_that_is_gone_fails_and_names_it(settled: Platform) -> None:
    with settled.lake.session() as session, pytest.raises(FileMissingError, match="readings/gone_"):
        session.sql("select count(*) from readings")


@pytest.mark.parametrize(
    ("query", "params"),
    [
        (
            'select count(*) from readings where "at" >= ? and "at" < ?',
            ["2024-01-05", "2024-02-01"],
        ),
        (
            'select count(*) from readings where "at" >= $first and "at" < $last',
            {"first": "2024-01-05", "last": "2024-02-01"},
        ),
    ],
)
def test_parameters_prune_too(settled: Platform, query: str, params: Any) -> None:
    with settled.lake.session() as session:
        assert session.sql(query, params).fetchall() == [(27,)]


def test_an_answer_can_be_read_again_and_built_upon_after_other_queries(settled: Platform) -> None:
    with settled.lake.session() as session:
        january = session.sql(JANUARY)
        april = session.sql("select * from readings where \"at\" >= '2024-04-01'")
        for _ in range(2):
            assert len(january.fetchall()) == 27
            assert len(april.fetchall()) == 30
        assert january.filter("number < 10").aggregate("count(*)").fetchall() == [(6,)]


def test_connect_reads_the_platform_that_the_environment_names(
    settled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settled.settings.environment().items():
        monkeypatch.setenv(name, value)
    with connect() as lake:
        found = lake.sql(f"select sensor, number from ({JANUARY}) order by number")  # noqa: S608
        frame = found.pl()
        assert frame.columns == ["sensor", "number"]
        assert frame["number"].to_list() == list(range(4, 31))
        assert found.to_arrow_table().num_rows == found.df().shape[0] == frame.height
