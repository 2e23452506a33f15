"""The health of the platform: the doctor's findings, and each table against its policies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from lakebed.monitoring.diagnosis import MOVE_LATE
from lakebed.monitoring.doctor import examine
from lakebed.monitoring.findings import Finding, is_well
from lakebed.monitoring.status import PlatformStatus, TableStatus, read_status
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.horizon import Holder, read_horizon

COUNT_UP_TO = 50_000
"""Partition tables with more rows are estimated: health is read often and needs no exact count."""


@dataclass(frozen=True)
class TableHealth:
    """One table against its policies.

    Attributes:
        limit_seconds: The largest lag that the table file allows; None without `freshness`.
        states: The number of partitions in each state.
        overdue: How many partitions have been due for more than a day.
    """

    status: TableStatus
    limit_seconds: float | None
    states: Counter[str]
    overdue: tuple[str, ...]

    @property
    def name(self) -> str:
        """The table's name."""
        return self.status.name


@dataclass(frozen=True)
class Health:
    """The platform at one moment.

    Attributes:
        holders: The transactions and slots that hold the snapshot horizon, the oldest first.
        read_at: The moment by the server's clock, as are the times of the holders. All other
            times are by the platform's clock.
    """

    read_at: datetime
    status: PlatformStatus
    tables: tuple[TableHealth, ...]
    holders: tuple[Holder, ...]
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong; warnings and notes do not count."""
        return is_well(self.findings)

    @property
    def horizon_seconds(self) -> float:
        """For how long the oldest known transaction has held the horizon; 0 without one."""
        began = [holder.since for holder in self.holders if holder.since is not None]
        return max(0.0, (self.read_at - min(began)).total_seconds()) if began else 0.0


def read_health(platform: Platform) -> Health:
    """Read the health of the server, the tables and the lake. Changes nothing.

    Raises:
        PostgresUnavailableError: PostgreSQL cannot be reached.
    """
    status = read_status(platform, count_up_to=COUNT_UP_TO)
    now = platform.clock.now()
    tables = tuple(
        _table(table, found, now)
        for table, found in zip(platform.tables, status.tables, strict=True)
    )
    with platform.postgres.connect(autocommit=True) as connection:
        ((read_at,),) = connection.execute("select clock_timestamp()").fetchall()
        holders = sorted(read_horizon(connection).holders, key=lambda holder: holder.xmin)
    return Health(read_at, status, tables, tuple(holders), examine(platform).findings)


def _table(table: SourceTable, found: TableStatus, now: datetime) -> TableHealth:
    overdue: list[str] = []
    if table.tiering is not None:
        patience = table.require_tiering.hot_for + MOVE_LATE
        grain = table.require_partitioning.grain
        overdue = [
            part.key
            for part in found.partitions
            if part.state == "due" and window_for_key(grain, part.key).upper + patience < now
        ]
    return TableHealth(
        found,
        table.freshness.total_seconds() if table.freshness else None,
        Counter(partition.state for partition in found.partitions),
        tuple(overdue),
    )
