"""A table in two tiers: what reading knows of it, and the query that returns each row once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from lakebed.resources.layouts import Layout, names_of, typed
from lakebed.resources.tombstones import asked, deleted_keys


@dataclass(frozen=True)
class LakeTable:
    """What reading needs to know of a table.

    columns: name and DuckDB type, in order; a session adds those that evolved. time: the column
    that partitions it, if it is partitioned. key: the columns by which a hot row overrides a cold
    one; may be empty. as_text: columns that PostgreSQL must convert to text, because DuckDB would
    damage them. opaque: columns that are text for DuckDB only; filters on them must not be pushed
    down, because PostgreSQL would find other values equal. asked: whether a query must read the
    table from PostgreSQL, because a scan misreads its arrays.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    time: str | None = None
    key: tuple[str, ...] = ()
    schema: str = "public"
    as_text: frozenset[str] = frozenset()
    opaque: frozenset[str] = frozenset()
    asked: bool = False


@dataclass(frozen=True)
class ColdPart:
    """Live cold files of a table that are read alike.

    masked: some of their rows may not count, by their keys.  variable: DuckDB's, that holds their
    addresses.  chosen: the condition that they are, in the manifest.
    """

    layout: Layout
    masked: bool
    variable: str
    chosen: sql.Composable


def all_rows(
    table: LakeTable,
    hot: Collection[str] | None,
    parts: Sequence[ColdPart],
    refused: Mapping[str, str] | None = None,
    hot_rows: sql.Composable | None = None,
) -> sql.Composable:
    """Return the query that gives each row of a table once: the protocol itself.

    Args:
        table: The table.
        hot: The columns that it has in PostgreSQL; None if it does not exist.
        parts: Its cold files.
        refused: Columns of hot rows whose reading fails, and the error's text.
        hot_rows: The relation of the hot rows, by default a scan.
    """
    queries: list[sql.Composable] = []
    if hot is not None:
        columns = typed(table.columns, hot, refused)
        relation = hot_scan(table, hot) if hot_rows is None else hot_rows
        queries.append(sql.SQL("select {} from {}").format(columns, relation))
    for part in parts:
        files = sql.SQL("getvariable({})").format(sql.Literal(part.variable))
        query = cold_rows(table, part.layout, files)
        if part.masked:
            query = sql.SQL("{} anti join {} using ({})").format(
                query, masked_keys(table), _names(table.key)
            )
        queries.append(query)
    if not queries:
        return sql.SQL("select {} where false").format(typed(table.columns, ()))
    return sql.SQL(" union all ").join(queries)


def cold_rows(table: LakeTable, layout: Layout, files: sql.Composable) -> sql.Composable:
    """Return the query that gives the rows of cold files of one layout.

    files: a list of their addresses, as an expression.
    """
    return sql.SQL("select {} from ({})").format(
        typed(table.columns, names_of(layout)), parquet(files)
    )


def parquet(files: sql.Composable, *, mixed: bool = False) -> sql.Composable:
    """Return the query that reads Parquet files; files: a list, as an expression.

    mixed: they are not of one layout, so that each is opened before the first row is read.
    """
    by_name = sql.SQL(", union_by_name = true" if mixed else "")
    return sql.SQL("from read_parquet({}, hive_partitioning = false{})").format(files, by_name)


def blooms(types: Iterable[str]) -> sql.Composable:
    """Return COPY's option for the bloom filters of a file of these DuckDB types.

    With a bloom filter DuckDB misses every value of a BLOB, and -0.0 in a search for 0 (seen with
    1.5.5).
    """
    none = any("BLOB" in kind or kind in ("FLOAT", "DOUBLE") for kind in types)
    return sql.SQL(", write_bloom_filter false" if none else "")


def listed(addresses: Sequence[str]) -> sql.Composable:
    """Return addresses as a list, written out."""
    return sql.SQL("[{}]").format(sql.SQL(", ").join(map(sql.Literal, addresses)))


def masked_keys(table: LakeTable) -> sql.Identifier:
    """Return the name of the temporary table with the keys whose cold rows do not count."""
    return sql.Identifier(f"lakebed_masked_{table.name}")


