"""Find the loads of a table that can be undone, and why the rest cannot. Only reads.

A load can be undone together with all later loads: their changes to its rows have to be undone
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lakebed.errors import LakebedError
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

LOADS_QUERY = """
select load_id, committed_at, inserted, updated, deleted, files,
    coalesce(written, 0), coalesce(changed, 0),
    to_regclass('lakebed_undo.' || quote_ident(load_id)) is not null as kept,
    coalesce(xids, '{}'), xids is null as unknown, coalesce(copied, false) as copied,
    coalesce(old, false) as old
from lakebed.load
    left join lateral (
        select sum(written)::bigint as written, sum(changed)::bigint as changed,
            array_agg(distinct w.xid) as xids,
            bool_or(w.xid is distinct from w.xmin::text) as copied,
            bool_or(
                pg_current_xact_id()::text::numeric - w.xact::text::numeric >= 2147483648
            ) as old
        from lakebed.load_write w where w.load_id = load.load_id
        having count(*) > 0
    ) as writes on true
where table_name = %s and rolled_back_at is null
order by committed_at desc
"""


class RollbackError(LakebedError, RuntimeError):
    """A table was not brought back; nothing was changed. The text says why and what to do."""


@dataclass(frozen=True)
class RollbackCandidate:
    """A load that was not rolled back.

    problem: why it cannot be undone, None if it can. written: rows that it inserted or updated.
    changed: rows that it updated or deleted. kept: whether a table keeps their old versions. xids:
    the transaction ids that its rows carry.
    """

    load_id: str
    committed_at: datetime
    inserted: int
    updated: int
    deleted: int
    files: int
    written: int
    changed: int
    kept: bool
    xids: Sequence[str]
    problem: str | None = None


def loads_of(connection: Connection, table: SourceTable) -> list[RollbackCandidate]:
    """Return the loads of a table that were not rolled back, the newest first."""
    loads: list[RollbackCandidate] = []
    problem: str | None = None
    for row in connection.execute(LOADS_QUERY, [table.name]).fetchall():
        known, why = row[:10], row[10:]
        load = RollbackCandidate(*known)
        problem = problem or _problem(table, load, *why)
        loads.append(replace(load, problem=problem))
    return loads


def loads_to_undo(
    connection: Connection, table: SourceTable, load_id: str | None
) -> list[RollbackCandidate]:
    """Return the loads that are undone, the newest first: the last one, or one and all after it.

    Raises RollbackError.
    """
    loads = loads_of(connection, table)
    if not loads:
        raise RollbackError(
            f"{table.name}: nothing to undo: all its loads were rolled back, or none ran"
        )
    if load_id is None:
        chosen = loads[:1]
    else:
        found = [n for n, load in enumerate(loads) if load.load_id == load_id]
        if not found:
            raise RollbackError(
                f"{table.name}: it has no load {load_id} to undo; `lakebed rollback {table.name} "
                "--list` shows its loads"
            )
        chosen = loads[: found[0] + 1]
    if chosen[-1].problem is not None:
        raise RollbackError(f"{table.name}: {chosen[-1].problem}")
    return chosen


def _problem(
    table: SourceTable, load: RollbackCandidate, unknown: bool, copied: bool, old: bool
) -> str | None:
    load_id = load.load_id
    backup = f"restore from a backup: `lakebed backup list {table.name}`"
    if unknown:
        return (
            f"load {load_id} cannot be undone: what it wrote is not known, because a backup was "
            f"put back after it or it is older than that record; {backup}"
        )
    if copied:
        return (
            f"load {load_id} cannot be undone: the database was copied or restored since, and its "
            f"rows carry other transaction ids now; {backup}"
        )
    if old:
        return (
            f"load {load_id} cannot be undone: after more than 2 billion transactions its rows can "
            f"no longer be told apart; {backup}"
        )
    if load.changed and not load.kept:
        return (
            f"load {load_id} cannot be undone: it updated or deleted {load.changed} rows, and the "
            f"table file keeps old versions for {table.undo_loads} loads only (undo_loads). Raise "
            f"undo_loads for later loads; for this one, {backup}"
        )
    return None
