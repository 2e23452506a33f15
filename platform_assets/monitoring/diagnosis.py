"""What is wrong with the tiers, judged from facts alone. Pure; doctor.py gathers the facts."""

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
"""So many of a kind are named, the others are counted."""


@dataclass(frozen=True)
class LockWait:
    """A session that waits for a lock. blockers: the sessions that it waits for."""

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

    waiting: due windows with rows to move.  late: cold windows with hot rows or tombstones.
    emptied: windows whose leaf may be dropped, and is there.  gaps: windows without a leaf.
    default, detaching, detached: leaves by name.  lacking: columns that settled rows should have.
    hot_for, late_for, drop_after: the policies.  other_grain: live partitions that are none of
    the grain of now.
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
    find_missing_columns: Sequence[MissingColumn] = ()
    files: Sequence[CheckedFile] = field(default_factory=tuple)
    grain: Grain = Grain.DAY
    other_grain: Sequence[Bounds] = ()


@dataclass(frozen=True)
class OpenErasure:
    """An erasure that has not ended. rows: erased so far. What it looks for is not told."""

    table: str
    since: datetime
    rows: int


_SETTINGS = {
    "fsync": "a crash of the machine can lose what was committed, and files with it",
    "full_page_writes": "a crash of the machine can leave pages torn",
    "autovacuum": "emptied leaves keep their pages, and transaction ids run out",
}


def of_server(facts: ServerFacts) -> Iterator[Finding]:
    """Judge the server: who holds the horizon, who waits for locks, which settings hurt."""
    for holder in facts.horizon.holders:
        if holder.kind == "slot" and holder.pid is None:
            yield _held(holder, "nobody reads from it; drop it with pg_drop_replication_slot()")
        elif holder.since is not None and facts.now - holder.since > HOLDS_TOO_LONG:
            yield _held(holder, _END_IT[holder.kind])
    if facts.horizon.hidden:
        yield Finding(
            Code.SESSIONS_HIDDEN,
            "server",
            f"{facts.horizon.hidden} sessions of other roles are hidden: nobody knows what they "
            "may still need, so that no file and no leaf goes",
            "GRANT pg_read_all_stats to the role of Lakebed",
        )
    for wait in facts.waits:
        if facts.now - wait.since > LOCK_WAIT:
            blockers = ", ".join(map(str, wait.blockers))
            yield Finding(
                Code.LOCK_WAIT,
                "server",
                f"session {wait.pid} ({wait.name}) waits for a lock since "
                f"{wait.since:%Y-%m-%d %H:%M:%S} UTC, behind {blockers}",
                "end the sessions in front, or wait",
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
            "client_connection_check_interval is 0: the locks of a killed mover live until its "
            "statement ends",
            "ALTER SYSTEM SET client_connection_check_interval = '500ms'",
        )


_END_IT = {
    "session": "let it end, or pg_terminate_backend() its pid; set "
    "idle_in_transaction_session_timeout",
    "prepared": "COMMIT PREPARED or ROLLBACK PREPARED it",
    "slot": "look why its reader does not go on",
}


def _held(holder: Holder, todo: str) -> Finding:
    return Finding(
        Code.HORIZON_HELD,
        "server",
        f"{holder} holds the snapshot horizon: nothing that was taken away since goes for good",
        todo,
    )


