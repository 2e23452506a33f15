"""Supersede rejects whose source a load has read again.

For a file read from its beginning these are all its rejects of earlier loads; for a source that
loads as a whole, all rejects of the table; for a window, those whose time is in it. The load
supersedes them in its transaction, so that no retry restores an old version of a row. Rows that are
still bad are new rejects of this load. A rollback of the load opens the old ones again.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator

import polars as pl

from lakebed.ingest.package import Package
from lakebed.ingest.quarantine import decode, texts_of
from lakebed.ingest.sources.reader import SourceItem
from lakebed.ingest.transform import transform
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

ROWS_A_BATCH = 20_000

_OPEN = "table_name = %(table)s and load_id <> %(load)s and resolved_by is null"

# In a fixed order, so that loads of different windows cannot deadlock.
_SUPERSEDE = """
with outdated as (select rejected_row_id from lakebed.rejected_row r
    where {open} and {which} order by rejected_row_id for update)
update lakebed.rejected_row r
set resolved_by = %(load)s, resolved_at = clock_timestamp(), superseded = true
from outdated where outdated.rejected_row_id = r.rejected_row_id
"""

# The folder of the data may have moved: the longest matching name then identifies the file.
_OF_FILES = """
(load_id, source_file) in (
    select load_id, source_file from (
        select distinct load_id, source_file from lakebed.rejected_row where {open}) o
    where source_file = any (%(paths)s) or (
        select path from lakebed.loaded_file f
        where f.table_name = %(table)s and f.load_id = o.load_id
            and right('/' || o.source_file, length(path) + 1) = '/' || path
        order by length(path) desc limit 1) = any (%(names)s))
"""

_AGAIN = """
exists (select from lakebed.rejected_row n where n.load_id = %(load)s
    and n.source_file = r.source_file and n.row_number = r.row_number)
"""


def supersede_rejects(connection: Connection, package: Package) -> None:
    """Supersede rejects of earlier loads whose source this load read again, in its transaction.

    Delete superseded rejects of loads that are too old for a rollback.
    """
    if package.window is not None:
        _of_window(connection, package)
    elif package.table.loads_whole:
        _supersede(connection, package, "true")
    else:
        again = [read.file for read in package.files if read.again]
        if again:
            which = _OF_FILES.format(open=_OPEN)
            paths, names = [item.path for item in again], [item.name for item in again]
            _supersede(connection, package, which, paths=paths, names=names)
    _forget_older(connection, package.table)


def _supersede(connection: Connection, package: Package, which: str, **more: object) -> None:
    given = {"table": package.table.name, "load": package.load_id} | more
    connection.execute(_SUPERSEDE.format(open=_OPEN, which=which).encode(), given)


def _of_window(connection: Connection, package: Package) -> None:
    """Supersede rejects of the window, and those without a time if the load read them again.

    A query for a window may not return rows without a time.
    """
    window = package.window
    assert window is not None
    queried = package.table.require_source.resumes == "query"
    whole = [] if queried else [read.file.path for read in package.files if not read.left_out]
    column = package.table.require_partitioning.column
    for rows in _open_rejects(connection, package, column):
        inside = rows.filter((pl.col("value") >= window.lower) & (pl.col("value") < window.upper))
        none = rows.filter(pl.col("value").is_null())
        _supersede(
            connection,
            package,
            f"(rejected_row_id = any (%(inside)s) or rejected_row_id = any (%(none)s)"
            f" and (source_file = any (%(whole)s) or {_AGAIN}))",
            inside=inside["id"].to_list(),
            none=none["id"].to_list(),
            whole=whole,
        )


def _open_rejects(connection: Connection, package: Package, column: str) -> Iterator[pl.DataFrame]:
    """Yield id and value of a column of open rejects of earlier loads; null if unreadable."""
    with connection.cursor(name="lakebed_open_rejects") as cursor:
        cursor.execute(
            "select source_types::text, rejected_row_id, source_row::text"  # noqa: S608
            f" from lakebed.rejected_row where {_OPEN} order by rejected_row_id",
            {"table": package.table.name, "load": package.load_id},
        )
        while found := cursor.fetchmany(ROWS_A_BATCH):
            groups: dict[str | None, list[tuple[int, str]]] = defaultdict(list)
            for types, number, row in found:
                groups[types].append((number, row))
            for types, rows in groups.items():
                numbers, texts = zip(*rows, strict=True)
                values = _values(package.table, texts, types, column)
                yield pl.DataFrame({"id": pl.Series(numbers, dtype=pl.Int64), "value": values})


def _values(
    table: SourceTable, texts: Collection[str], types: str | None, column: str
) -> pl.Series:
    item = SourceItem("lakebed.rejected_row", "0", 0, "lakebed.rejected_row")
    kinds = json.loads(types) if types else {}
    raw = decode(list(texts), table.source_columns, kinds)
    written = texts_of(table.source_columns, kinds)
    return transform(table, item, raw, column, texts=written)[column].series


def _forget_older(connection: Connection, table: SourceTable) -> None:
    connection.execute(
        "delete from lakebed.rejected_row where rejected_row_id in (select rejected_row_id"
        " from lakebed.rejected_row where table_name = %(table)s and superseded"
        " and resolved_by not in (select load_id from lakebed.load where table_name = %(table)s"
        " and rolled_back_at is null order by committed_at desc, load_id limit %(kept)s)"
        " order by 1 for update)",
        {"table": table.name, "kept": max(table.undo_loads, 1)},
    )
