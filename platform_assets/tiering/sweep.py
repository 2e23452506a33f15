"""Sweeping the lake: remove the files that no manifest row names.

    given up       a row says that no transaction may name it any more (superseded.py, an erasure)
    orphan         a file that was never named: its writer died before the commit
    unfinished     a file of a writer that died while it wrote

A row gives up a name before its file is removed, and the name is never used again. So a late writer
cannot name the file, and a late sweeper removes no file of another process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

import psycopg
from psycopg import sql

from lakebed.resources.lake_files import LakeFiles, StoredFile
from lakebed.resources.locks import AdvisoryLock, build_lock, lake_copy_lock, move_lock
from lakebed.resources.patience import PATIENCE
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection
from lakebed.spec.names import (
    ColdFileName,
    cold_path,
    parse_cold_path,
    parse_lake_copy_path,
)
from lakebed.spec.steps import OnSweepStep
from lakebed.spec.table import SourceTable
from lakebed.tiering.horizon import let_readers_end, widen

Why = Literal["superseded", "orphan", "unfinished"]

_MODEL_FILE = re.compile(r"(?P<model>[a-z][a-z0-9_]*)_(?P<kind>[gf])(?P<number>\d{4,})\.parquet")
_UNFINISHED = ".tmp"


@dataclass(frozen=True)
class Swept:
    """A file that was removed, or would be. owner: its table, or its model."""

    owner: str
    path: str
    bytes: int
    why: Why


@dataclass(frozen=True)
class _Name:
    """The owner of a file, as its path says.

    lock: the lock of a writer there. burn: the statement that gives up the name, and its values
    except the last, the size.
    """

    owner: str
    path: PurePosixPath
    lock: AdvisoryLock
    burn: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class _Nameless:
    """A file that no manifest row names.

    given_up_by: the transaction that gave up its name, or None.
    """

    name: _Name
    file: StoredFile
    given_up_by: int | None

    @property
    def swept(self) -> Swept:
        """The report of its removal."""
        why: Why = "orphan" if self.given_up_by is None else "superseded"
        if self.file.path.suffix == _UNFINISHED:
            why = "unfinished"
        return Swept(self.name.owner, str(self.file.path), self.file.bytes, why)


def remove_nameless(
    connection: Connection,
    files: LakeFiles,
    tables: Sequence[SourceTable],
    grace: timedelta,
    *,
    unread: Collection[str] = (),
    models: bool = True,
    dry_run: bool = False,
    readers_may_end: float = PATIENCE.for_readers,
    on_step: OnSweepStep = lambda step: None,
) -> list[Swept]:
    """Remove the files that no manifest row names; return them.

    Files that were given up go once no reader's snapshot can name them, or readers_may_end seconds
    later. Files that were never named go when they are older than grace and no process is writing
    in their partition or model. Paths of another shape are not Lakebed's and stay.
    unread: paths of files that no reader can name. Steps: burnt, removed.
    The connection must be in autocommit mode.
    """
    nameless = _nameless(connection, files, tables, models=models)
    ((now,),) = connection.execute("select clock_timestamp()").fetchall()
    if not dry_run:
        left = [found for found in nameless if str(found.name.path) not in unread]
        _let_readers_end(connection, left, readers_may_end)
    return [
        found.swept
        for found in nameless
        if (found.given_up_by is not None or found.file.modified <= now - grace)
        and (dry_run or _remove(connection, files, found, on_step))
    ]


def destroy_nameless(
    connection: Connection,
    files: LakeFiles,
    table: SourceTable,
    readers_may_end: float,
    on_step: OnSweepStep,
) -> list[PurePosixPath]:
    """Remove unnamed files of a table, whatever their age; return those that were left.

    A file is left if a writer holds its partition longer than the wait. Steps: burnt, removed. The
    connection must be in autocommit mode.
    """
    nameless = _nameless(connection, files, [table], models=False)
    _let_readers_end(connection, nameless, readers_may_end)
    return [
        found.name.path
        for found in nameless
        if not _remove(connection, files, found, on_step, wait=True)
    ]


def _nameless(
    connection: Connection, files: LakeFiles, tables: Sequence[SourceTable], *, models: bool
) -> list[_Nameless]:
    """Return the files that are Lakebed's, and that no row vouches for, in order."""
    stored = [file for table in tables for file in files.listing(table.name)]
    known = _known_models(connection) if models else {}
    for group in {folder.parts[0] for folder in known.values()}:
        stored += files.listing(group)
    vouched, given_up = _paths(connection)  # after the listing: what it names now counts
    by_name = {table.name: table for table in tables}
    return [
        _Nameless(name, file, given_up.get(str(name.path)))
        for file in sorted(stored, key=lambda found: found.path)
        if (name := _name_of(file.path, by_name, known)) is not None
        and str(name.path) not in vouched
    ]


def _let_readers_end(connection: Connection, nameless: Sequence[_Nameless], seconds: float) -> None:
    """Wait for readers whose snapshot may name one of these files."""
    given_up = [found.given_up_by for found in nameless if found.given_up_by is not None]
    if given_up:
        let_readers_end(connection, max(given_up), seconds)


def _remove(
    connection: Connection,
    files: LakeFiles,
    found: _Nameless,
    on_step: OnSweepStep,
    *,
    wait: bool = False,
) -> bool:
    """Remove a file if no transaction can name it, now or later; return whether it was removed.

    A name that was given up can never be used, even by a writer in its partition.
    """
    if found.given_up_by is None and not _burn(connection, found.name, found.file, wait=wait):
        return False
    on_step("burnt")
    files.remove(found.file.path)
    on_step("removed")
    return True


