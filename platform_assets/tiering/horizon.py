"""The snapshot horizon: which sessions may still see what a committed transaction removed.

A snapshot with the xmin x sees all that transactions before x did. Every session sees a removal
once its transaction id is before each xmin that a session, a prepared transaction or a replication
slot holds. Ids are compared with 64 bits, so that none wraps around.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from lakebed.resources.postgres import Connection


class StayReason(StrEnum):
    """Why something that has expired stays for now."""

    BACKUP = "backup"
    """A backup, or a load that can be undone, names the file."""
    GRACE = "grace"
    """It was superseded less than the grace period ago."""
    SNAPSHOT = "snapshot"
    """A session, a prepared transaction or a replication slot may still see it."""
    HIDDEN = "hidden"
    """Sessions of other roles are hidden, and may still see it."""
    BUSY = "busy"
    """A load or a move is using it, or another session locks the table."""
    ROWS = "rows"
    """Rows came in, or VACUUM could not give the pages back."""
    DEPENDENT = "dependent"
    """Another object of the database depends on it."""


@dataclass(frozen=True)
class Stay:
    """A reason to stay. text: for people."""

    reason: StayReason
    text: str


_QUERY = """
select 'session' as kind, pid, coalesce(nullif(application_name, ''), backend_type) as name,
    backend_xmin::text as xmin, xact_start as since
from pg_stat_activity
where backend_xmin is not null and pid <> pg_backend_pid()
    and (datname is null or datname = current_database())
    and backend_type not like 'autovacuum%'
union all
select 'prepared', null, gid, transaction::text, prepared
from pg_prepared_xacts
where database = current_database()
union all
select 'slot', active_pid, slot_name, xmin::text, null
from pg_replication_slots
where xmin is not null
"""

_HIDDEN = """
select count(*) from pg_stat_activity
where not pg_has_role('pg_read_all_stats', 'USAGE')
    and usename is distinct from current_user
    and (datname is null and backend_type = 'walsender' or datname = current_database())
"""


@dataclass(frozen=True)
class Holder:
    """Something that may need what later transactions took away.

    name: the application, the prepared transaction's name or the slot's.  xmin: as 64 bits.
    since: when its transaction began, where that is known.
    """

    kind: Literal["session", "prepared", "slot"]
    pid: int | None
    name: str
    xmin: int
    since: datetime | None

    def __str__(self) -> str:
        """Name the session and its start, but not its query."""
        began = f", since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        match self.kind:
            case "session":
                return f"session {self.pid} ({self.name}{began})"
            case "prepared":
                return f"prepared transaction {self.name!r}{began}"
            case "slot":
                return f"replication slot {self.name!r}"


@dataclass(frozen=True)
class Horizon:
    """All holders of the horizon. hidden: sessions of other roles, which this role may not see."""

    holders: tuple[Holder, ...]
    hidden: int = 0

    def blind_to(self, xid: int) -> list[Holder]:
        """Return the holders that may not see the committed transaction, the oldest first."""
        return sorted((h for h in self.holders if xid >= h.xmin), key=lambda holder: holder.xmin)

    def why_not(self, xid: int) -> Stay | None:
        """Return why some session may not yet see the transaction, or None if all see it."""
        held = self.blind_to(xid)
        if held:
            return Stay(StayReason.SNAPSHOT, f"{held[0]} may still need it")
        if self.hidden:
            return Stay(
                StayReason.HIDDEN,
                f"{self.hidden} sessions of other roles are hidden from this one; "
                "GRANT pg_read_all_stats to it",
            )
        return None


def read_horizon(connection: Connection) -> Horizon:
    """Return the horizon of now. What is to be judged by it must have been seen committed before.

    In a transaction, only the first call sees what is new: PostgreSQL keeps its answer.
    """
    ((hidden, newest),) = connection.execute(
        f"select ({_HIDDEN}), pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchall()
    holders = [
        Holder(kind, pid, name, widen(int(xmin), int(newest)), since)
        for kind, pid, name, xmin, since in connection.execute(_QUERY)
    ]
    return Horizon(tuple(holders), hidden)


def let_readers_end(connection: Connection, xid: int, seconds: float) -> None:
    """Wait until every reader sees what a committed transaction did, but not for ever.

    seconds: the longest that is waited. Where sessions of other roles are hidden, so long.
    The connection must be in autocommit mode.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until and read_horizon(connection).why_not(xid) is not None:
        time.sleep(0.1)


def widen(xid: int, newest: int) -> int:
    """Return a transaction id of 32 bits as 64. newest: an id of 64 bits, at most 2^31 away."""
    prefetch = (xid - newest + 2**31) % 2**32 - 2**31
    return newest + prefetch