def of_table(facts: TableFacts) -> Iterator[Finding]:
    """Judge a table: moves and drops that wait too long, leaves, and files."""
    now, name = facts.now, facts.name
    if facts.other_grain:
        yield Finding(
            Code.OTHER_GRAIN,
            name,
            describe_mismatch(facts.grain, facts.other_grain),
            how_to_fix(name, facts.other_grain),
        )
    overdue = [
        window
        for window in facts.waiting
        if window.upper + facts.hot_for + MOVE_LATE < now and window not in facts.late
    ]
    if overdue:
        yield Finding(
            Code.MOVE_OVERDUE,
            name,
            f"due and not moved: {_keys(overdue)}",
            f"lakebed move {name} --due; `lakebed up` does it by itself",
        )
    if facts.late:
        yield Finding(
            Code.LATE_ROWS,
            name,
            f"rows or deletes that came late wait to be folded: {_keys(facts.late)}",
            f"the next run folds them, or lakebed move {name} --due",
        )
    if facts.late_for is not None:
        late = [w for w in facts.late if w.upper + facts.late_for < now]
        if late:
            yield Finding(
                Code.ROWS_TOO_LATE,
                name,
                f"rows came later than late_for ({facts.late_for}) allows: {_keys(late)}",
                f"look where they come from; lakebed move {name} --due folds them",
            )
    if facts.drop_after is not None:
        stuck = [w for w in facts.emptied if w.upper + facts.drop_after + HOUSEKEEPING_LATE < now]
        if stuck:
            yield Finding(
                Code.PARTITION_NOT_DROPPED,
                name,
                f"emptied leaves wait to be dropped: {_keys(stuck)}",
                "lakebed housekeep says why",
            )
    yield from _of_partition_tables(facts)
    for lack in facts.find_missing_columns:
        how = (
            f"a restore puts its default there, {lack.default}"
            if lack.default is not None
            else "SET DEFAULT, or no restore can succeed"
        )
        yield Finding(
            Code.COLUMN_YOUNGER_THAN_ROWS,
            name,
            f"settled rows of {lack.partitions} partitions are older than {lack.column}, which is "
            "NOT NULL: readers find null",
            how,
        )
    wrong = [file for file in facts.files if file.problem]
    if wrong:
        first = "; ".join(f"{file.path}: {file.problem}" for file in wrong[:NAMED])
        yield Finding(
            Code.LAKE_FILE_WRONG,
            name,
            f"{len(wrong)} files of the lake are not what the manifest says: {first}",
            "bring them back from a backup of the lake; lakebed verify names all",
        )


def _of_partition_tables(facts: TableFacts) -> Iterator[Finding]:
    name = facts.name
    if facts.gaps:
        yield Finding(
            Code.PARTITION_MISSING,
            name,
            f"no leaf, so that only a load can write there: {_keys(facts.gaps)}",
            f"lakebed housekeep {name} makes them, and so does the daily job upkeep",
        )
    for partition_table in facts.default:
        yield Finding(
            Code.DEFAULT_PARTITION,
            name,
            f"{partition_table} is a DEFAULT partition: its rows block the ATTACH of "
            "their own partition",
            f"move its rows into leaves of their own, then DROP TABLE {partition_table}",
        )
    for partition_table in facts.detaching:
        yield Finding(
            Code.PARTITION_HALF_DETACHED,
            name,
            f"{partition_table} was left half detached: nobody sees its rows",
            f"ALTER TABLE {name} DETACH PARTITION {partition_table} FINALIZE, then decide "
            "whether to attach it again",
        )
    for partition_table in facts.detached:
        yield Finding(
            Code.PARTITION_DETACHED,
            name,
            f"{partition_table} has the name of a leaf and is none: nobody sees its rows",
            f"ATTACH it to {name}, or rename it",
        )


def of_undeclared(table: str, keys: Sequence[str]) -> Iterator[Finding]:
    """Judge a table without tiering. keys: its partitions that have settled all the same."""
    if keys:
        yield Finding(
            Code.COLD_BUT_UNDECLARED, table, describe_orphaned_partitions(keys), DECLARE_OR_RESTORE
        )


def of_erasures(erasures: Sequence[OpenErasure]) -> Iterator[Finding]:
    """Judge erasures that have not ended: files that hold what was erased may still be there."""
    for erasure in erasures:
        yield Finding(
            Code.ERASURE_OPEN,
            erasure.table,
            f"an erasure that began at {erasure.since:%Y-%m-%d %H:%M:%S} UTC has not ended, after "
            f"{erasure.rows:,} rows: what it is to erase may still be there",
            f"unless it runs now: `lakebed erase {erasure.table} --where ...` again, with the same "
            "condition",
        )


def of_owner(problem: str | None) -> Iterator[Finding]:
    """Judge whose the lake is. problem: why this database may not write to it."""
    if problem is not None:
        yield Finding(
            Code.LAKE_FOREIGN, "lake", problem, "set LAKEBED_LAKE right, or `lakebed lake claim`"
        )


def of_lake(swept: Sequence[Swept], spared: Sequence[KeptFile]) -> Iterator[Finding]:
    """Judge what lies in the lake and is live no more.

    swept: what housekeeping would remove now.  spared: what it would leave, with the reason.
    """
    if swept:
        size = sum(file.bytes for file in swept)
        yield Finding(
            Code.FILES_UNNEEDED,
            "lake",
            f"{len(swept)} files, {size:,} bytes, are needed no more",
            "lakebed housekeep; the job upkeep of `lakebed up` does it each day",
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
