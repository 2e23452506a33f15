"""Find rows that are missing from a full extract, and decide which of them a load may delete."""

from __future__ import annotations

import json

import polars as pl
from psycopg import sql

from lakebed.ingest.quarantine import decode, texts_of
from lakebed.ingest.sources.reader import SourceItem
from lakebed.ingest.transform import transform
from lakebed.ingest.writers.writer import LoadConflictError, LoadStamp, names, same, target_of
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

SPARED = sql.Identifier("lakebed_spared")


def missing_from(
    table: SourceTable,
    source: sql.Composable,
    spared: sql.Identifier | None,
    relation: str = "hot",
) -> sql.Composable:
    """Return the condition that a row of the table, as relation, is in neither of the two."""
    condition = sql.SQL("not exists (select from ({}) as rows where {})").format(
        source, same(table.key, relation, "rows")
    )
    if spared is None:
        return condition
    return sql.SQL("{} and not exists (select from {} as spared where {})").format(
        condition, spared, same(table.key, relation, "spared")
    )


def keep_rejected(
    connection: Connection, table: SourceTable, load: LoadStamp
) -> sql.Identifier | None:
    """Make a table of the keys of the load's rejects: their rows are in the source, if badly.

    Returns None where there are none. A reject whose key itself cannot be read spares nothing.
    """
    rows = connection.execute(
        "select source_types::text, array_agg(source_row::text) from lakebed.rejected_row"
        " where load_id = %s group by 1",
        [load.load_id],
    ).fetchall()
    if not rows or not set(table.key) <= set(table.contract_names):
        return None
    keys = pl.concat([_keys(table, texts, types) for types, texts in rows]).drop_nulls()
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


def _keys(table: SourceTable, texts: list[str], types: str | None) -> pl.DataFrame:
    """Return the keys of rejected rows, shaped as those of any row; null where that fails."""
    item = SourceItem("lakebed.rejected_row", "0", 0, "lakebed.rejected_row")
    kinds = json.loads(types) if types else {}
    raw, written = decode(texts, table.source_columns, kinds), texts_of(table.source_columns, kinds)
    return pl.DataFrame(
        [transform(table, item, raw, name, texts=written)[name].series for name in table.key]
    )


def check_share(table: SourceTable, at_most: float, total: int, removed: int, rows: int) -> None:
    """Refuse an empty extract or one without too many of the rows. Raises LoadConflictError."""
    if total and not rows:
        raise LoadConflictError(
            f"{table.name}: the extract has no row, which would delete all {total} of the table; "
            "nothing was loaded. Deliver it again; if it is right, delete the rows by hand"
        )
    if removed > at_most * total:
        raise LoadConflictError(
            f"{table.name}: {removed} of the {total} rows are missing from the extract, more "
            f"than the {at_most:.0%} that one load may delete; nothing was loaded. Deliver the "
            "whole extract, or allow more: deletes=Deletes(full_extract=True, at_most=...)"
        )
