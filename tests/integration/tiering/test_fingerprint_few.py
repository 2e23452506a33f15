"""Digesting each text of a column with few values once gives what digesting every row gives."""

from __future__ import annotations

import pytest
from psycopg import sql

from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.store.fingerprint import fingerprint_query, read_fingerprint
from lakebed.store.platform import Platform
from lakebed.tiering.partition import Partition
from tests.support.processes import move_key

KEY = "2024-01"
FEW = ("sensor",)


@pytest.mark.parametrize("texts", [["a", "A", "", "ä", "ä"], ["a"], []])
def test_both_engines_agree_whatever_is_grouped(platform: Platform, texts: list[str]) -> None:
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, table.windows(platform.clock.now()))
        for number, text in enumerate(texts):
            connection.execute(
                "insert into readings select '2024-01-05Z', %s, i, i from generate_series(0, %s) i",
                [text, number],
            )
    found = []
    with platform.lake.attached(read_only=True) as duck:
        for low_cardinality in ((), FEW, ("sensor", "no such column", "number")):
            query = fingerprint_query(
                table.columns, sql.SQL("readings"), "postgres", low_cardinality
            )
            with platform.postgres.connect() as connection:
                row = connection.execute(query).fetchone()
            assert row is not None
            found.append(read_fingerprint(table.columns, row))
            query = fingerprint_query(
                table.columns, sql.SQL("pg.readings"), "duckdb", low_cardinality
            )
            (row,) = duck.execute(query.as_string()).fetchall()
            found.append(read_fingerprint(table.columns, row))
    assert all(one == found[0] for one in found)
    assert found[0].rows == sum(range(len(texts) + 1))


def test_a_move_takes_columns_with_few_values_from_the_statistics(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, table.windows(platform.clock.now()))
        connection.execute(
            "insert into readings select '2024-01-05Z', 's' || i % 7, i, i"
            " from generate_series(1, 1000) i"
        )
        connection.execute("analyze readings")
    taken: list[list[str]] = []
    know = Partition.find_low_cardinality

    def watch(self: Partition) -> None:
        know(self)
        taken.append(self.low_cardinality)

    monkeypatch.setattr(Partition, "find_low_cardinality", watch)
    assert move_key(platform, "readings", KEY).moved == 1000
    assert taken == [["sensor"]]