def _burn(connection: Connection, name: _Name, file: StoredFile, *, wait: bool) -> bool:
    """Give up the name of a file; return whether it is given up now.

    wait: whether to wait briefly for a writer there, ahead of later writers.
    """
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
            )
            if wait:
                name.lock.take(connection)
            elif not name.lock.try_take(connection):
                return False
            # A writer that is about to name it holds the unique key: this waits for the lock, then
            # gives up.
            connection.execute(name.burn.encode(), [*name.values, file.bytes])
            vouched = connection.execute(_IS_VOUCHED, [str(name.path)]).fetchall()
            return not vouched[0][0]
    except psycopg.errors.LockNotAvailable:
        return False


_NAMED = (
    "with named as (select path, removed_at, xmin from lakebed.cold_file union all"
    " select path, removed_at, xmin from lakebed.lake_copy union all"
    " select path, removed_at, xmin from lakebed.model_version where path is not null"
    " union all select path, removed_at, xmin from lakebed.model_file)"
)
_IS_VOUCHED = sql.SQL(_NAMED) + sql.SQL(
    " select exists (select from named where path = %s and removed_at is null)"
)
_ARE_VOUCHED = sql.SQL(_NAMED) + sql.SQL(" select path, removed_at is null, xmin::text from named")


def _paths(connection: Connection) -> tuple[set[str], dict[str, int]]:
    """Return the paths that some row vouches for, and by whom the other ones were given up."""
    rows = connection.execute(_ARE_VOUCHED).fetchall()
    ((newest,),) = connection.execute(
        "select pg_snapshot_xmax(pg_current_snapshot())::text"
    ).fetchall()
    vouched = {path for path, there, _ in rows if there}
    given_up = {path: widen(int(xid), int(newest)) for path, there, xid in rows if not there}
    return vouched, given_up


def _known_models(connection: Connection) -> dict[str, PurePosixPath]:
    """Return the folder of each model that was ever published as files."""
    rows = connection.execute(
        "select model, path from lakebed.model_version where path is not null"
        " union select model, path from lakebed.model_file"
    ).fetchall()
    return {model: PurePosixPath(path).parent for model, path in rows}


def _name_of(
    path: PurePosixPath,
    tables: dict[str, SourceTable],
    models: dict[str, PurePosixPath],
) -> _Name | None:
    final = path.with_suffix("") if path.suffix == _UNFINISHED else path
    table = tables.get(final.parts[0])
    if table is None:
        return _model_name(final, models)
    return _lake_copy_name(final) or (_cold_name(final, table) if table.partitioning else None)


def _cold_name(path: PurePosixPath, table: SourceTable) -> _Name | None:
    try:
        name = parse_cold_path(path, table.require_partitioning.grain)
    except ValueError:
        return None
    # Lakebed did not write a path of another shape, whatever its last part.
    if name.table != table.name or path not in _shapes(name):
        return None
    window = name.window
    return _Name(
        table.name,
        path,
        move_lock(table.name, window),
        (
            "insert into lakebed.cold_file (table_name, partition_key, generation, path,"
            " lower_bound, upper_bound, rows, sha256, fingerprint, columns, superseded_at,"
            " removed_at, bytes) values (%s, %s, %s, %s, %s, %s, 0, '', '{}', '[]',"
            " clock_timestamp(), clock_timestamp(), %s) on conflict do nothing"
        ),
        (table.name, window.key, name.generation, str(path), window.lower, window.upper),
    )


def _lake_copy_name(path: PurePosixPath) -> _Name | None:
    try:
        table, number = parse_lake_copy_path(path)
    except ValueError:
        return None
    return _Name(
        table,
        path,
        lake_copy_lock(table),
        (
            "insert into lakebed.lake_copy (table_name, generation, path, rows, sha256,"
            " fingerprint, columns, ledger, superseded_at, expired_at, removed_at, bytes) values"
            " (%s, %s, %s, 0, '', '{}', '[]', '', clock_timestamp(), clock_timestamp(),"
            " clock_timestamp(), %s) on conflict do nothing"
        ),
        (table, number, str(path)),
    )


def _shapes(name: ColdFileName) -> tuple[PurePosixPath, PurePosixPath]:
    return cold_path(name), cold_path(name, ("year", "month", "day", "hour"))


def _model_name(path: PurePosixPath, models: dict[str, PurePosixPath]) -> _Name | None:
    found = _MODEL_FILE.fullmatch(path.name)
    if found is None or models.get(found["model"]) != path.parent:
        return None
    model, number = found["model"], int(found["number"])
    burn = _BURN_GENERATION if found["kind"] == "g" else _BURN_FILE
    return _Name(model, path, build_lock(model), burn, (model, number, str(path)))


_BURN_GENERATION = (
    "insert into lakebed.model_version (model, generation, materialized, sql, code_version, path,"
    " rows, superseded_at, removed_at, bytes) values (%s, %s, 'table', '', '', %s, 0,"
    " clock_timestamp(), clock_timestamp(), %s) on conflict do nothing"
)
_BURN_FILE = (
    "insert into lakebed.model_file (model, number, path, rows, columns, superseded_at, removed_at,"
    " bytes) values (%s, %s, %s, 0, '[]', clock_timestamp(), clock_timestamp(), %s)"
    " on conflict do nothing"
)
