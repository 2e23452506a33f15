"""Read where the rows are: each table and partition, the last load, open work. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg import sql

from lakebed.monitoring.findings import Finding, most_severe_first
from lakebed.monitoring.table_findings import findings_of
from lakebed.monitoring.table_state import TableState, read_table_state
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import relation_exists
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.store.policy import due
from lakebed.tiering.holds import holds

State = Literal["hot", "due", "held", "cold", "late", "missing", "empty"]
"""The state of a partition.

hot: in PostgreSQL. due: hot, and past its policy. held: restored; no policy moves it for a time.
cold: in the lake. late: cold, with late rows or deletes to compact. missing: without rows, between
partitions with rows. empty: without rows, before the first or after the last row.
"""

COUNT_UP_TO = 1_000_000
"""Partition tables with more rows by PostgreSQL's statistics are estimated, not counted."""

SAMPLED_ROWS = 20_000
"""How many rows are sampled from a large table to estimate the rows of each window."""

PARTITION_TABLES_PER_QUERY = 200


@dataclass(frozen=True)
class PartitionStatus:
    """One partition.

    Attributes:
        key: The partition key, such as "2024-03".
        state: Where its rows are.
        hot_rows: Rows in PostgreSQL.
        cold_rows: Rows in its cold file.
        bytes: The size of its cold file.
        generation: The version number of its cold file.
        deletes: Tombstones that the next compaction applies.
        held_until: Until when no policy moves the partition, if it was restored.
    """

    key: str
    state: State
    hot_rows: int
    cold_rows: int
    bytes: int
    generation: int
    deletes: int = 0
    held_until: str | None = None


@dataclass(frozen=True)
class TableStatus:
    """One table.

    Attributes:
        name: The table.
        exists: Whether PostgreSQL has it.
        hot_rows: Rows in PostgreSQL.
        estimated: Whether `hot_rows` is an estimate, because a partition table is too large.
        hot_bytes: Bytes in PostgreSQL, indexes included.
        cold_rows: Rows in the lake.
        cold_bytes: Bytes of the live files of the lake.
        partitions: Its partitions, in order.
        loaded_at: When the last load was committed.
        last_rows: Rows that the last load read.
        last_rejected: Rows that the last load rejected.
        moved_at: When the last cold file was committed.
        cursor: The cursor after the last load.
        lag_seconds: Time from the newest row to now; None for a table without a time.
        fresh: Whether the lag is within `freshness`; None without that policy.
        quarantined: Rows that wait in the quarantine.
        waiting_files: Files of the source that no load has loaded: new, or refused by the last.
        requests: Open requests for a move.
        open_erasures: Erasures that have not ended.
        refused_files: Path and problem of each refused file.
        newest_row: The time of the newest row.
    """

    name: str
    exists: bool
    hot_rows: int
    estimated: bool
    hot_bytes: int
    cold_rows: int
    cold_bytes: int
    partitions: tuple[PartitionStatus, ...]
    loaded_at: str | None
    last_rows: int
    last_rejected: int
    moved_at: str | None
    cursor: str | None
    lag_seconds: float | None
    fresh: bool | None
    quarantined: int
    waiting_files: tuple[str, ...]
    requests: int
    open_erasures: int = 0
    refused_files: tuple[tuple[str, str], ...] = ()
    newest_row: str | None = None


