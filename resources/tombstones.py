"""Tombstones: keys of deleted cold rows, until compacting removes the rows from the file.

A tombstone hides the cold row of its key and does not affect a hot one, which may be newer.
PostgreSQL gives its key the types of the table's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from psycopg import sql

_KEYS = sql.SQL(
    "select {columns} from lakebed.cold_delete d"
    " cross join lateral jsonb_populate_record(null::{table}, d.key) k"
    " where d.table_name = {name} and ({windows})"
)


def deleted_keys(
    table: sql.Identifier,
    name: str,
    key: Sequence[str],
    windows: Sequence[tuple[datetime, datetime]],
) -> sql.Composed:
    """Return PostgreSQL's query of the deleted keys of a table, in the types of its columns.

    table: the hot table.  windows: half-open, of the rows' times (UTC).
    """
    return _KEYS.format(
        table=table,
        name=sql.Literal(name),
        columns=sql.SQL(", ").join(sql.Identifier("k", column) for column in key),
        windows=sql.SQL(" or ").join(
            sql.SQL("(d.moment >= {}::timestamptz and d.moment < {}::timestamptz)").format(
                sql.Literal(lower.isoformat()), sql.Literal(upper.isoformat())
            )
            for lower, upper in windows
        ),
    )


def asked(query: sql.Composed) -> sql.Composed:
    """Return the relation of DuckDB that is PostgreSQL's answer, in the transaction of both."""
    return sql.SQL("postgres_query('pg', {})").format(sql.Literal(query.as_string()))
