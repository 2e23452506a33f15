"""The move: one partition from hot to cold, exactly once, as one PostgreSQL transaction.

    begin                      one REPEATABLE READ transaction, one snapshot, DuckDB in front
    lock                       the partition, against a second mover
    count                      fingerprint of the hot rows, by PostgreSQL, in the snapshot
    copy                       hot rows (in a fold also the cold rows they leave standing) to a file
    verify                     fingerprint of the re-read file, by DuckDB, against what was counted
    rename                     the file to its final name, made durable
    record, delete             manifest entry in, older generation superseded, hot rows out
    commit                     the only moment at which anything becomes visible

Killed before the commit it leaves a file that nobody names; after it, nothing to do. Rows that
others insert meanwhile are not in the snapshot: they stay hot and are folded in by the next run.
Rows that others change meanwhile make the delete fail, and the move starts again.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import polars as pl
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.keys import ColdFileName, cold_path, move_lock
from platform_assets.partitions import Window
from platform_assets.quality.ddl import COLUMNS_QUERY, differences
from platform_assets.quality.evolved import EVOLVED_QUERY, extended_by
from platform_assets.quality.postgres_types import types_of
from platform_assets.quality.schema import Column
from platform_assets.tiering.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from platform_assets.tiering.report import Moved
from resources.durable import make_durable, reserve, unfinished
from resources.lake import Lake
from resources.layouts import typed

Step = Callable[[str], None]
"""Told the name of each step when it is done: locked, counted, copied, verified, renamed, recorded,
deleted, committed."""


class MoveError(RuntimeError):
    """A move that did not happen; nothing was changed. The text says why and what to do."""


class VerificationError(MoveError):
    """The file does not hold what the snapshot held; it was thrown away."""


class MoveBusyError(MoveError):
    """Another mover works on the partition."""


@dataclass(frozen=True)
class _Generation:
    """The live generation of a partition. columns: name and PostgreSQL type of its file's."""

    number: int
    path: PurePosixPath
    fingerprint: Fingerprint
    columns: dict[str, str]


def move(
    lake: Lake,
    table: SourceTable,
    window: Window,
    *,
    on_step: Step = lambda step: None,
    attempts: int = 5,
) -> Moved:
    """Move one partition's hot rows to the lake, or fold them into its cold file.

    Raises MoveBusyError, VerificationError, or MoveError where others kept changing the rows.
    """
    started = time.monotonic()
    for attempt in range(attempts):
        try:
            with lake.attached(read_only=False) as connection:
                moved = _Mover(connection, lake.root, table, window, on_step).run()
            return replace(moved, seconds=time.monotonic() - started)
        except duckdb.Error as error:
            text = str(error)
            if "could not serialize access" not in text and "deadlock detected" not in text:
                raise MoveError(f"{table.name} {window.key}: {lake.redact(text)}") from None
            time.sleep(0.1 * 2**attempt)
    raise MoveError(
        f"{table.name} {window.key}: rows of the partition were changed during each of {attempts} "
        "attempts; nothing was moved. Move it when nobody writes there."
    )


