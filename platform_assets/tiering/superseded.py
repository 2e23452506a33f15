"""Giving up superseded files: a row records it before any file is removed (sweep.py).

superseded     by a newer generation; given up after a grace period, and once no snapshot can name
               the file; spared as long as a backup or a load that can be undone names it
expired        a lake copy beyond the number that its table keeps; given up in the same way
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.tiering.horizon import Horizon, Stay, StayReason, read_horizon, widen
from lakebed.tiering.sweep import Swept


@dataclass(frozen=True)
class KeptFile:
    """A superseded file that stays for now, and why."""

    owner: str
    path: str
    bytes: int
    reason: StayReason
    why: str


@dataclass(frozen=True)
class _Superseded:
    """A row whose generation is live no more. xmin: of its last change, with 64 bits."""

    owner: str
    path: str
    bytes: int
    since: datetime
    xmin: int
    pinned: bool


def judge(
    rows: Iterable[_Superseded], horizon: Horizon, now: datetime, grace: timedelta
) -> tuple[list[_Superseded], list[KeptFile]]:
    """Decide which superseded files may go, and why the rest may not. Pure."""
    going, spared = [], []
    for row in rows:
        stay = _why_not(row, horizon, now, grace)
        if stay is None:
            going.append(row)
        else:
            spared.append(KeptFile(row.owner, row.path, row.bytes, stay.reason, stay.text))
    return going, spared


def _why_not(row: _Superseded, horizon: Horizon, now: datetime, grace: timedelta) -> Stay | None:
    if row.pinned:
        return Stay(StayReason.BACKUP, "a backup, or a load that can be undone, names it")
    if row.since + grace > now:
        since = f"superseded at {row.since:%Y-%m-%d %H:%M} UTC, kept for {grace}"
        return Stay(StayReason.GRACE, since)
    return horizon.why_not(row.xmin)


_SUPERSEDED = {
    "cold_file": """
select table_name, path, bytes, superseded_at, f.xmin::text,
    exists (
        select from lakebed.backup_cold b
        where (b.table_name, b.partition_key, b.generation)
            = (f.table_name, f.partition_key, f.generation)
    ) or exists (
        select from lakebed.load_superseded l
        where (l.table_name, l.partition_key, l.generation)
            = (f.table_name, f.partition_key, f.generation)
    ) as pinned
from lakebed.cold_file f
where superseded_at is not null and removed_at is null and (%(owner)s::text is null
    or table_name = %(owner)s)
order by path for update skip locked""",
    "lake_copy": """
select table_name, path, bytes, expired_at, s.xmin::text, false
from lakebed.lake_copy s
where expired_at is not null and removed_at is null and (%(owner)s::text is null
    or table_name = %(owner)s)
order by path for update skip locked""",
    "model_version": """
select model, path, coalesce(bytes, 0), superseded_at, v.xmin::text, false
from lakebed.model_version v
where superseded_at is not null and removed_at is null and path is not null
    and %(owner)s::text is null
order by path for update skip locked""",
    "model_file": """
select model, path, bytes, superseded_at, f.xmin::text, false
from lakebed.model_file f
where superseded_at is not null and removed_at is null and %(owner)s::text is null
order by path for update skip locked""",
}


def give_up_superseded(
    connection: Connection, grace: timedelta, table: str | None = None, *, dry_run: bool = False
) -> tuple[list[Swept], list[KeptFile]]:
    """Give up superseded files in one transaction; return them, and the files that stay.

    table: only its files; None for all tables and models. `remove_nameless` removes the files. The
    connection must be in autocommit mode.
    """
    given_up: list[Swept] = []
    spared: list[KeptFile] = []
    for relation, query in _SUPERSEDED.items():
        with connection.transaction(force_rollback=dry_run):
            rows = connection.execute(query.encode(), {"owner": table}).fetchall()
            ((now, newest),) = connection.execute(
                "select clock_timestamp(), pg_snapshot_xmax(pg_current_snapshot())::text"
            ).fetchall()
            found = [
                _Superseded(owner, path, size, since, widen(int(xmin), int(newest)), pinned)
                for owner, path, size, since, xmin, pinned in rows
            ]
            # Read after the rows: a session that does not see them as superseded is among the
            # holders.
            going, staying = judge(found, read_horizon(connection), now, grace)
            connection.execute(
                sql.SQL(
                    "update {} set removed_at = clock_timestamp() where path = any(%s)"
                    " and superseded_at is not null"
                ).format(sql.Identifier("lakebed", relation)),
                [[row.path for row in going]],
            )
        given_up += [Swept(row.owner, row.path, row.bytes, "superseded") for row in going]
        spared += staying
    return given_up, spared
