"""What the tests of the cold tier's upkeep share: a table with settled months, and questions."""

from __future__ import annotations

from typing import Any

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.store.platform import Platform
from tests.support.processes import move_key

MONTHS = ("2024-01", "2024-02", "2024-03")
EACH = 300
"""Rows of each month; the sensor s<n % 7> of `readings`, the owner o<n % 5> of `accounts`."""

_ROWS = {
    "readings": "t, 's' || i % 7, i / 10.0, i",
    "accounts": "t, i, 'o' || i % 5, i, t",
}


def fill(platform: Platform, name: str = "readings") -> None:
    """Make the table with its leaves and put EACH rows into each of MONTHS."""
    table = platform.table(name)
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        windows = [window_for_key(table.require_partitioning.grain, key) for key in MONTHS]
        ensure_partition_tables(connection, table, windows)
        for number, window in enumerate(windows):
            connection.execute(
                f"insert into {name} select {_ROWS[name]} from (select i,"  # noqa: S608
                f" '{window.lower.isoformat()}'::timestamptz + i * interval '1 minute' as t"
                f" from generate_series({number * EACH}, {(number + 1) * EACH - 1}) i)"
            )


def settle(platform: Platform, name: str = "readings", *keys: str) -> list[str]:
    """Move months, all by default; return the paths of their files."""
    moved = [move_key(platform, name, key) for key in keys or MONTHS]
    return [str(done.path) for done in moved]


def ask(platform: Platform, query: str) -> list[Any]:
    """Ask PostgreSQL."""
    with platform.postgres.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def do(platform: Platform, *statements: str) -> None:
    """Run statements in PostgreSQL, each in a transaction of its own."""
    with platform.postgres.connect(autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def seen(platform: Platform, query: str) -> list[Any]:
    """Ask over both tiers."""
    with platform.lake.session() as session:
        return session.sql(query).fetchall()


def files(platform: Platform) -> set[str]:
    """Return the paths of what lies in the lake, but for the catalog file and locks."""
    found = {str(stored.path) for stored in platform.lake.files.listing()}
    return {path for path in found if not path.startswith(("catalog.", ".movers"))}


def named(platform: Platform) -> set[str]:
    """Return the paths that the manifest vouches for."""
    return {
        path
        for table in ("cold_file", "lake_copy")
        for (path,) in ask(platform, f"select path from lakebed.{table} where removed_at is null")  # noqa: S608
    }
