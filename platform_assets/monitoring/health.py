"""Whether the platform is well: what the doctor found, and how each table keeps its policies."""

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
"""Larger leaves are estimated: this is asked often, and nobody wants a figure to the row."""


@dataclass(frozen=True)
class TableHealth:
    """One table against its policies.

    limit_seconds: how large its lag may be; None where the table file says nothing.  states: how
    many partitions are in which.  overdue: due for more than a day, and not moved.
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
    """The platform at one moment. holders: who holds the snapshot horizon, the oldest first.

    read_at: by the server's clock, as are the holders' times; all else is by the platform's.
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
        """For how long the oldest transaction that is known holds the horizon; 0 for none."""
        began = [holder.since for holder in self.holders if holder.since is not None]
        return max(0.0, (self.read_at - min(began)).total_seconds()) if began else 0.0


def read_health(platform: Platform) -> Health:
    """Look at everything, and change nothing. Raises PostgresUnavailableError."""
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