@dataclass
class _Mover:
    """One attempt, in one transaction of one connection."""

    connection: duckdb.DuckDBPyConnection
    root: Path
    table: SourceTable
    window: Window
    on_step: Step

    def run(self) -> Moved:
        """Run all steps; roll back where one fails."""
        self.connection.execute("begin")
        try:
            moved = self._steps()
            self.connection.execute("commit")
        except BaseException:
            self._roll_back()
            raise
        self.on_step("committed")
        return moved

    def _steps(self) -> Moved:
        self._lock()
        self.on_step("locked")
        evolved = self._ask(sql.SQL(EVOLVED_QUERY).format(sql.Literal(self.table.name)))
        self.table = extended_by(self.table, evolved)
        self._check_columns()
        old, last = self._generations()
        hot = self._fingerprint_of_hot()
        self.on_step("counted")
        if hot.rows == 0:
            return Moved(self.table.name, self.window.key)
        expected, overridden = self._expected(hot, old)
        generation, file = reserve(lambda number: self.root / self._path(number), last + 1)
        name, path = self._name(generation), self._path(generation)
        try:
            found = self._write(unfinished(file), expected, old)
            self.on_step("verified")
            make_durable(unfinished(file), file, self.root)
            self.on_step("renamed")
            self._record(name, path, found, old)
            self.on_step("recorded")
            self._delete_hot()
            self._check_gone()
            self.on_step("deleted")
        except BaseException:
            # Nobody names the file: the commit was not asked for yet.
            unfinished(file).unlink(missing_ok=True)
            file.unlink(missing_ok=True)
            raise
        return Moved(
            self.table.name,
            self.window.key,
            name.generation,
            str(path),
            expected.rows,
            hot.rows,
            overridden,
            file.stat().st_size,
            fingerprint=expected,
        )

    def _lock(self) -> None:
        """Take the partition's lock for as long as the transaction lives, and no longer.

        It is bound to the transaction that will commit: a mover that lost it has lost both.
        """
        key = move_lock(self.table.name, self.window)
        query = sql.SQL("select pg_try_advisory_xact_lock(hashtextextended({}, 0)) as ok").format(
            key
        )
        if not self._ask(query)[0][0]:
            raise MoveBusyError(
                f"{self.table.name} {self.window.key}: another mover is at work on it; "
                "wait for it to end"
            )

    def _generations(self) -> tuple[_Generation | None, int]:
        """Return the live generation, if there is one, and the last number that was given out."""
        query = sql.SQL(
            "select generation, path, fingerprint::text, columns::text, superseded_at is null as"
            " live"
            " from lakebed.cold_file where table_name = {} and partition_key = {}"
            " order by generation"
        ).format(self.table.name, self.window.key)
        rows = self._ask(query)
        live = [
            _Generation(
                number,
                PurePosixPath(path),
                Fingerprint.from_json(json.loads(text)),
                {column["name"]: column["type"] for column in json.loads(columns)},
            )
            for number, path, text, columns, live in rows
            if live
        ]
        return (live[0] if live else None), max((row[0] for row in rows), default=0)

    def _name(self, generation: int) -> ColdFileName:
        return ColdFileName(self.table.name, self.window, generation)

    def _path(self, generation: int) -> PurePosixPath:
        return cold_path(self._name(generation), self.table.column_names)

    def _fingerprint_of_hot(self) -> Fingerprint:
        relation = sql.SQL("{} where {}").format(
            sql.Identifier("public", self.table.name), self._in_window()
        )
        query = fingerprint_query(self.table.columns, relation, "postgres")
        return read_fingerprint(self.table.columns, self._ask(query)[0])

    def _expected(self, hot: Fingerprint, old: _Generation | None) -> tuple[Fingerprint, int]:
        """Return what the new file must come to, and how many cold rows hot ones override."""
        if old is None:
            return hot, 0
        before = self._fingerprint(self._parquet(old.path), self._columns_of(old))
        damage = before.differences(old.fingerprint)
        if damage:
            raise VerificationError(
                f"{self.root / old.path} is not what the manifest says: {'; '.join(damage)}. "
                "Bring the file back from a backup before anything is folded into it."
            )
        kept = self._fingerprint(sql.SQL("({}) c").format(self._kept(old)))
        return hot + kept, before.rows - kept.rows

    def _write(self, file: Path, expected: Fingerprint, old: _Generation | None) -> dict[str, Any]:
        """Copy and verify; write a table with floats that fails once more, without dictionaries.

        The dictionaries of DuckDB's Parquet take -0.0 for the 0.0 before it.
        """
        self._copy(file, old)
        self.on_step("copied")
        try:
            return self._verify(file, expected)
        except VerificationError:
            if not any(_holds_floats(column.polars) for column in self.table.columns):
                raise
        self._copy(file, old, dictionaries=False)
        return self._verify(file, expected)

    def _copy(self, file: Path, old: _Generation | None, *, dictionaries: bool = True) -> None:
        columns = sql.SQL(", ").join(sql.Identifier(name) for name in self.table.column_names)
        stored = sql.SQL(", ").join(
            sql.SQL("{} as {}").format(
                sql.SQL(column.types.stored).format(
                    sql.SQL("cast({} as {})").format(
                        sql.Identifier(column.name), sql.SQL(column.duckdb)
                    )
                ),
                sql.Identifier(column.name),
            )
            for column in self.table.columns
        )
        rows = sql.SQL("select {} from {} where {}").format(stored, self._hot(), self._in_window())
        if old is not None:
            rows = sql.SQL("{} union all select {} from ({})").format(
                rows, columns, self._kept(old)
            )
        tiering = self.table.settles
        sort = tiering.sort or (self.table.partitioned.column,)
        described = {c.name: c.description for c in self.table.columns if c.description}
        copy = sql.SQL(
            "copy (select * from ({rows}) order by {sort}) to {file} (format parquet,"
            " use_tmp_file false, compression {compression}, row_group_size {group}{encoding},"
            " kv_metadata {{ lakebed_table: {table}, lakebed_partition: {key},"
            " lakebed_columns: {columns}}})"
        ).format(
            rows=rows,
            sort=sql.SQL(", ").join(sql.Identifier(name) for name in sort),
            file=sql.Literal(str(file)),
            compression=sql.Literal(tiering.compression),
            group=sql.Literal(tiering.row_group_rows),
            encoding=sql.SQL("" if dictionaries else ", dictionary_size_limit 0"),
            table=sql.Literal(self.table.name),
            key=sql.Literal(self.window.key),
            columns=sql.Literal(json.dumps(described, ensure_ascii=False)),
        )
        self.connection.execute(copy.as_string())

    def _verify(self, file: Path, expected: Fingerprint) -> dict[str, Any]:
        """Re-read the file and hold it against what the snapshot held; say when its rows were."""
        relation = sql.SQL("read_parquet([{}], hive_partitioning = false)").format(
            sql.Literal(str(file))
        )
        wrong = self._fingerprint(relation).differences(expected)
        if wrong:
            raise VerificationError(
                f"{self.table.name} {self.window.key}: the file does not hold what PostgreSQL "
                f"held ({'; '.join(wrong)}); nothing was moved. Run `lakebed move` again; if it "
                "fails alike, the rows hold values that Parquet cannot carry."
            )
        moment = sql.Identifier(self.table.partitioned.column)
        query = sql.SQL("select min({0}), max({0}) from {1}").format(moment, relation)
        first, last = self.connection.execute(query.as_string()).fetchall()[0]
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return {
            "fingerprint": expected,
            "first": first,
            "last": last,
            "bytes": file.stat().st_size,
            "sha256": digest,
        }

    def _record(
        self,
        name: ColdFileName,
        path: PurePosixPath,
        found: dict[str, Any],
        old: _Generation | None,
    ) -> None:
        if old is not None:
            self._do(
                sql.SQL(
                    "update lakebed.cold_file set superseded_at = clock_timestamp() where"
                    " table_name = {} and partition_key = {} and generation = {}"
                    " and superseded_at is null"
                ).format(self.table.name, self.window.key, old.number)
            )
        columns = [{"name": c.name, "type": c.postgres} for c in self.table.columns]
        self._do(
            sql.SQL(
                "insert into lakebed.cold_file (table_name, partition_key, generation, path, rows,"
                " bytes, sha256, lower_bound, upper_bound, time_min, time_max, fingerprint,"
                " columns)"
                " values ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}::jsonb, {}::jsonb)"
            ).format(
                name.table,
                name.window.key,
                name.generation,
                str(path),
                found["fingerprint"].rows,
                found["bytes"],
                found["sha256"],
                name.window.lower.isoformat(),
                name.window.upper.isoformat(),
                found["first"].isoformat(),
                found["last"].isoformat(),
                json.dumps(found["fingerprint"].to_json()),
                json.dumps(columns),
            )
        )

    def _delete_hot(self) -> None:
        """Delete the rows that the snapshot shows: those that were copied, and no other."""
        self._do(
            sql.SQL("delete from {} where {}").format(
                sql.Identifier("public", self.table.name), self._in_window()
            )
        )

    def _check_columns(self) -> None:
        """Make sure that the file would hold all that the table holds, as it holds it."""
        rows = self._ask(sql.SQL(COLUMNS_QUERY).format(sql.Literal(self.table.name)))
        known = set(self.table.column_names)
        wrong = differences(self.table, rows)
        wrong += [f"column {name} is not in the contract" for name, *_ in rows if name not in known]
        if wrong:
            raise MoveError(
                f"{self.table.name} {self.window.key}: the table differs from its contract: "
                f"{'; '.join(wrong)}. Nothing was moved; `lakebed plan {self.table.name}` shows "
                "what mends it"
            )

    def _check_gone(self) -> None:
        """Make sure that the rows are gone: a trigger or a policy may have kept some."""
        query = sql.SQL("select count(*) as remaining from {} where {}").format(
            sql.Identifier("public", self.table.name), self._in_window()
        )
        left = self._ask(query)[0][0]
        if left:
            raise MoveError(
                f"{self.table.name} {self.window.key}: {left} rows were not deleted, by a trigger "
                "or a policy of the table; nothing was moved"
            )

    def _kept(self, old: _Generation) -> sql.Composable:
        """Return the query of the cold rows that no hot row overrides by key, in today's types."""
        columns = sql.SQL(", ").join(
            sql.Identifier(column.name)
            if old.columns.get(column.name) == column.postgres
            else typed([(column.name, column.in_file)], old.columns)
            for column in self.table.columns
        )
        rows = sql.SQL("from (select {} from {})").format(columns, self._parquet(old.path))
        if not self.table.key:
            return rows
        key = sql.SQL(", ").join(sql.Identifier(name) for name in self.table.key)
        hot = sql.SQL(", ").join(
            sql.SQL("cast({0} as {1}) as {0}").format(
                sql.Identifier(name), sql.SQL(self.table.column(name).duckdb)
            )
            for name in self.table.key
        )
        return sql.SQL("{} anti join (select {} from {} where {}) using ({})").format(
            rows, hot, self._hot(), self._in_window(), key
        )

    def _columns_of(self, old: _Generation) -> list[Column]:
        """Return the columns of an older file, with the types that they have there."""
        lost = sorted(old.columns.keys() - set(self.table.column_names))
        if lost:
            raise MoveError(
                f"{self.table.name} {self.window.key}: the cold file has a column {lost[0]} that "
                "the contract has not, and a fold would lose it; nothing was moved. Declare it in "
                "the model, nullable"
            )
        columns = [column for column in self.table.columns if column.name in old.columns]
        return [self._as_it_was(column, old.columns[column.name]) for column in columns]

    def _as_it_was(self, column: Column, postgres: str) -> Column:
        if column.postgres == postgres:
            return column
        types = types_of(postgres)
        if types is None:
            raise MoveError(
                f"{self.table.name} {self.window.key}: column {column.name} is {postgres} in the "
                f"cold file and {column.postgres} now; nothing was moved. Declare it as it was"
            )
        return replace(column, types=types)

    def _fingerprint(
        self, relation: sql.Composable, columns: Sequence[Column] | None = None
    ) -> Fingerprint:
        """Return the fingerprint of a relation of DuckDB; columns: the table's, unless given."""
        columns = self.table.columns if columns is None else columns
        query = fingerprint_query(columns, relation, "duckdb")
        return read_fingerprint(columns, self.connection.execute(query.as_string()).fetchall()[0])

    def _in_window(self) -> sql.Composable:
        return sql.SQL("{time} >= {lower}::timestamptz and {time} < {upper}::timestamptz").format(
            time=sql.Identifier(self.table.partitioned.column),
            lower=sql.Literal(self.window.lower.isoformat()),
            upper=sql.Literal(self.window.upper.isoformat()),
        )

    def _hot(self) -> sql.Composable:
        return sql.Identifier("pg", "public", self.table.name)

    def _parquet(self, path: PurePosixPath) -> sql.Composable:
        return sql.SQL("read_parquet([{}], hive_partitioning = false)").format(
            sql.Literal(str(self.root / path))
        )

    def _ask(self, query: sql.Composable) -> list[tuple[Any, ...]]:
        return self.connection.execute(
            "from postgres_query('pg', $query)", {"query": query.as_string()}
        ).fetchall()

    def _do(self, statement: sql.Composable) -> None:
        self.connection.execute(
            "call postgres_execute('pg', $statement)", {"statement": statement.as_string()}
        )

    def _roll_back(self) -> None:
        try:
            self.connection.execute("rollback")
        except duckdb.Error:
            # The transaction died with its connection; the first error is the one to show.
            return


def _holds_floats(dtype: pl.DataType) -> bool:
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return inner.is_float()