@dataclass(frozen=True)
class PlatformStatus:
    """The whole platform, at one moment of its clock.

    Attributes:
        now: The moment.
        postgres: The server.
        lake: The folder or bucket of the lake.
        tables: The tables.
        findings: Findings about sources, loads and rows. The doctor examines the tiers and the
            server as well.
    """

    now: str
    postgres: str
    lake: str
    tables: tuple[TableStatus, ...]
    findings: tuple[Finding, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the status as plain lists, numbers and texts."""
        return asdict(self)


def read_status(platform: Platform, *, count_up_to: int | None = None) -> PlatformStatus:
    """Read the status of the platform in one transaction.

    Args:
        platform: The platform.
        count_up_to: Partition tables with more rows are estimated; by default COUNT_UP_TO.

    Raises:
        PostgresUnavailableError: PostgreSQL cannot be reached.
    """
    limit = COUNT_UP_TO if count_up_to is None else count_up_to
    now = platform.clock.now()
    with platform.postgres.connect() as connection:
        connection.execute("set transaction isolation level repeatable read read only")
        states = [
            read_table_state(connection, platform.settings, table, now) for table in platform.tables
        ]
        tables = tuple(
            _table(connection, table, state, limit)
            for table, state in zip(platform.tables, states, strict=True)
        )
    found = [
        finding
        for table, state in zip(platform.tables, states, strict=True)
        for finding in findings_of(table, state)
    ]
    return PlatformStatus(
        now.isoformat(),
        platform.postgres.name,
        str(platform.lake.files),
        tables,
        most_severe_first(found),
    )


def _table(
    connection: Connection, table: SourceTable, state: TableState, limit: int
) -> TableStatus:
    now = state.now
    exists = relation_exists(connection, table)
    counts, estimated = _hot_rows(connection, table, limit) if exists else ({}, False)
    partitions = _partitions(connection, table, now, counts) if table.partitioning else ()
    load = connection.execute(
        "select committed_at, rows_read, rejected, cursor_to from lakebed.load"
        " where table_name = %s and rolled_back_at is null order by committed_at desc limit 1",
        [table.name],
    ).fetchone() or (None, 0, 0, None)
    moved = connection.execute(
        "select max(moved_at) from lakebed.cold_file where table_name = %s", [table.name]
    ).fetchone()
    lag = None
    if state.newest is not None:
        lag = max(0.0, (now - state.newest).total_seconds())
    return TableStatus(
        name=table.name,
        exists=exists,
        hot_rows=sum(counts.values()),
        estimated=estimated,
        hot_bytes=_hot_bytes(connection, table) if exists else 0,
        cold_rows=sum(p.cold_rows for p in partitions),
        cold_bytes=sum(p.bytes for p in partitions),
        partitions=partitions,
        loaded_at=load[0].isoformat() if load[0] else None,
        last_rows=load[1],
        last_rejected=load[2],
        moved_at=moved[0].isoformat() if moved and moved[0] else None,
        cursor=load[3],
        lag_seconds=lag,
        fresh=None
        if lag is None or not table.freshness
        else lag <= table.freshness.total_seconds(),
        quarantined=state.quarantine.waiting,
        waiting_files=state.source.waiting,
        requests=_count(connection, "tier_request", table.name, "answered_at is null"),
        open_erasures=_count(connection, "erasure", table.name, "finished_at is null"),
        refused_files=state.source.refused,
        newest_row=state.newest.isoformat() if state.newest is not None else None,
    )


def _partitions(
    connection: Connection, table: SourceTable, now: datetime, counts: Mapping[str, int]
) -> tuple[PartitionStatus, ...]:
    cold = {
        key: (rows, size, generation)
        for key, rows, size, generation in connection.execute(
            "select partition_key, rows, bytes, generation from lakebed.cold_file"
            " where table_name = %s and superseded_at is null",
            [table.name],
        )
    }
    deleted = sql.SQL("select moment from lakebed.cold_delete where table_name = {}")
    deletes = Counter(_by_key(connection, table, deleted.format(table.name)))
    held = holds(connection, table, now)
    past = {window.key for window in due(table, now)} if table.tiering else set()
    keys = sorted({w.key for w in table.windows(now)} | cold.keys() | counts.keys())
    states = _with_gaps(
        [
            _state(counts.get(key, 0), deletes[key], key in cold, key in past, key in held)
            for key in keys
        ]
    )
    return tuple(
        PartitionStatus(
            key,
            state,
            counts.get(key, 0),
            *cold.get(key, (0, 0, 0)),
            deletes[key],
            held[key].isoformat() if key in held else None,
        )
        for key, state in zip(keys, states, strict=True)
    )


def read_states(connection: Connection, table: SourceTable, now: datetime) -> dict[str, State]:
    """Return the state of each partition by key, in order. Does not count hot rows."""
    if not relation_exists(connection, table):
        return {window.key: "empty" for window in table.windows(now)}
    windows = list(table.windows(now))
    query = sql.SQL(
        "select w.lower from unnest({}::timestamptz[], {}::timestamptz[]) as w (lower, upper)"
        " where exists (select from {table} h where h.{time} >= w.lower and h.{time} < w.upper)"
    ).format(
        [window.lower.isoformat() for window in windows],
        [window.upper.isoformat() for window in windows],
        table=table.relation,
        time=sql.Identifier(table.require_partitioning.column),
    )
    found = {lower for (lower,) in connection.execute(query)}
    present = {window.key: 1 for window in windows if window.lower in found}
    return {p.key: p.state for p in _partitions(connection, table, now, present)}


def _with_gaps(states: Sequence[State]) -> list[State]:
    """Turn the empty partitions between partitions with rows into missing ones."""
    full = [place for place, state in enumerate(states) if state != "empty"]
    return [
        "missing" if state == "empty" and full and full[0] < place < full[-1] else state
        for place, state in enumerate(states)
    ]


def _state(hot_rows: int, deletes: int, cold: bool, past: bool, held: bool) -> State:
    if cold:
        return "late" if hot_rows or deletes else "cold"
    if hot_rows and held:
        return "held"
    if hot_rows:
        return "due" if past else "hot"
    return "empty"


def hot_row_count(connection: Connection, table: SourceTable) -> tuple[int, bool]:
    """Return the number of hot rows of an existing table, and whether it is an estimate.

    PostgreSQL's estimate is used for more than COUNT_UP_TO rows.
    """
    query = (
        "select coalesce(sum(pg_stat_get_live_tuples(part.oid)), 0)::bigint"
        " from (select to_regclass(%s) as oid) t,"
        " lateral (select t.oid union select relid from pg_partition_tree(t.oid)) part (oid)"
    )
    estimate = int(connection.execute(query, [table.relation.as_string()]).fetchall()[0][0])
    if estimate > COUNT_UP_TO:
        return estimate, True
    count = sql.SQL("select count(*) from {}").format(table.relation)
    return int(connection.execute(count).fetchall()[0][0]), False


def _hot_rows(
    connection: Connection, table: SourceTable, limit: int
) -> tuple[dict[str, int], bool]:
    """Count hot rows by partition key ("" without partitions); say if any is an estimate."""
    partition_tables = connection.execute(
        "select n.nspname, c.relname, coalesce(pg_stat_get_live_tuples(c.oid), 0)"
        " from (select to_regclass(%s) as oid) t,"
        " lateral (select t.oid union select relid from pg_partition_tree(t.oid)) part (oid)"
        " join pg_class c on c.oid = part.oid join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind = 'r' and pg_relation_size(c.oid) > 0",
        [table.relation.as_string()],
    ).fetchall()
    if table.adopted and partition_tables:
        # We may lack the right to read its partition tables, so the table is read as a whole.
        partition_tables = [(table.schema, table.name, sum(rows for *_, rows in partition_tables))]
    counts: Counter[str] = Counter()
    exact = [
        sql.Identifier(*partition_table)
        for *partition_table, rows in partition_tables
        if rows <= limit
    ]
    for start in range(0, len(exact), PARTITION_TABLES_PER_QUERY):
        relation = sql.SQL(" union all ").join(
            sql.SQL("select {} as moment from {}").format(_moment(table), partition_table)
            for partition_table in exact[start : start + PARTITION_TABLES_PER_QUERY]
        )
        counts.update(_by_key(connection, table, relation))
    estimated = [
        (sql.Identifier(*partition_table), rows)
        for *partition_table, rows in partition_tables
        if rows > limit
    ]
    for partition_table, rows in estimated:
        percent = 100 * SAMPLED_ROWS / rows
        relation = sql.SQL("select {} as moment from {} tablesample system ({})").format(
            _moment(table), partition_table, sql.Literal(percent)
        )
        sample = _by_key(connection, table, relation)
        for key, sampled in sample.items():
            counts[key] += round(rows * sampled / sum(sample.values()))
    return counts, bool(estimated)


def _moment(table: SourceTable) -> sql.Composable:
    return sql.Identifier(table.partitioning.column) if table.partitioning else sql.SQL("null")


def _by_key(connection: Connection, table: SourceTable, relation: sql.Composable) -> dict[str, int]:
    """Count rows of a query with the column moment by partition key."""
    if table.partitioning is None:
        count = sql.SQL("select count(*) from ({}) r").format(relation)
        return {"": int(connection.execute(count).fetchall()[0][0])}
    by_window = sql.SQL("select date_trunc({}, moment, 'UTC'), count(*) from ({}) r group by 1")
    rows = connection.execute(by_window.format(table.partitioning.grain.value, relation))
    return {table.window(lower).key: count for lower, count in rows}


def _hot_bytes(connection: Connection, table: SourceTable) -> int:
    row = connection.execute(
        "select coalesce((select sum(pg_total_relation_size(relid)) from pg_partition_tree(t)),"
        " pg_total_relation_size(t))::bigint"
        " from (select to_regclass(%s) as t) x",
        [table.relation.as_string()],
    ).fetchall()[0]
    return int(row[0])


def _count(connection: Connection, relation: str, table: str, where: str = "true") -> int:
    query = sql.SQL("select count(*) from {} where table_name = %s and {}").format(
        sql.Identifier("lakebed", relation),
        sql.SQL(where),
    )
    return int(connection.execute(query, [table]).fetchall()[0][0])
