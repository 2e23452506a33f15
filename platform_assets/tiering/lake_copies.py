"""Lake copies: an unpartitioned table, written whole to one file of the lake after each load.

    one REPEATABLE READ transaction of PostgreSQL, DuckDB in front
    lock       the table's lake copies, against a second writer
    count      fingerprint of the rows, by PostgreSQL
    copy       the rows to a file, in the order of their key
    verify     fingerprint of the re-read file, by DuckDB, against what was counted
    rename     the file to its final name, made durable
    record     the previous copy superseded, those beyond the last few expired
    commit     the only moment at which anything becomes visible

A lake copy records which loads of the ledger it saw. It is due when the ledger has changed since:
if a load dies before its copy, the next load writes the copy, even with no rows of its own. Loads
of other tables count where they insert missing parents (`Lookup`).

Of two writers, one holds the lock and the other retries once it is free. A writer that gets the
lock with a PostgreSQL snapshot from before the other's commit fails at the superseded row.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from psycopg import sql

from lakebed.errors import BusyError
from lakebed.resources.layouts import rewritten_since
from lakebed.resources.locks import lake_copy_lock
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import relation_exists
from lakebed.spec.names import lake_copy_path
from lakebed.spec.steps import OnLakeCopyStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint
from lakebed.store.platform import Platform
from lakebed.tiering.transaction import HotTable, in_transaction
from lakebed.tiering.verified_file import Form, new_file, publish, stored_columns, write_verified

PAUSE = 0.2


class LakeCopyBusyError(BusyError):
    """Another process writes a lake copy of the table, or alters it."""


@dataclass(frozen=True)
class LakeCopy:
    """A lake copy that was written. path: relative to the lake."""

    table: str
    generation: int
    path: str
    rows: int
    bytes: int
    seconds: float = 0.0


@dataclass
class WholeTable(HotTable):
    """A table that is not partitioned, locked and in a transaction."""

    unchanged = "its last lake copy stays"
    again = "Run `lakebed load` again"

    @property
    def relation(self) -> sql.Composable:
        """The table, as PostgreSQL knows it."""
        return self.hot

    def lock(self) -> None:
        """Lock the table's lake copies and the table's definition. Raises LakeCopyBusyError."""
        if not self.try_lock(lake_copy_lock(self.table.name)):
            raise LakeCopyBusyError(f"{self}: another process writes a lake copy of it")
        if rewritten_since(self.connection, [(self.table.schema, self.table.name)]):
            raise LakeCopyBusyError(f"{self}: another session rewrites it (ALTER TABLE, TRUNCATE)")


def write_due_copies(
    platform: Platform,
    table: SourceTable,
    *,
    changed: bool = False,
    on_step: OnLakeCopyStep = lambda step: None,
) -> list[LakeCopy]:
    """Write the lake copies that are due after a load of a table: its own, and its parents'.

    changed: its own is due whatever the ledger says, as after a restore from a backup. Steps: see
    `write_lake_copy`. Raises TieringError, PostgresUnavailableError.
    """
    parents = {lookup.table for lookup in table.lookups if lookup.insert_missing}
    chosen = [table, *(other for other in platform.tables if other.name in parents)]
    taken = []
    for one in chosen:
        always = changed and one is table
        if one.kept_lake_copies and (always or is_due(platform, one)):
            snapshot = write_lake_copy(platform, one, only_if_due=not always, on_step=on_step)
            taken += [snapshot] if snapshot else []
    return taken


def is_due(platform: Platform, table: SourceTable) -> bool:
    """Whether a load or a rollback is newer than the live lake copy, or no copy holds the rows."""
    with platform.postgres.connect() as connection:
        live = connection.execute(
            "select ledger from lakebed.lake_copy where table_name = %s and superseded_at is null",
            [table.name],
        ).fetchall()
        if live:
            ((now, _),) = connection.execute(_ledger(platform, table)).fetchall()
            return bool(live[0][0] != now)
        return relation_exists(connection, table) and _has_rows(connection, table)


def write_lake_copy(
    platform: Platform,
    table: SourceTable,
    *,
    only_if_due: bool = False,
    erasure: int | None = None,
    on_step: OnLakeCopyStep = lambda step: None,
) -> LakeCopy | None:
    """Write the whole table to the lake. None if only_if_due and another process was faster.

    erasure: the number of an erasure, after which no older lake copy is kept.
    Steps: locked, counted, copied, verified, renamed, recorded, committed.
    Raises LakeCopyBusyError, VerificationError, TieringError. Nothing is changed in these cases.
    """
    until = time.monotonic() + platform.settings.patience.for_lake_copy
    while True:
        try:
            taken, seconds = in_transaction(
                platform.lake,
                table.name,
                partial(WholeTable, files=platform.lake.files, table=table),
                lambda whole: _take(whole, _ledger(platform, table), erasure, on_step),
                contended=f"other writers were faster in each attempt; {WholeTable.unchanged}",
                on_step=on_step,
                attempts=platform.settings.patience.attempts,
            )
        except LakeCopyBusyError:
            if time.monotonic() > until:
                raise
        else:
            return replace(taken, seconds=seconds)
        time.sleep(PAUSE)
        if only_if_due and not is_due(platform, table):
            return None


def forget_older(
    platform: Platform, table: SourceTable, erasure: int, on_step: OnLakeCopyStep
) -> None:
    """Give up all lake copies from before an erasure; write a new one if the table keeps any.

    Raises TieringError.
    """
    if table.kept_lake_copies:
        write_lake_copy(platform, table, erasure=erasure, on_step=on_step)
        return
    with platform.postgres.connect() as connection:
        connection.execute(_expire(table, 0))
        for statement in _give_up(table, erasure):
            connection.execute(statement)


def expire_lake_copies(connection: Connection, table: SourceTable) -> None:
    """Expire what the table keeps no more, since its file says another number."""
    connection.execute(_expire(table, table.kept_lake_copies))


def _take(
    whole: WholeTable, ledger: sql.Composable, erasure: int | None, on_step: OnLakeCopyStep
) -> LakeCopy:
    """Take all steps between the lock and the commit."""
    table = whole.table
    expected = whole.fingerprint_of_hot()
    on_step("counted")
    rows = sql.SQL("select {} from {}").format(stored_columns(whole), whole.hot_in_duckdb)
    last = sql.SQL(
        "select coalesce(max(generation), 0) as last from lakebed.lake_copy where table_name = {}"
    ).format(table.name)
    with new_file(
        whole.files,
        lambda number: lake_copy_path(table.name, number),
        int(whole.ask(last)[0][0]) + 1,
    ) as file:
        write_verified(whole, file, rows, lambda: expected, Form(sort=table.primary_key), on_step)
        size, digest = publish(whole, file, expected, on_step)
        done = LakeCopy(table.name, file.generation, str(file.path), expected.rows, size)
        _record(whole, done, expected, digest, ledger)
        whole.do(_expire(table, table.kept_lake_copies if erasure is None else 1))
        if erasure is not None:
            for statement in _give_up(table, erasure):
                whole.do(statement)
        on_step("recorded")
    return done


def _record(
    whole: WholeTable,
    done: LakeCopy,
    fingerprint: Fingerprint,
    sha256: str,
    ledger: sql.Composable,
) -> None:
    """Name the file, live, in place of the one before it."""
    whole.do(
        sql.SQL(
            "update lakebed.lake_copy set superseded_at = clock_timestamp()"
            " where table_name = {} and superseded_at is null"
        ).format(whole.table.name)
    )
    seen, load_id = whole.ask(ledger)[0]
    columns = [{"name": c.name, "type": c.postgres} for c in whole.table.columns]
    whole.do(
        sql.SQL(
            "insert into lakebed.lake_copy (table_name, generation, path, rows, bytes, sha256,"
            " fingerprint, columns, ledger, load_id) values"
            " ({}, {}, {}, {}, {}, {}, {}::jsonb, {}::jsonb, {}, {})"
        ).format(
            done.table,
            done.generation,
            done.path,
            done.rows,
            done.bytes,
            sha256,
            json.dumps(fingerprint.to_json()),
            json.dumps(columns),
            seen,
            load_id,
        )
    )


def _expire(table: SourceTable, keep: int) -> sql.Composed:
    return sql.SQL(
        "update lakebed.lake_copy set expired_at = clock_timestamp(),"
        " superseded_at = coalesce(superseded_at, clock_timestamp())"
        " where table_name = {name} and expired_at is null and generation not in"
        " (select generation from lakebed.lake_copy where table_name = {name}"
        " and expired_at is null order by generation desc limit {keep})"
    ).format(name=sql.Literal(table.name), keep=sql.Literal(keep))


def _give_up(table: SourceTable, erasure: int) -> list[sql.Composed]:
    """Return the statement that gives up expired copies and forgets their fingerprints."""
    expired = sql.SQL("table_name = {} and expired_at is not null and removed_at is null").format(
        table.name
    )
    return [
        sql.SQL(
            "update lakebed.erasure set files = files || array(select path from"
            " lakebed.lake_copy where {} order by path) where erasure_id = {}"
        ).format(expired, sql.Literal(erasure)),
        sql.SQL(
            "update lakebed.lake_copy set removed_at = clock_timestamp(),"
            " fingerprint = '{{}}' where {}"
        ).format(expired),
    ]


def _ledger(platform: Platform, table: SourceTable) -> sql.Composed:
    """Return the query of what the loads that write the table came to, and of the last of them."""
    return sql.SQL(
        "select concat_ws(' ', count(*), count(rolled_back_at),"
        " extract(epoch from max(greatest(committed_at, rolled_back_at)))) as ledger,"
        " (array_agg(load_id order by committed_at desc) filter (where rolled_back_at is null))[1]"
        " as load_id from lakebed.load"
        " where table_name in ({}) and inserted + updated + deleted > 0"
    ).format(sql.SQL(", ").join(map(sql.Literal, _writers(platform.tables, table))))


def _writers(tables: Sequence[SourceTable], table: SourceTable) -> list[str]:
    """Return the tables whose loads write this one: itself, and tables that insert its rows."""
    writers = [
        other.name
        for other in tables
        if other.name != table.name
        and any(lookup.table == table.name and lookup.insert_missing for lookup in other.lookups)
    ]
    return [table.name, *writers]


def _has_rows(connection: Connection, table: SourceTable) -> bool:
    query = sql.SQL("select exists (select from {})").format(table.relation)
    return bool(connection.execute(query).fetchall()[0][0])
