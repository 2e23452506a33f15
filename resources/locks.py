"""The advisory locks of PostgreSQL: one function a lock, and their names in no other module.

    load_lock        loads of a table, one at a time; loads of windows share it
    window_lock      loads of one window of a table, one at a time
    evolve_lock      adding columns that a source brought
    cursor_lock      the end of a load: the last to commit has the greatest cursor
    move_lock        rewriting a partition as a whole: moves, restores, erasures, window loads
    lake_copy_lock   writing the lake copy of a table
    build_lock       publishing a model
    catalog_lock     replacing the catalog file
    lake_lock        giving the lake a token of its owner; writers of files share it
    migration_lock   migrating the schema lakebed

Both sides of a fence must take a lock of the same name. So only this module makes an AdvisoryLock,
and only an AdvisoryLock is ever taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from lakebed.spec.partitions import Window

Connection = psycopg.Connection[tuple[Any, ...]]

_MADE_HERE = object()


class AdvisoryLock:
    """A lock that the processes of Lakebed agree on; only the functions of this module make one."""

    def __init__(self, name: str, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise TypeError(f"{name!r}: only lakebed.resources.locks makes an AdvisoryLock")
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdvisoryLock) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"AdvisoryLock({self.name!r})"

    @contextmanager
    def held(self, connection: Connection, *, shared: bool = False) -> Iterator[None]:
        """Hold the lock while the block runs, across transactions; wait for it.

        Raises psycopg.errors.LockNotAvailable where the session has a lock_timeout.
        """
        kind = "_shared" if shared else ""
        connection.execute(self._call(f"pg_advisory_lock{kind}"))
        try:
            yield
        finally:
            if not connection.closed:
                connection.execute(self._call(f"pg_advisory_unlock{kind}"))

    def take(self, connection: Connection) -> None:
        """Take the lock for the rest of the transaction; wait for it.

        Raises psycopg.errors.LockNotAvailable where the session has a lock_timeout.
        """
        connection.execute(self._call("pg_advisory_xact_lock"))

    def try_take(self, connection: Connection) -> bool:
        """Take the lock for the rest of the transaction if it is free; return whether it was."""
        return bool(connection.execute(self.try_query).fetchall()[0][0])

    @property
    def try_query(self) -> sql.Composed:
        """The query of `try_take`, for a transaction that DuckDB drives; its one column is ok."""
        return self._call("pg_try_advisory_xact_lock")

    def _call(self, function: str) -> sql.Composed:
        query = sql.SQL("select {}(hashtextextended({}, 0)) as ok")
        return query.format(sql.Identifier(function), sql.Literal(self.name))


def load_lock(table: str) -> AdvisoryLock:
    """Return the lock of the loads of a table; a load of one window shares it."""
    return AdvisoryLock(f"lakebed.load:{table}", _MADE_HERE)


def window_lock(table: str, window: Window) -> AdvisoryLock:
    """Return the lock of the loads of one window of a table."""
    return AdvisoryLock(f"lakebed.load:{table}:{window.key}", _MADE_HERE)


def evolve_lock(table: str) -> AdvisoryLock:
    """Return the lock that keeps two loads of different windows from adding the same column."""
    return AdvisoryLock(f"lakebed.evolve:{table}", _MADE_HERE)


def cursor_lock(table: str) -> AdvisoryLock:
    """Return the lock under which a load writes its cursor and commits."""
    return AdvisoryLock(f"lakebed.cursor:{table}", _MADE_HERE)


def move_lock(table: str, window: Window) -> AdvisoryLock:
    """Return the lock under which a partition is rewritten as a whole."""
    return AdvisoryLock(f"lakebed.move:{table}:{window.key}", _MADE_HERE)


def lake_copy_lock(table: str) -> AdvisoryLock:
    """Return the lock under which the lake copy of a table is written."""
    return AdvisoryLock(f"lakebed.lake_copy:{table}", _MADE_HERE)


def build_lock(model: str) -> AdvisoryLock:
    """Return the lock under which a model is published."""
    return AdvisoryLock(f"lakebed.build:{model}", _MADE_HERE)


def catalog_lock() -> AdvisoryLock:
    """Return the lock under which the catalog file is replaced."""
    return AdvisoryLock("lakebed.catalog", _MADE_HERE)


def lake_lock() -> AdvisoryLock:
    """Return the lock under which the lake gets a token of its owner; writers of files share it."""
    return AdvisoryLock("lakebed.lake", _MADE_HERE)


def migration_lock() -> AdvisoryLock:
    """Return the lock under which the schema `lakebed` is brought up to date."""
    return AdvisoryLock("lakebed.migration", _MADE_HERE)
