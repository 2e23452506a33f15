"""Move partitions of a table: those that are named, or those that are due."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from lakebed.errors import FAILED, exit_code
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.holds import PartitionHeldError
from lakebed.tiering.move_many import move_many
from lakebed.tiering.pending import waiting
from lakebed.tiering.report import Moved
from lakebed.tiering.requests import Request, answer, open_requests, record_heartbeat


@dataclass(frozen=True)
class MoveOutcome:
    """The outcome for one partition.

    Attributes:
        window: The partition.
        moved: What the move did; None where it did nothing.
        held: Why the partition stays in PostgreSQL: it was restored and is held there.
        error: Why the move failed; the partition is as it was before.
    """

    window: Window
    moved: Moved | None = None
    held: PartitionHeldError | None = None
    error: Exception | None = None


def due_partitions(
    platform: Platform, table: SourceTable, as_of: datetime | None = None
) -> tuple[list[Window], list[Request]]:
    """Return the partitions that are due, and the open requests that a move of them answers.

    Args:
        platform: The platform.
        table: A table with tiering.
        as_of: The time to use as now. With it no request is answered.
    """
    now = as_of or platform.clock.now()
    with platform.postgres.connect(autocommit=True) as connection:
        record_heartbeat(connection, table)
        requests = [] if as_of else open_requests(connection, table, now)
        return waiting(connection, table, now, requests), requests


def move_partitions(
    platform: Platform,
    table: SourceTable,
    windows: Sequence[Window],
    *,
    jobs: int = 1,
    by_policy: datetime | None = None,
) -> Iterator[MoveOutcome]:
    """Move partitions, each in a transaction of its own. Yield the outcome of each.

    Args:
        platform: The platform.
        table: A table with tiering.
        windows: The partitions.
        jobs: How many are moved at once.
        by_policy: The time of a move by policy, which skips held partitions; None moves all.

    Raises:
        LakebedError: No further partition can be moved, as PostgreSQL cannot be reached.
    """
    for window, found in move_many(platform.lake, table, windows, jobs, unless_held_at=by_policy):
        if isinstance(found, Moved):
            yield MoveOutcome(window, moved=found)
        elif isinstance(found, PartitionHeldError):
            yield MoveOutcome(window, held=found)
        elif exit_code(found) == FAILED:
            yield MoveOutcome(window, error=found)
        else:
            raise found


def answer_requests(
    platform: Platform, table: SourceTable, requests: Sequence[Request], problem: str | None
) -> list[tuple[int, str]]:
    """Answer requests after a move; return the number and the answer of each."""
    if not requests:
        return []
    with platform.postgres.connect(autocommit=True) as connection:
        now = platform.clock.now()
        return [(r.number, answer(connection, table, r, now, problem)) for r in requests]