def masked_keys_query(
    table: LakeTable,
    late: Sequence[tuple[datetime, datetime]],
    deleted: Sequence[tuple[datetime, datetime]],
    numeric: Sequence[str] = (),
) -> sql.Composable:
    """Return the query of the keys whose cold rows are hidden.

    These are the keys of hot rows, which override cold ones, and of deleted rows.

    Args:
        table: The table.
        late: The windows with hot rows, half-open.
        deleted: The windows with deleted rows, half-open.
        numeric: Columns of the key whose NaN DuckDB would read as 0: no cold row has such a key.
    """
    parts: list[sql.Composable] = []
    if late:
        windows = sql.SQL(" or ").join(
            sql.SQL("({time} >= {lower} and {time} < {upper})").format(
                time=sql.Identifier(table.time or ""), lower=_moment(lower), upper=_moment(upper)
            )
            for lower, upper in late
        )
        if numeric:
            parts.append(asked(_sound_keys(table, windows, numeric)))
        else:
            parts.append(sql.SQL("{} where {}").format(hot_scan(table, table.key), windows))
    if deleted:
        hot = sql.Identifier(table.schema, table.name)
        parts.append(asked(deleted_keys(hot, table.name, table.key, deleted)))
    keys = [sql.SQL("select {} from {}").format(_typed(table, table.key), part) for part in parts]
    return sql.SQL(" union all ").join(keys)


def _sound_keys(table: LakeTable, windows: sql.Composable, numeric: Sequence[str]) -> sql.Composed:
    sound = sql.SQL(" and ").join(
        sql.SQL("{} <> 'NaN'").format(sql.Identifier(column)) for column in numeric
    )
    return sql.SQL("select {} from {} where ({}) and {}").format(
        _names(table.key), sql.Identifier(table.schema, table.name), windows, sound
    )


def hot_scan(table: LakeTable, there: Collection[str]) -> sql.Composable:
    """Return the relation of the hot rows: a scan that takes filters along, where it can be.

    there: the columns that the table has in PostgreSQL.
    """
    if not table.as_text and not table.asked:
        return _opaque(table, there)
    asked = [(name, kind) for name, kind in table.columns if name in there]
    columns = sql.SQL(", ").join(
        sql.SQL(_asked_as(kind, name in table.as_text)).format(sql.Identifier(name))
        for name, kind in asked
    )
    query = sql.SQL("select {} from {}").format(columns, sql.Identifier(table.schema, table.name))
    scan = sql.SQL("postgres_query('pg', {})").format(sql.Literal(query.as_string()))
    bytes_of_hex = [
        sql.SQL(
            "list_transform(from_json({0}, '[\"VARCHAR\"]'), lambda lakebed_x: unhex(lakebed_x))"
            " as {0}"
        ).format(sql.Identifier(name))
        for name, kind in asked
        if kind == _BYTES_LIST
    ]
    if not bytes_of_hex:
        return scan
    return sql.SQL("(select * replace ({}) from {})").format(sql.SQL(", ").join(bytes_of_hex), scan)


_BYTES_LIST = "BLOB[]"


def _asked_as(kind: str, as_text: bool) -> str:
    """Return PostgreSQL's SQL over `{0}` for a column of a query that PostgreSQL runs for DuckDB.

    An array comes as text then, and DuckDB cannot read bytes in it.
    """
    if kind == _BYTES_LIST:
        return (
            "case when {0} is not null then array_to_json(array("
            "select encode(u.e, 'hex') from unnest({0}) with ordinality as u (e, i) order by i"
            "))::text end as {0}"
        )
    return "{0}::text as {0}" if as_text else "{0}"


def _opaque(table: LakeTable, there: Collection[str]) -> sql.Composable:
    """Return the scan of the hot rows that takes along all filters but those on opaque columns."""
    scan = sql.Identifier("pg", table.schema, table.name)
    opaque = sorted(table.opaque.intersection(there))
    if not opaque:
        return scan
    # DuckDB pushes no filter below an expression, and optimizes this one away.
    texts = sql.SQL(", ").join(
        sql.SQL("{0} || '' as {0}").format(sql.Identifier(name)) for name in opaque
    )
    return sql.SQL("(select * replace ({}) from {})").format(texts, scan)


def _typed(table: LakeTable, names: Sequence[str]) -> sql.Composable:
    """Return columns in the types of the contract, alike from hot and cold."""
    kinds = dict(table.columns)
    return sql.SQL(", ").join(
        sql.SQL("cast({0} as {1}) as {0}").format(sql.Identifier(name), sql.SQL(kinds[name]))
        for name in names
    )


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)


def _moment(moment: datetime) -> sql.Composable:
    return sql.SQL("{}::timestamptz").format(sql.Literal(moment.isoformat()))
