"""Those who take rows of a table to the lake just now, told before they see any row.

A mover may still hold, in memory or in a file that nobody names, what others have erased meanwhile.
So each is told in two places before its transaction has a snapshot, and an erasure waits for those
that it finds there after its own commit:

    PostgreSQL    two locks of tables that few others hold together: as long as its session lives
    the lake      a locked file: as long as its process lives, whose session may have been ended

Whoever comes later has a later snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from lakebed.resources.lake_files import LakeFileError, LakeFiles
from lakebed.resources.locks import AdvisoryLock
from lakebed.resources.postgres import Connection
from lakebed.resources.spool import Spool
from lakebed.spec.table import SourceTable

PAUSE = 0.1

_OLDER = """
select distinct hot.pid, hot.virtualtransaction
from pg_locks hot join pg_locks named using (pid, virtualtransaction, database, granted)
where granted and database = (select oid from pg_database where datname = current_database())
    and hot.relation = {}::regclass
    and named.relation = 'lakebed.cold_file'::regclass and named.mode = 'RowShareLock'
"""


def lock_statement(table: SourceTable) -> sql.Composable:
    """Return what tells PostgreSQL of a mover: the first statements of its transaction.

    LOCK takes no snapshot, and these modes stand in nobody's way but of ALTER TABLE and its like,
    in whose way the move's own reading is.
    """
    return sql.SQL(
        "lock table only {} in access share mode;"
        " lock table only lakebed.cold_file in row share mode"
    ).format(table.relation)


@contextmanager
def at_work(files: LakeFiles, table: SourceTable) -> Iterator[None]:
    """Tell the lake of a mover while the block runs. Raises LakeFileError."""
    spool = _spool(files, table)
    try:
        place = spool.take("")
    except OSError as error:
        raise LakeFileError(
            f"{spool.folder}: no lock can be taken in it ({error}); nobody could know who writes "
            "to the lake. It wants a file system with flock, and room"
        ) from error
    try:
        yield
    finally:
        place.release()


def let_older_end(
    connection: Connection, files: LakeFiles, table: SourceTable, seconds: float
) -> list[str]:
    """Wait for the movers of a table that are at work; return those that still are after seconds.

    What is to be kept from them must have been committed before. The connection is in autocommit
    mode.
    """
    older = _at_work(connection, files, table)
    until = time.monotonic() + seconds
    while older and time.monotonic() < until:
        time.sleep(PAUSE)
        now = _at_work(connection, files, table)
        older = {who: called for who, called in older.items() if who in now}
    return sorted(older.values())


def let_mover_end(connection: Connection, lock: AdvisoryLock) -> None:
    """Wait a moment for the one who holds a lock, ahead of all who only try to get it."""
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '1s'")
            lock.take(connection)
    except psycopg.errors.LockNotAvailable:
        return


def _at_work(
    connection: Connection, files: LakeFiles, table: SourceTable
) -> dict[tuple[str, str], str]:
    """Return who is at work, and what to call it."""
    sessions = connection.execute(sql.SQL(_OLDER).format(table.oid)).fetchall()
    found = {(str(pid), of): f"session {pid} of PostgreSQL" for pid, of in sessions}
    locks = _spool(files, table).held()
    return found | {("", lock.stem): f"the process that holds {lock}" for lock in locks}


def _spool(files: LakeFiles, table: SourceTable) -> Spool:
    return Spool(files.movers / table.name)
