"""Replace: the table becomes what the load holds, in one transaction, and stays the table it is.

A swap by rename would break views, foreign keys and grants, and shut readers out; a TRUNCATE shows
an empty table to readers whose snapshot is older. So rows are deleted and inserted: a reader sees
all of the old rows or all of the new ones. Where there is a key only the difference is written,
which rows that others refer to survive.

The old rows are kept, whole, in `lakebed_undo."<load_id>"`, of the last few loads of a table.
"""

from __future__ import annotations

from psycopg import sql

from platform_assets.catalog import SourceTable
from platform_assets.ingest.writers.append import AppendWriter
from platform_assets.ingest.writers.merge import MergeWriter
from platform_assets.ingest.writers.missing import check_share
from platform_assets.ingest.writers.writer import Counts, LoadStamp, names, target_of
from resources.postgres import Connection

KEPT = 3
"""Of how many loads of a table the old rows are kept."""


class ReplaceWriter(AppendWriter):
    """Replaces a table without a key: all rows are deleted, the new ones copied straight in."""

    def begin(self) -> None:
        """Delete the old rows, and keep them."""
        super().begin()
        undo = undo_of(self.load)
        columns = names(self.table.column_names)
        self.connection.execute(
            sql.SQL("create table {} as select {} from {} limit 0").format(
                undo, columns, target_of(self.table)
            )
        )
        # In one statement: rows that others insert meanwhile are neither kept nor deleted.
        self.old = self.connection.execute(
            sql.SQL(
                "with old as (delete from {} returning *) insert into {} select {} from old"
            ).format(target_of(self.table), undo, columns)
        ).rowcount
        forget_older(self.connection, self.table, self.load)

    def finish(self) -> Counts:
        """Return how many rows came and went. Raises LoadConflictError where none came."""
        counts = super().finish()
        check_share(self.table, 1, self.old, 0, counts.inserted)
        return Counts(inserted=counts.inserted, rejected=counts.rejected, deleted=self.old)


class MergeReplaceWriter(MergeWriter):
    """Replaces a table that has a key: only rows that differ are written."""

    @property
    def _is_guarded(self) -> bool:
        """What the source holds now is right, whatever the cursor says."""
        return False

    def finish(self) -> Counts:
        """Keep the old rows; write the difference. Raises LoadConflictError where no row came."""
        # Others' writes would be neither in the old rows nor in the difference. Readers go on.
        self.connection.execute(
            sql.SQL("lock table {} in share row exclusive mode").format(target_of(self.table))
        )
        self.connection.execute(
            sql.SQL("create table {} as select {} from {}{}").format(
                undo_of(self.load),
                names(self.table.column_names),
                target_of(self.table),
                # Copied straight means that there was no old row; those there are this load's own.
                sql.SQL(" limit 0" if self.straight else ""),
            )
        )
        forget_older(self.connection, self.table, self.load)
        return super().finish()

    def _remove_missing(self) -> int:
        total, removed = self._delete_missing(None)
        check_share(self.table, 1, total, removed, self.stage.rows)
        return removed


def undo_of(load: LoadStamp) -> sql.Identifier:
    """Return the table that holds the rows from before a load."""
    return sql.Identifier("lakebed_undo", load.load_id)


def forget_older(connection: Connection, table: SourceTable, load: LoadStamp) -> None:
    """Drop the old rows of all but the last few loads of a table; this one is the last."""
    older = connection.execute(
        "select l.load_id from lakebed.load l join pg_class c on c.relname = l.load_id"
        " and c.relnamespace = 'lakebed_undo'::regnamespace"
        " where l.table_name = %s and l.load_id <> %s order by l.committed_at desc offset %s",
        [table.name, load.load_id, KEPT - 1],
    ).fetchall()
    for (load_id,) in older:
        connection.execute(sql.SQL("drop table {}").format(sql.Identifier("lakebed_undo", load_id)))
