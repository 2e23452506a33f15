"""What the last attempt to load a table refused, so that it can be seen after the attempt.

The ledger holds what was committed. `lakebed.refusal` holds the rest: the items that were left out,
and the error of a load that failed as a whole. Each attempt replaces what the one before it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lakebed.resources.postgres import Connection


@dataclass(frozen=True)
class Refusal:
    """One item that was not loaded, or a load that failed.

    Attributes:
        item: The path of the item; None where the load failed as a whole.
        problem: What is wrong, in words.
        partition: The window of a load by window; "" for a load by cursor.
        at: When it was refused.
    """

    item: str | None
    problem: str
    partition: str
    at: datetime


def record_refusals(
    connection: Connection, table: str, partition: str, refused: Sequence[tuple[str, str]]
) -> None:
    """Replace what is known of a table, or of one of its windows, by what was refused now.

    Args:
        connection: In autocommit mode: the load is committed, or there was nothing to load.
        table: Its name.
        partition: The window; "" for a load by cursor.
        refused: The path and the problem of each item.
    """
    with connection.transaction():
        connection.execute(
            "delete from lakebed.refusal where table_name = %s and partition_key = %s",
            [table, partition],
        )
        connection.cursor().executemany(
            "insert into lakebed.refusal (table_name, partition_key, item, problem)"
            " values (%s, %s, %s, %s)",
            [(table, partition, item, problem) for item, problem in refused],
        )


def record_failure(connection: Connection, table: str, partition: str, problem: str) -> None:
    """Record that a load failed as a whole; earlier refusals stay recorded."""
    with connection.transaction():
        connection.execute(
            "delete from lakebed.refusal"
            " where table_name = %s and partition_key = %s and item is null",
            [table, partition],
        )
        connection.execute(
            "insert into lakebed.refusal (table_name, partition_key, problem) values (%s, %s, %s)",
            [table, partition, problem],
        )


def read_refusals(connection: Connection, table: str) -> list[Refusal]:
    """Return what is refused of a table now, failed loads first, by window and item."""
    rows = connection.execute(
        "select item, problem, partition_key, refused_at from lakebed.refusal"
        " where table_name = %s order by item is not null, partition_key, item",
        [table],
    ).fetchall()
    return [Refusal(*row) for row in rows]
