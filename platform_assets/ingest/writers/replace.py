"""Replace: the table becomes what the load holds, in one transaction, and stays the table it is.

A swap by rename would break views, foreign keys and grants, and shut readers out; a TRUNCATE shows
an empty table to readers whose snapshot is older. So rows are deleted and inserted: a reader sees
all of the old rows or all of the new ones. Where there is a key only the difference is written,
so rows that other tables refer to survive.
"""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from lakebed.ingest.writers.append import AppendWriter
from lakebed.ingest.writers.merge import MergeWriter
from lakebed.ingest.writers.missing import check_share
from lakebed.ingest.writers.writer import Counts, target_of


class ReplaceWriter(AppendWriter):
    """Replaces a table without a key: all rows are deleted, the new ones copied straight in."""

    def begin(self) -> None:
        """Delete the old rows, and keep them."""
        super().begin()
        self.old = self.undo.delete(sql.SQL("true"))

    def finish(self) -> Counts:
        """Return how many rows came and went. Raises LoadConflictError where none came."""
        counts = super().finish()
        check_share(self.table, 1, self.old, 0, counts.inserted)
        return replace(counts, deleted=self.old)


class MergeReplaceWriter(MergeWriter):
    """Replaces a table that has a key: only rows that differ are written."""

    @property
    def _is_guarded(self) -> bool:
        """What the source holds now is right, whatever the cursor says."""
        return False

    def finish(self) -> Counts:
        """Write the difference. Raises LoadConflictError where no row came."""
        # Concurrent writes would be missing from both sides of the difference. Readers go on.
        self.connection.execute(
            sql.SQL("lock table {} in share row exclusive mode").format(target_of(self.table))
        )
        return super().finish()

    def _remove_missing(self) -> int:
        total, removed = self._delete_missing(None)
        check_share(self.table, 1, total, removed + self.held, self.stage.rows)
        return removed
