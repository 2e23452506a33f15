"""Rows that a full extract lacks: which they are, which are spared, how many may go."""

from __future__ import annotations

import json

import polars as pl
from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.ingest.casts import cast
from platform_assets.ingest.writers.writer import (
    LoadConflictError,
    LoadStamp,
    names,
    same,
    target_of,
)
from resources.postgres import Connection

SPARED = sql.Identifier("lakebed_spared")


def missing_from(
    table: SourceTable, source: sql.Composable, spared: sql.Identifier | None
) -> sql.Composable:
    """Return the condition that a row of the table, as hot, is in neither of the two."""
    condition = sql.SQL("not exists (select from ({}) as rows where {})").format(
        source, same(table.key, "hot", "rows")
    )
    if spared is None:
        return condition
    return sql.SQL("{} and not exists (select from {} as spared where {})").format(
        condition, spared, same(table.key, "hot", "spared")
    )


def keep_rejected(
    connection: Connection, table: SourceTable, load: LoadStamp
) -> sql.Identifier | None:
    """Make a table of the keys of the load's rejects: their rows are in the source, if badly.

    Returns None where there are none. A reject whose key itself cannot be read spares nothing.
    """
    rows = connection.execute(
        "select source_row from lakebed.rejected_row where load_id = %s", [load.load_id]
    ).fetchall()
    known = {column.name: column for column in table.contract}
    if not rows or not set(table.key) <= set(known):
        return None
    keys = pl.DataFrame(
        [
            cast(
                pl.Series(name, [_text(row.get(name)) for (row,) in rows], pl.String),
                known[name].polars,
                known[name].types.literal,
            ).series.alias(name)
            for name in table.key
        ]
    ).drop_nulls()
    connection.execute(
        sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
            SPARED, names(table.key), target_of(table)
        )
    )
    statement = sql.SQL("copy {} from stdin").format(SPARED)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for key in keys.iter_rows():
            copy.write_row(key)
    return SPARED


def check_share(table: SourceTable, at_most: float, total: int, removed: int, rows: int) -> None:
    """Refuse an extract that is empty or lacks too much. Raises LoadConflictError."""
    if total and not rows:
        raise LoadConflictError(
            f"{table.name}: the extract has no row, which would delete all {total} of the table; "
            "nothing was loaded. Deliver it again; if it is right, delete the rows by hand"
        )
    if removed > at_most * total:
        raise LoadConflictError(
            f"{table.name}: the extract lacks {removed} of the {total} rows of the table, more "
            f"than the {at_most:.0%} that one load may delete; nothing was loaded. Deliver it "
            "whole; if it is right, allow more: deletes=Deletes(snapshot=True, at_most=...)"
        )


def _text(value: object) -> str | None:
    """Return a value out of jsonb as the text that a cast reads."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)
