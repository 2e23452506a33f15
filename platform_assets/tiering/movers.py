"""Register the processes that take rows of a table to the lake, before they see any row.

A mover may still hold rows, in memory or in an unrecorded file, that were erased since it began.
So each one registers in two places before its transaction has a snapshot. An erasure waits for
the movers that it finds there after its own commit:

    PostgreSQL    two table locks that rarely occur together: as long as its session lives
    the lake      a locked file: as long as its process lives, even if its session was ended

A mover that registers later has a later snapshot.
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
    """Return the first statements of a mover's transaction, which register it in PostgreSQL.

    LOCK takes no snapshot. These modes block only ALTER TABLE and its like, which the move's own
    reading blocks as well.
    """
    return sql.SQL(
        "lock table only {} in access share mode;"
        " lock table only lakebed.cold_file in row share mode"
    ).format(table.relation)


@contextmanager
def at_work(files: LakeFiles, table: SourceTable) -> Iterator[None]:
    """Register a mover in the lake while the block runs. Raises LakeFileError."""
    spool = _spool(files, table)
    try:
        place = spool.take("")
    except OSError as error:
        raise LakeFileError(
            f"{spool.folder}: cannot lock a file in it ({error}), so that other processes could "
            "not see this writer. The folder needs a file system with flock, and free space"
        ) from error
    try:
        yield
    finally:
        place.release()


def let_older_end(
    connection: Connection, files: LakeFiles, table: SourceTable, seconds: float
) -> list[str]:
    """Wait for the running movers of a table; return those that still run after `seconds`.

    The change that they must not miss must have been committed before. The connection is in
    autocommit mode.
    """
    older = _at_work(connection, files, table)
    until = time.monotonic() + seconds
    while older and time.monotonic() < until:
        time.sleep(PAUSE)
        now = _at_work(connection, files, table)
        older = {who: called for who, called in older.items() if who in now}
    return sorted(older.values())


def let_mover_end(connection: Connection, lock: AdvisoryLock) -> None:
    """Wait briefly for the holder of a lock, ahead of processes that only try to get it."""
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = '1s'")
            lock.take(connection)
    except psycopg.errors.LockNotAvailable:
        return


def _at_work(
    connection: Connection, files: LakeFiles, table: SourceTable
) -> dict[tuple[str, str], str]:
    """Return the running movers, and how to name each."""
    sessions = connection.execute(sql.SQL(_OLDER).format(table.oid)).fetchall()
    found = {(str(pid), of): f"session {pid} of PostgreSQL" for pid, of in sessions}
    locks = _spool(files, table).held()
    return found | {("", lock.stem): f"the process that holds {lock}" for lock in locks}


def _spool(files: LakeFiles, table: SourceTable) -> Spool:
    return Spool(files.movers / table.name)
