"""The doctor gathers the facts that diagnosis.py and table_findings.py judge. It changes nothing.

It returns every finding of the platform. No finding shows the text of a query.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakebed.monitoring.diagnosis import (
    LockWait,
    OpenErasure,
    ServerFacts,
    TableFacts,
    of_erasures,
    of_lake,
    of_owner,
    of_server,
    of_table,
    of_undeclared,
)
from lakebed.monitoring.findings import Code, Finding, is_well, most_severe_first
from lakebed.monitoring.project_check import check_project
from lakebed.monitoring.table_findings import findings_of
from lakebed.monitoring.table_state import read_table_state
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import relation_exists
from lakebed.spec.names import partition_table_name
from lakebed.spec.table import SourceTable
from lakebed.store.grain_mismatch import find_grain_mismatches, query_on
from lakebed.store.orphaned_partitions import find_orphaned_partitions
from lakebed.store.platform import Platform
from lakebed.tiering.horizon import read_horizon
from lakebed.tiering.missing_columns import find_missing_columns
from lakebed.tiering.partition_tables import gaps, may_drop, partition_tables_of
from lakebed.tiering.pending import waiting, with_work
from lakebed.tiering.superseded import give_up_superseded
from lakebed.tiering.sweep import remove_nameless
from lakebed.tiering.verify import verify

SETTINGS = ("fsync", "full_page_writes", "autovacuum", "client_connection_check_interval")


@dataclass(frozen=True)
class Diagnosis:
    """The findings of one examination.

    Attributes:
        server: The version of PostgreSQL.
        findings: What was found, the most severe first.
    """

    server: str
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing is wrong; warnings and notes do not count."""
        return is_well(self.findings)


def examine(platform: Platform) -> Diagnosis:
    """Examine the server, every table with its source, its loads and its tiers, and the lake.

    Raises:
        PostgresUnavailableError: PostgreSQL cannot be reached.
    """
    tiered = [table for table in platform.tables if table.tiering is not None]
    with platform.postgres.connect(autocommit=True) as connection:
        found = list(of_server(_server(connection)))
        foreign = platform.lake.owner.problem()
        found += of_owner(foreign)
        found += [
            Finding(
                Code.DECLARATION_BROKEN,
                item.name,
                platform.text_of(item.error),
                "correct the file, then run lakebed check",
            )
            for item in check_project(platform)
        ]
        now = platform.clock.now()
        for table in tiered:
            if relation_exists(connection, table):
                found += of_table(_table(platform, connection, table, now, foreign is None))
        for table in platform.tables:
            found += of_undeclared(
                table.name, find_orphaned_partitions(query_on(connection), table)
            )
            state = read_table_state(connection, platform.settings, table, now)
            found += findings_of(table, state)
        found += of_erasures(_open_erasures(connection))
        if foreign is None:
            found += _of_lake(platform, connection, tiered)
        version = connection.info.parameter_status("server_version") or "unknown"
    return Diagnosis(version, most_severe_first(found))


def _of_lake(
    platform: Platform, connection: Connection, tables: Sequence[SourceTable]
) -> Iterator[Finding]:
    grace = platform.settings.file_grace
    swept, spared = give_up_superseded(connection, grace, dry_run=True)
    swept += remove_nameless(connection, platform.lake.files, tables, grace, dry_run=True)
    return of_lake(swept, spared)


def _server(connection: Connection) -> ServerFacts:
    ((now,),) = connection.execute("select clock_timestamp()").fetchall()
    waits = connection.execute(
        "select pid, coalesce(nullif(application_name, ''), backend_type), l.since,"
        " pg_blocking_pids(pid) from pg_stat_activity a,"
        " lateral (select min(waitstart) from pg_locks where pg_locks.pid = a.pid and not granted)"
        " as l (since) where l.since is not null"
    ).fetchall()
    settings = connection.execute(
        "select name, setting from pg_settings where name = any(%s)", [list(SETTINGS)]
    ).fetchall()
    return ServerFacts(
        now,
        read_horizon(connection),
        [LockWait(pid, name, since, tuple(blockers)) for pid, name, since, blockers in waits],
        dict(settings),
    )


def _table(
    platform: Platform, connection: Connection, table: SourceTable, now: datetime, own_lake: bool
) -> TableFacts:
    # Those of an adopted table are none of ours.
    partition_tables = [] if table.adopted else partition_tables_of(connection, table)
    windows = list(table.windows(now))
    live = _cold(connection, table, live=True)
    late = with_work(connection, table, [w for w in windows if w.key in live])
    busy = set(late)
    return TableFacts(
        name=table.name,
        now=now,
        hot_for=table.require_tiering.hot_for,
        late_for=table.require_tiering.late_for,
        drop_after=table.require_tiering.drop_emptied_after,
        waiting=waiting(connection, table, now),
        late=late,
        emptied=[
            partition_table.window
            for partition_table in partition_tables
            if partition_table.window is not None
            and partition_table.window.key in live
            and partition_table.window not in busy
            and may_drop(table, partition_table, now)
        ],
        gaps=gaps(partition_tables, windows, _cold(connection, table, live=False)),
        default=[
            partition_table.name for partition_table in partition_tables if partition_table.default
        ],
        detaching=[
            partition_table.name
            for partition_table in partition_tables
            if partition_table.detaching
        ],
        detached=_detached(
            connection, table, {partition_table.name for partition_table in partition_tables}, now
        ),
        missing_columns=find_missing_columns(connection, table),
        files=verify(platform, table) if own_lake else [],
        grain=table.require_partitioning.grain,
        other_grain=find_grain_mismatches(query_on(connection), table),
    )


def _open_erasures(connection: Connection) -> list[OpenErasure]:
    rows = connection.execute(
        "select table_name, started_at, hot_rows + cold_rows + undo_rows + rejected_rows"
        " from lakebed.erasure where finished_at is null order by erasure_id"
    ).fetchall()
    return [OpenErasure(table, since.astimezone(UTC), rows) for table, since, rows in rows]


def _cold(connection: Connection, table: SourceTable, *, live: bool) -> set[str]:
    """Return the keys of the cold partitions; without live also those that once were cold."""
    rows = connection.execute(
        "select partition_key from lakebed.cold_file"
        " where table_name = %s and (superseded_at is null or not %s)",
        [table.name, live],
    )
    return {key for (key,) in rows}


def _detached(
    connection: Connection, table: SourceTable, attached: set[str], now: datetime
) -> list[str]:
    """Return the tables that are named like a partition table and are not attached."""
    if table.adopted:
        return []
    names = {partition_table_name(table.name, window) for window in table.windows(now)} - attached
    rows = connection.execute(
        "select relname::text from pg_class where relnamespace = 'public'::regnamespace"
        " and relkind = 'r' and not relispartition and relname = any(%s) order by 1",
        [sorted(names)],
    )
    return [name for (name,) in rows]
