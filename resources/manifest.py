"""The manifest in a reader's own snapshot: which cold files are live, and which a query needs.

It is a temporary table of the session's DuckDB, filtered there. Its files reach `read_parquet`
through variables, so that ten thousand files cost Python nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
from psycopg import sql

from lakebed.resources.hot_columns import Hot
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.layouts import Layout, ask
from lakebed.resources.pruning import Bounds
from lakebed.resources.tiers import ColdPart, LakeTable, listed, masked_keys, masked_keys_query

_TABLE = sql.Identifier("temp", "lakebed_manifest")
_LIVE_FILES = (
    "select table_name, path, rows, bytes, lower_bound, upper_bound,"
    " coalesce(time_min, lower_bound) as time_min, coalesce(time_max, upper_bound) as time_max,"
    " layout from lakebed.cold_file where superseded_at is null and table_name = any({names})"
)
_LAYOUTS = (
    "select table_name, layout, (select columns::text from lakebed.cold_file c where"
    " c.table_name = l.table_name and c.layout = l.layout and c.superseded_at is null limit 1)"
    " as columns from (select distinct table_name, layout from lakebed.cold_file"
    " where superseded_at is null and table_name = any({names})) l"
)


@dataclass(frozen=True)
class Counted:
    """How many files, and how many rows and bytes are in them."""

    files: int
    rows: int
    bytes: int


class Manifest:
    """The live files of all tables, as of one snapshot; see `take_manifest`."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, layouts: dict[str, dict[str, Layout]]
    ) -> None:
        """Represent the temporary table."""
        self._connection = connection
        self._layouts = layouts

    @property
    def tables(self) -> Set[str]:
        """The names of the tables that have any live file."""
        return self._layouts.keys()

    def find_masked(self, table: LakeTable, hot: Hot | None) -> bool:
        """Find the files with hidden rows, and keep the keys of these rows.

        A query then scans hot once. hot: its columns in PostgreSQL, None if the table does not
        exist. Returns False if it does not exist and its types are needed.
        """
        stretches = self._stretches(table, hot is not None)
        late = [(lower, upper) for lower, upper, is_late, _ in stretches if is_late]
        deleted = [(lower, upper) for lower, upper, _, is_deleted in stretches if is_deleted]
        if hot is None or not stretches:
            return not deleted
        numeric = [name for name in table.key if name in hot and hot[name].is_numeric]
        keys = sql.SQL("create temp table {} as {}").format(
            masked_keys(table), masked_keys_query(table, late, deleted, numeric)
        )
        self._connection.execute(keys.as_string())
        self._do(
            "update {manifest} set masked = true where table_name = {name} and lower_bound in"
            " (select w.lower_bound from {keys} k asof join"
            " (from {manifest} where table_name = {name}) w on k.{time} >= w.lower_bound"
            " where k.{time} < w.upper_bound)",
            name=sql.Literal(table.name),
            keys=masked_keys(table),
            time=sql.Identifier(table.time or ""),
        )
        return True

    def keep(self, table: str, bounds: Bounds) -> None:
        """Note that from here on the files within some bounds stay readable."""
        self._do(
            "update {manifest} set kept = true where {chosen} and not kept",
            chosen=_within(table, bounds),
        )

    def kept(self, table: str) -> list[ColdPart]:
        """Return the parts of what was kept. Their variables hold one file each until `fill`."""
        return self._parts(table, _kept(table))

    def within(self, table: str, bounds: Bounds) -> list[ColdPart]:
        """Return the parts of what some bounds touch, in the same way."""
        return self._parts(table, _within(table, bounds))

    def fill(self, parts: Sequence[ColdPart]) -> None:
        """Put all files of these parts into their variables.

        Not before their views are defined, so that defining them looks at one file alone.
        """
        for part in parts:
            self._do(
                "set variable {variable} = (select list(address order by lower_bound)"
                " from {manifest} where {chosen})",
                variable=sql.Identifier(part.variable),
                chosen=part.chosen,
            )

    def addresses(self, part: ColdPart) -> list[str]:
        """Return what DuckDB opens of a part, in the order of time."""
        return self._column("address", part)

    def paths(self, part: ColdPart) -> list[str]:
        """Return the paths of a part's files in the lake, in the order of time."""
        return self._column("path", part)

    def count(self, table: str, bounds: Bounds) -> Counted:
        """Count what some bounds touch."""
        found = self._do(
            "select count(*), coalesce(sum(rows), 0), coalesce(sum(bytes), 0)"
            " from {manifest} where {chosen}",
            chosen=_within(table, bounds),
        )
        return Counted(*map(int, found[0]))

    def _column(self, name: str, part: ColdPart) -> list[str]:
        query = "select {name} from {manifest} where {chosen} order by lower_bound"
        found = self._do(query, name=sql.Identifier(name), chosen=part.chosen)
        return [value for (value,) in found]

    def _parts(self, table: str, chosen: sql.Composable) -> list[ColdPart]:
        found = self._do(
            "select layout, masked, list(address order by lower_bound)[:1] from {manifest}"
            " where {chosen} group by all order by min(lower_bound)",
            chosen=chosen,
        )
        parts = []
        for number, (digest, masked, first) in enumerate(found):
            part = ColdPart(
                self._layouts[table][digest],
                masked,
                f"lakebed_{table}_{number}",
                sql.SQL("{} and layout = {} and masked = {}").format(chosen, digest, masked),
            )
            self._do(
                "set variable {variable} = {first}",
                variable=sql.Identifier(part.variable),
                first=listed(first),
            )
            parts.append(part)
        return parts

    def _stretches(
        self, table: LakeTable, hot: bool
    ) -> list[tuple[datetime, datetime, bool, bool]]:
        """Return the cold windows with rows or deletes that are not compacted yet.

        Adjacent windows are merged. With each, whether late rows are there, or deletes.
        """
        late: sql.Composable = sql.SQL("false")
        if hot:
            late = sql.SQL(
                "exists (select from {table} h where h.{time} >= lower(w) and h.{time} < upper(w))"
            ).format(
                table=sql.Identifier(table.schema, table.name),
                time=sql.Identifier(table.time or ""),
            )
        query = sql.SQL(
            "select * from (select lower(w) as lower, upper(w) as upper, {late} as late,"
            " exists (select from lakebed.cold_delete d where d.table_name = {name}"
            " and d.moment >= lower(w) and d.moment < upper(w)) as deleted from (select"
            " unnest(range_agg(tstzrange(lower_bound, upper_bound))) as w from lakebed.cold_file"
            " where table_name = {name} and superseded_at is null) cold) stretches"
            " where late or deleted"
        ).format(name=sql.Literal(table.name), late=late)
        return ask(self._connection, query)

    def _do(self, statement: str, **parts: sql.Composable) -> list[tuple[Any, ...]]:
        text = sql.SQL(statement).format(manifest=_TABLE, **parts).as_string()
        return self._connection.execute(text).fetchall()


