"""Readers and movers do not wait for each other, nor does who reads the catalog file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform
from lakebed.tiering import catalog_file
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.move_many import move_many
from lakebed.tiering.partition import PartitionBusyError
from tests.support import processes
from tests.support.locks import move_held
from tests.support.processes import move_key

KEYS = ("2024-01", "2024-02", "2024-03")
TRUTH = "select count(*), sum(number) from readings"
FOREIGN = """
import sys, duckdb
found = []
for line in sys.stdin:
    with duckdb.connect(sys.argv[1], read_only=True) as catalog:
        found.append(catalog.execute("select count(*) from readings").fetchone()[0])
    print(found[-1], flush=True)
"""


@pytest.fixture
def filled(platform: Platform) -> Platform:
    """A hundred readings in each of three months."""
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(
            connection, table, [window_for_key(table.require_partitioning.grain, k) for k in KEYS]
        )
        for key in KEYS:
            connection.execute(
                "insert into readings select %s::timestamptz + i * interval '1 hour', 's', i, i"
                " from generate_series(1, 100) i",
                [f"{key}-01T00:00:00Z"],
            )
    return platform


def test_a_long_reader_holds_up_no_move_and_sees_one_state(filled: Platform) -> None:
    with filled.lake.session() as session:
        before = session.sql(TRUTH).fetchall()
        for key in KEYS:
            assert move_key(filled, "readings", key).moved == 100
        with filled.postgres.connect(autocommit=True) as connection:
            connection.execute("set lock_timeout = '2s'")
            connection.execute("insert into readings values ('2024-01-20Z', 'late', 1, 7)")
        move_key(filled, "readings", "2024-01")
        with session.stream("from readings") as rows:
            assert len(rows.fetchmany(50)) == 50
            assert move_key(filled, "readings", "2024-01").moved == 0
        assert session.sql(TRUTH).fetchall() == before
    with filled.lake.session() as session:
        assert session.sql(TRUTH).fetchall() == [(301, before[0][1] + 7)]


def test_partitions_are_moved_at_once_and_one_that_fails_leaves_the_others(
    filled: Platform,
) -> None:
    table = filled.table("readings")
    windows = [window_for_key(table.require_partitioning.grain, key) for key in KEYS]
    with move_held(filled, "readings", KEYS[1]):
        found = dict(move_many(filled.lake, table, windows, jobs=2))
    assert [type(found[window]).__name__ for window in windows] == [
        "Moved",
        PartitionBusyError.__name__,
        "Moved",
    ]
    with filled.lake.session() as session:
        assert session.sql("select count(*) from readings").fetchall() == [(300,)]


@pytest.fixture
def foreign(filled: Platform) -> Iterator[subprocess.Popen[str]]:
    """A process that opens the catalog file with nothing but DuckDB, once for each line."""
    move_key(filled, "readings", KEYS[0])
    address = write_catalog(filled)
    with subprocess.Popen(
        [sys.executable, "-c", FOREIGN, address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_foreign_reader_never_meets_a_half_written_catalog(
    filled: Platform, foreign: subprocess.Popen[str]
) -> None:
    assert foreign.stdin is not None
    assert foreign.stdout is not None
    asked = 0
    for key in KEYS[1:]:
        move_key(filled, "readings", key)
        for _ in range(5):
            foreign.stdin.write("read\n" * 5)
            foreign.stdin.flush()
            asked += 5
            write_catalog(filled)
    foreign.stdin.write("read\n")
    foreign.stdin.flush()
    found = [int(foreign.stdout.readline()) for _ in range(asked + 1)]
    assert found == sorted(found)
    assert set(found) <= {100, 200, 300}
    assert found[-1] == 300


def write_and_die(platform: Platform) -> None:
    """Write the catalog file, and die with the new one written and not yet in its place."""
    views = catalog_file._views

    class Last(list):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[object]:
            yield from super().__iter__()
            processes.kill_at("now")("now")

    catalog_file._views = lambda platform: Last(views(platform))
    write_catalog(platform)


def test_a_crash_before_the_rename_leaves_the_old_catalog(
    filled: Platform, foreign: subprocess.Popen[str]
) -> None:
    assert foreign.stdin is not None
    assert foreign.stdout is not None
    move_key(filled, "readings", KEYS[1])
    assert processes.run(crash, filled.settings) == -9
    foreign.stdin.write("read\n")
    foreign.stdin.flush()
    assert int(foreign.stdout.readline()) == 100
    write_catalog(filled)
    foreign.stdin.write("read\n")
    foreign.stdin.flush()
    assert int(foreign.stdout.readline()) == 200


def crash(settings: object) -> None:
    """Open the platform in this process and die while its catalog is written."""
    from lakebed.store.platform import open_platform

    write_and_die(open_platform(settings))  # type: ignore[arg-type]
