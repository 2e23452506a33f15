"""Judge the server, the tiers and the lake from gathered facts. Pure; doctor.py gathers them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lakebed.monitoring.findings import Code, Finding
from lakebed.spec.partitions import Grain, Window
from lakebed.store.grain_mismatch import Bounds, describe_mismatch, how_to_fix
from lakebed.store.orphaned_partitions import DECLARE_OR_RESTORE, describe_orphaned_partitions
from lakebed.tiering.horizon import Holder, Horizon, StayReason
from lakebed.tiering.missing_columns import MissingColumn
from lakebed.tiering.superseded import KeptFile
from lakebed.tiering.sweep import Swept
from lakebed.tiering.verify import CheckedFile

HOLDS_TOO_LONG = timedelta(hours=1)
MOVE_LATE = timedelta(days=1)
HOUSEKEEPING_LATE = timedelta(days=2)
LOCK_WAIT = timedelta(seconds=10)
NAMED = 3
"""How many items of a kind a finding names. It counts the rest."""


@dataclass(frozen=True)
class LockWait:
    """A session that waits for a lock.

    Attributes:
        pid: The process id of the session.
        name: The application name, or the kind of process where it has none.
        since: When it began to wait.
        blockers: The process ids of the sessions that it waits for.
    """

    pid: int
    name: str
    since: datetime
    blockers: tuple[int, ...]


@dataclass(frozen=True)
class ServerFacts:
    """The server at one moment of its clock."""

    now: datetime
    horizon: Horizon
    waits: Sequence[LockWait]
    settings: Mapping[str, str]


@dataclass(frozen=True)
class TableFacts:
    """A table at one moment of the platform's clock.

    Attributes:
        name: The table.
        now: The moment.
        hot_for: The policy of that name, as `late_for` and `drop_after`.
        waiting: Due partitions with rows to move.
        late: Cold partitions with hot rows or tombstones.
        emptied: Partitions whose empty partition table exists and may be dropped.
        gaps: Windows without a partition table.
        default: The names of DEFAULT partition tables.
        detaching: The names of partition tables that are detached by half.
        detached: The names of tables that are named like a partition table and are detached.
        missing_columns: NOT NULL columns that cold rows do not have.
        files: The checked files of the lake.
        grain: The grain that the table file declares.
        other_grain: Live partitions of another grain.
    """

    name: str
    now: datetime
    hot_for: timedelta
    late_for: timedelta | None = None
    drop_after: timedelta | None = None
    waiting: Sequence[Window] = ()
    late: Sequence[Window] = ()
    emptied: Sequence[Window] = ()
    gaps: Sequence[Window] = ()
    default: Sequence[str] = ()
    detaching: Sequence[str] = ()
    detached: Sequence[str] = ()
    missing_columns: Sequence[MissingColumn] = ()
    files: Sequence[CheckedFile] = field(default_factory=tuple)
    grain: Grain = Grain.DAY
    other_grain: Sequence[Bounds] = ()


@dataclass(frozen=True)
class OpenErasure:
    """An erasure that has not ended. Its condition is not shown: it can hold personal data.

    Attributes:
        table: The table.
        since: When the erasure began.
        rows: How many rows it has erased so far.
    """

    table: str
    since: datetime
    rows: int


_SETTINGS = {
    "fsync": "a crash of the machine can lose what was committed, and files with it",
    "full_page_writes": "a crash of the machine can leave pages torn",
    "autovacuum": "emptied partition tables keep their pages, and transaction ids run out",
}


def of_server(facts: ServerFacts) -> Iterator[Finding]:
    """Judge the server: holders of the horizon, sessions that wait for locks, unsafe settings."""
    for holder in facts.horizon.holders:
        if holder.kind == "slot" and holder.pid is None:
            yield _held(holder, "no consumer reads it; drop it with pg_drop_replication_slot()")
        elif holder.since is not None and facts.now - holder.since > HOLDS_TOO_LONG:
            yield _held(holder, _END_IT[holder.kind])
    if facts.horizon.hidden:
        yield Finding(
            Code.SESSIONS_HIDDEN,
            "server",
            f"{facts.horizon.hidden} sessions of other roles are hidden. Lakebed cannot see what "
            "they still read, so it deletes no file and drops no partition table",
            "GRANT pg_read_all_stats to the role of Lakebed",
        )
    for wait in facts.waits:
        if facts.now - wait.since > LOCK_WAIT:
            blockers = ", ".join(map(str, wait.blockers))
            yield Finding(
                Code.LOCK_WAIT,
                "server",
                f"session {wait.pid} ({wait.name}) has waited for a lock since "
                f"{wait.since:%Y-%m-%d %H:%M:%S} UTC. Sessions {blockers} block it",
                "wait, or end the blocking sessions with pg_terminate_backend()",
            )
    for name, why in _SETTINGS.items():
        if facts.settings.get(name) == "off":
            yield Finding(
                Code.UNSAFE_SETTING,
                "server",
                f"{name} is off: {why}",
                f"ALTER SYSTEM SET {name} = on",
            )
    if facts.settings.get("client_connection_check_interval") == "0":
        yield Finding(
            Code.NO_DISCONNECT_CHECK,
            "server",
            "client_connection_check_interval is 0: a killed move keeps its locks until its "
            "statement ends",
            "ALTER SYSTEM SET client_connection_check_interval = '500ms'",
        )


_END_IT = {
    "session": "let it end, or pg_terminate_backend() its pid; set "
    "idle_in_transaction_session_timeout",
    "prepared": "COMMIT PREPARED or ROLLBACK PREPARED it",
    "slot": "find out why its consumer has stopped",
}


def _held(holder: Holder, todo: str) -> Finding:
    return Finding(
        Code.HORIZON_HELD,
        "server",
        f"{holder} holds the snapshot horizon: files and rows that were removed since then stay "
        "on the disk",
        todo,
    )


def of_table(facts: TableFacts) -> Iterator[Finding]:
    """Judge a table: overdue moves and drops, late rows, partition tables, columns and files."""
    if facts.other_grain:
        yield Finding(
            Code.OTHER_GRAIN,
            facts.name,
            describe_mismatch(facts.grain, facts.other_grain),
            how_to_fix(facts.name, facts.other_grain),
        )
    yield from _of_policies(facts)
    yield from _of_partition_tables(facts)
    yield from _of_cold_files(facts)


def _of_policies(facts: TableFacts) -> Iterator[Finding]:
    now, name = facts.now, facts.name
    overdue = [
        window
        for window in facts.waiting
        if window.upper + facts.hot_for + MOVE_LATE < now and window not in facts.late
    ]
    if overdue:
        yield Finding(
            Code.MOVE_OVERDUE,
            name,
            f"partitions are due and not moved: {_keys(overdue)}",
            f"lakebed move {name} --due; `lakebed up` does it automatically",
        )
    if facts.late:
        yield Finding(
            Code.LATE_ROWS,
            name,
            f"late rows or deletes wait to be compacted: {_keys(facts.late)}",
            f"the next run compacts them, or run lakebed move {name} --due",
        )
    if facts.late_for is not None:
        late = [w for w in facts.late if w.upper + facts.late_for < now]
        if late:
            yield Finding(
                Code.ROWS_TOO_LATE,
                name,
                f"rows came later than late_for ({facts.late_for}) allows: {_keys(late)}",
                f"find their source; lakebed move {name} --due compacts them",
            )
    if facts.drop_after is not None:
        stuck = [w for w in facts.emptied if w.upper + facts.drop_after + HOUSEKEEPING_LATE < now]
        if stuck:
            yield Finding(
                Code.PARTITION_NOT_DROPPED,
                name,
                f"emptied partition tables wait to be dropped: {_keys(stuck)}",
                "lakebed housekeep shows the reason",
            )


def _of_cold_files(facts: TableFacts) -> Iterator[Finding]:
    name = facts.name
    for missing in facts.missing_columns:
        how = (
            f"none is needed: a restore fills in its default, {missing.default}"
            if missing.default is not None
            else f"ALTER TABLE {name} ALTER {missing.column} SET DEFAULT ...; a restore needs it"
        )
        yield Finding(
            Code.COLUMN_YOUNGER_THAN_ROWS,
            name,
            f"cold rows of {missing.partitions} partitions have no column {missing.column}, which "
            "is NOT NULL: readers find null there",
            how,
        )
    wrong = [file for file in facts.files if file.problem]
    if wrong:
        first = "; ".join(f"{file.path}: {file.problem}" for file in wrong[:NAMED])
        yield Finding(
            Code.LAKE_FILE_WRONG,
            name,
            f"{len(wrong)} files of the lake differ from the manifest: {first}",
            "copy them back from a backup of the lake; lakebed verify lists all",
        )


def _of_partition_tables(facts: TableFacts) -> Iterator[Finding]:
    name = facts.name
    if facts.gaps:
        yield Finding(
            Code.PARTITION_MISSING,
            name,
            f"partition tables are missing, so only a load can write there: {_keys(facts.gaps)}",
            f"lakebed housekeep {name} creates them, as does the daily job upkeep",
        )
    for partition_table in facts.default:
        yield Finding(
            Code.DEFAULT_PARTITION,
            name,
            f"{partition_table} is a DEFAULT partition: its rows block the ATTACH of "
            "their own partition",
            f"move its rows into partition tables of their own, then DROP TABLE {partition_table}",
        )
    for partition_table in facts.detaching:
        yield Finding(
            Code.PARTITION_HALF_DETACHED,
            name,
            f"{partition_table} is detached by half: queries do not see its rows",
            f"ALTER TABLE {name} DETACH PARTITION {partition_table} FINALIZE, then decide "
            "whether to attach it again",
        )
    for partition_table in facts.detached:
        yield Finding(
            Code.PARTITION_DETACHED,
            name,
            f"{partition_table} has the name of a partition table and is detached: queries do not "
            "see its rows",
            f"ATTACH it to {name}, or rename it",
        )


def of_undeclared(table: str, keys: Sequence[str]) -> Iterator[Finding]:
    """Judge a table without tiering.

    Args:
        table: Its name.
        keys: Its partitions that are cold, from the time when the table had tiering.
    """
    if keys:
        yield Finding(
            Code.COLD_BUT_UNDECLARED, table, describe_orphaned_partitions(keys), DECLARE_OR_RESTORE
        )


def of_erasures(erasures: Sequence[OpenErasure]) -> Iterator[Finding]:
    """Judge erasures that have not ended: files with the rows to erase can still exist."""
    for erasure in erasures:
        yield Finding(
            Code.ERASURE_OPEN,
            erasure.table,
            f"an erasure began at {erasure.since:%Y-%m-%d %H:%M:%S} UTC and has not ended, after "
            f"{erasure.rows:,} rows: rows that it has to erase can still exist",
            f"if it does not run now, run `lakebed erase {erasure.table} --where ...` again with "
            "the same condition",
        )


def of_owner(problem: str | None) -> Iterator[Finding]:
    """Judge the owner of the lake.

    Args:
        problem: Why this database must not write to the lake; None where it may.
    """
    if problem is not None:
        yield Finding(
            Code.LAKE_FOREIGN, "lake", problem, "correct LAKEBED_LAKE, or run `lakebed lake claim`"
        )


def of_lake(swept: Sequence[Swept], spared: Sequence[KeptFile]) -> Iterator[Finding]:
    """Judge the files of the lake that are not live.

    Args:
        swept: The files that housekeeping would delete now.
        spared: The files that it would keep, each with the reason.
    """
    if swept:
        size = sum(file.bytes for file in swept)
        yield Finding(
            Code.FILES_UNNEEDED,
            "lake",
            f"{len(swept)} files, {size:,} bytes, can be deleted",
            "lakebed housekeep; the job upkeep of `lakebed up` runs it each day",
        )
    held = [file for file in spared if file.reason is StayReason.SNAPSHOT]
    if held:
        yield Finding(
            Code.FILES_HELD,
            "lake",
            f"{len(held)} superseded files wait: {held[0].why}",
            "let it end",
        )


def _keys(windows: Sequence[Window]) -> str:
    named = ", ".join(window.key for window in windows[:NAMED])
    more = len(windows) - NAMED
    return f"{named} and {more} more" if more > 0 else named
