"""A table in two tiers: what is known of it, and the query that gives each of its rows once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from resources.lake_files import LakeFiles
from resources.layouts import Layout, names_of, typed
from resources.tombstones import asked, deleted_keys


@dataclass(frozen=True)
class LakeTable:
    """What reading needs to know of a table.

    columns: name and DuckDB type, in order; a session adds those that evolved.  time: the column
    that partitions it, if it is partitioned.  key: the columns by which a hot row overrides a cold
    one; empty for none.  as_text: columns that PostgreSQL must turn into text, as DuckDB would
    damage them.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    time: str | None = None
    key: tuple[str, ...] = ()
    schema: str = "public"
    as_text: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ColdFile:
    """A live file of the cold tier: its partition, its place, the times of its rows (UTC).

    late: hot rows of the same window wait to be folded in.  deleted: so do deletes of its rows.
    layout: the columns in it.
    """

    partition_key: str
    path: str
    rows: int
    lower: datetime
    upper: datetime
    time_min: datetime
    time_max: datetime
    late: bool
    deleted: bool
    layout: Layout

    @property
    def masked(self) -> bool:
        """Whether some of its rows may not count, by their keys."""
        return self.late or self.deleted


def all_rows(
    table: LakeTable, lake: LakeFiles, hot: frozenset[str] | None, files: Sequence[ColdFile]
) -> sql.Composable:
    """Return the query that gives each row of a table once: the protocol itself."""
    parts: list[sql.Composable] = []
    if hot is not None:
        columns = typed(table.columns, hot)
        parts.append(sql.SQL("select {} from {}").format(columns, _hot(table, hot)))
    plain = [file for file in files if not (file.masked and table.key)]
    masked = [file for file in files if file.masked and table.key]
    parts += cold_queries(table, lake, plain)
    parts += [
        sql.SQL("{} anti join {} using ({})").format(query, _masked_keys(table), _names(table.key))
        for query in cold_queries(table, lake, masked)
    ]
    if not parts:
        return sql.SQL("select {} where false").format(typed(table.columns, ()))
    return sql.SQL(" union all ").join(parts)


def cold_queries(
    table: LakeTable, lake: LakeFiles, files: Sequence[ColdFile]
) -> list[sql.Composable]:
    """Return the queries that give the rows of cold files, one for each layout among them."""
    layouts: dict[Layout, list[str]] = {}
    for file in files:
        layouts.setdefault(file.layout, []).append(lake.address(file.path))
    return [
        sql.SQL("select {} from ({})").format(
            typed(table.columns, names_of(layout)), parquet(addresses)
        )
        for layout, addresses in layouts.items()
    ]


def parquet(addresses: Sequence[str]) -> sql.Composable:
    """Return the query that reads Parquet files of one layout."""
    files = sql.SQL(", ").join(map(sql.Literal, addresses))
    return sql.SQL("from read_parquet([{}], hive_partitioning = false)").format(files)


def masked_keys_query(table: LakeTable, files: Sequence[ColdFile]) -> sql.Composable | None:
    """Return what copies the keys whose cold rows do not count, None where there are none.

    They are those of hot rows, which override cold ones, and those of rows that are deleted.
    A query then scans hot once.
    """
    if not (table.key and table.time):
        return None
    parts: list[sql.Composable] = []
    late = [file for file in files if file.late]
    if late:
        windows = sql.SQL(" or ").join(
            sql.SQL("({time} >= {lower} and {time} < {upper})").format(
                time=sql.Identifier(table.time),
                lower=_moment(file.lower),
                upper=_moment(file.upper),
            )
            for file in late
        )
        parts.append(sql.SQL("{} where {}").format(_hot(table, table.key), windows))
    deleted = [(file.lower, file.upper) for file in files if file.deleted]
    if deleted:
        hot = sql.Identifier(table.schema, table.name)
        parts.append(asked(deleted_keys(hot, table.name, table.key, deleted)))
    if not parts:
        return None
    keys = [sql.SQL("select {} from {}").format(_typed(table, table.key), part) for part in parts]
    return sql.SQL("create temp table {} as {}").format(
        _masked_keys(table), sql.SQL(" union all ").join(keys)
    )


def _hot(table: LakeTable, there: Collection[str]) -> sql.Composable:
    """Return the relation of the hot rows: a scan that takes filters along, where it can be.

    there: the columns that the table has in PostgreSQL.
    """
    if not table.as_text:
        return sql.Identifier("pg", table.schema, table.name)
    columns = sql.SQL(", ").join(
        sql.SQL("{0}::text as {0}" if name in table.as_text else "{0}").format(sql.Identifier(name))
        for name, _ in table.columns
        if name in there
    )
    query = sql.SQL("select {} from {}").format(columns, sql.Identifier(table.schema, table.name))
    return sql.SQL("postgres_query('pg', {})").format(sql.Literal(query.as_string()))


def _typed(table: LakeTable, names: Sequence[str]) -> sql.Composable:
    """Return columns in the types of the contract, alike from hot and cold."""
    kinds = dict(table.columns)
    return sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(sql.Identifier(name), sql.SQL(kinds[name]))
        for name in names
    )


def _masked_keys(table: LakeTable) -> sql.Composable:
    return sql.Identifier(f"lakebed_masked_{table.name}")


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)


def _moment(moment: datetime) -> sql.Composable:
    return sql.SQL("{}::timestamptz").format(sql.Literal(moment.isoformat()))