def take_manifest(
    connection: duckdb.DuckDBPyConnection, files: LakeFiles, names: Collection[str]
) -> Manifest:
    """Take the live files of these tables, in the connection's transaction."""
    if not names:
        return Manifest(connection, {})
    query = sql.SQL(
        "create temp table lakebed_manifest as select *, {prefix} || path as address,"
        " false as masked, false as kept from postgres_query('pg', {query})"
    ).format(
        prefix=sql.Literal(files.address("-").removesuffix("-")),
        query=sql.Literal(_of(names, _LIVE_FILES).as_string()),
    )
    connection.execute(query.as_string())
    layouts: dict[str, dict[str, Layout]] = {}
    for table, digest, columns in ask(connection, _of(names, _LAYOUTS)):
        layout = frozenset((column["name"], column["type"]) for column in json.loads(columns))
        layouts.setdefault(table, {})[digest] = layout
    return Manifest(connection, layouts)


def _kept(table: str) -> sql.Composable:
    return sql.SQL("table_name = {} and kept").format(sql.Literal(table))


def _within(table: str, bounds: Bounds) -> sql.Composable:
    parts = [sql.SQL("table_name = {}").format(sql.Literal(table))]
    if bounds.last is not None:
        parts.append(sql.SQL("time_min <= {}::timestamptz").format(bounds.last.isoformat()))
    if bounds.first is not None:
        parts.append(sql.SQL("time_max >= {}::timestamptz").format(bounds.first.isoformat()))
    return sql.SQL(" and ").join(parts)


def _of(names: Collection[str], query: str) -> sql.Composed:
    """Return the query with the names of its tables."""
    listed = sql.SQL(", ").join(map(sql.Literal, names))
    return sql.SQL(query).format(names=sql.SQL("array[{}]::text[]").format(listed))
