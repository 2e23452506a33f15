"""Sweeping the lake: what nobody may read any more is given up in the database, then removed.

    superseded     by a newer generation; after a grace period, and when no snapshot can name it;
                   spared as long as a backup or a load that can be undone names it
    expired        a snapshot of a table that is not among the last it keeps; in the same way
    orphan         a file that was never named: its writer died before the commit
    unfinished     a file of a writer that died while it wrote

A name is given up by a row that says so, before its file is removed, and it is never used again:
whoever still wanted to name the file cannot, and whoever wakes up late removes nothing of others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

import psycopg
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.keys import (
    ColdFileName,
    cold_path,
    move_lock,
    parse_cold_path,
    parse_snapshot_path,
    snapshot_lock,
)
from platform_assets.tiering.horizon import Horizon, read_horizon, widen
from resources.lake_files import LakeFiles, StoredFile
from resources.postgres import LOCK_TIMEOUT, Connection

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
class Spared:
    """A superseded file that stays for now, and why."""

    owner: str
    path: str
    bytes: int
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


@dataclass(frozen=True)
class _Name:
    """What the path of a file says: whose it is.

    lock: of whoever writes there.  burn: the statement that makes the name one that is given up,
    and its values but for the last, the size.
    """

    owner: str
    path: PurePosixPath
    lock: str
    burn: str
    values: tuple[Any, ...]


def judge(
    rows: Iterable[_Superseded], horizon: Horizon, now: datetime, grace: timedelta
) -> tuple[list[_Superseded], list[Spared]]:
    """Say which superseded files may go, and why others may not. Pure."""
    going, spared = [], []
    for row in rows:
        why = _why_not(row, horizon, now, grace)
        if why is None:
            going.append(row)
        else:
            spared.append(Spared(row.owner, row.path, row.bytes, why))
    return going, spared


def _why_not(row: _Superseded, horizon: Horizon, now: datetime, grace: timedelta) -> str | None:
    if row.pinned:
        return "a backup, or a load that can be undone, names it"
    if row.since + grace > now:
        return f"superseded at {row.since:%Y-%m-%d %H:%M} UTC, kept for {grace}"
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
    "snapshot_file": """
select table_name, path, bytes, expired_at, s.xmin::text, false
from lakebed.snapshot_file s
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
) -> tuple[list[Swept], list[Spared]]:
    """Give up superseded files in one transaction; return them, and those that stay.

    table: of it alone; None for all tables and models. The files are there until `remove_nameless`.
    The connection must be in autocommit mode.
    """
    given_up: list[Swept] = []
    spared: list[Spared] = []
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
            # After the rows: whoever does not see that they were superseded is among the holders.
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


def remove_nameless(
    connection: Connection,
    files: LakeFiles,
    tables: Sequence[SourceTable],
    grace: timedelta,
    *,
    models: bool = True,
    dry_run: bool = False,
    on_step: Callable[[str], None] = lambda step: None,
) -> list[Swept]:
    """Remove the files that no row vouches for; return them.

    Those that were given up go at once, those that were never named when they are older than grace.
    A partition or a model that somebody writes just now is left alone. Files whose paths are of
    another kind are not Lakebed's and stay. Steps: burnt, removed.
    The connection must be in autocommit mode.
    """
    stored = [file for table in tables for file in files.listing(table.name)]
    known = _known_models(connection) if models else {}
    for group in {folder.parts[0] for folder in known.values()}:
        stored += files.listing(group)
    vouched, given_up = _paths(connection)
    ((now,),) = connection.execute("select clock_timestamp()").fetchall()
    by_name = {table.name: table for table in tables}
    removed = []
    for file in sorted(stored, key=lambda found: found.path):
        name = _name_of(file.path, by_name, known)
        if name is None or str(file.path) in vouched:
            continue
        if str(file.path) not in given_up and file.modified > now - grace:
            continue
        if dry_run or _burn(connection, name, file):
            if not dry_run:
                on_step("burnt")
                files.remove(file.path)
                on_step("removed")
            removed.append(_swept(name, file, given_up))
    return removed


def _swept(name: _Name, file: StoredFile, given_up: set[str]) -> Swept:
    why: Why = "unfinished" if file.path.suffix == _UNFINISHED else "orphan"
    return Swept(
        name.owner, str(file.path), file.bytes, "superseded" if str(file.path) in given_up else why
    )


def _burn(connection: Connection, name: _Name, file: StoredFile) -> bool:
    """See to it that nobody can name the file any more; say whether that is so now."""
    try:
        with connection.transaction():
            connection.execute(
                sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
            )
            free = connection.execute(
                "select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [name.lock]
            ).fetchall()
            if not free[0][0]:
                return False
            # Who is about to name it holds the unique key: this waits for the lock, and gives up.
            connection.execute(name.burn.encode(), [*name.values, file.bytes])
            vouched = connection.execute(_IS_VOUCHED, [str(file.path)]).fetchall()
            return not vouched[0][0]
    except psycopg.errors.LockNotAvailable:
        return False


_NAMED = (
    "with named as (select path, removed_at from lakebed.cold_file union all"
    " select path, removed_at from lakebed.snapshot_file union all"
    " select path, removed_at from lakebed.model_version where path is not null"
    " union all select path, removed_at from lakebed.model_file)"
)
_IS_VOUCHED = sql.SQL(_NAMED) + sql.SQL(
    " select exists (select from named where path = %s and removed_at is null)"
)
_ARE_VOUCHED = sql.SQL(_NAMED) + sql.SQL(" select path, removed_at is null from named")


def _paths(connection: Connection) -> tuple[set[str], set[str]]:
    """Return the paths that some row vouches for, and those that were given up."""
    rows = connection.execute(_ARE_VOUCHED).fetchall()
    return {path for path, there in rows if there}, {path for path, there in rows if not there}


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
    return _snapshot_name(final) or (_cold_name(final, table) if table.partitioning else None)


def _cold_name(path: PurePosixPath, table: SourceTable) -> _Name | None:
    try:
        name = parse_cold_path(path, table.partitioned.grain)
    except ValueError:
        return None
    # A path of another shape was not made here, whatever its last part is called.
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


def _snapshot_name(path: PurePosixPath) -> _Name | None:
    try:
        table, number = parse_snapshot_path(path)
    except ValueError:
        return None
    return _Name(
        table,
        path,
        snapshot_lock(table),
        (
            "insert into lakebed.snapshot_file (table_name, generation, path, rows, sha256,"
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
    return _Name(model, path, f"lakebed.build:{model}", burn, (model, number, str(path)))


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
