"""Write modes: how the rows of a load get into the table, inside the load's transaction.

append:   copy into the table
merge:    copy into a stage, then insert ... on conflict do update ... where different; straight
          into the table where it has no row that the load could meet
replace:  the table becomes what the load holds
history:  a row that changed is closed and followed by its new version

Rows that a load updates or deletes are kept, so that it can be undone (undo.py).
"""

from __future__ import annotations

from collections.abc import Collection

from platform_assets.catalog import SourceTable
from platform_assets.ingest.writers.append import AppendWriter as AppendWriter
from platform_assets.ingest.writers.history import HistoryWriter
from platform_assets.ingest.writers.merge import MergeWriter
from platform_assets.ingest.writers.replace import MergeReplaceWriter, ReplaceWriter
from platform_assets.ingest.writers.undo import Undo
from platform_assets.ingest.writers.writer import Counts as Counts
from platform_assets.ingest.writers.writer import LoadConflictError as LoadConflictError
from platform_assets.ingest.writers.writer import LoadStamp as LoadStamp
from platform_assets.ingest.writers.writer import Writer as Writer
from platform_assets.ingest.writers.writer import target_of as target_of
from platform_assets.partitions import Window
from resources.postgres import Connection


def writer_of(
    connection: Connection, table: SourceTable, windows: Collection[Window], load: LoadStamp
) -> Writer:
    """Return the writer of a table's write mode."""
    kinds: dict[str, type[Writer]] = {
        "append": AppendWriter,
        "merge": MergeWriter,
        "replace": MergeReplaceWriter if table.key else ReplaceWriter,
        "history": HistoryWriter,
    }
    return kinds[table.write_mode](connection, table, windows, load, Undo(connection, table, load))
