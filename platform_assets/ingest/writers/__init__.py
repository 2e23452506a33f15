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

from lakebed.ingest.writers.append import AppendWriter as AppendWriter
from lakebed.ingest.writers.history import HistoryWriter
from lakebed.ingest.writers.merge import MergeWriter
from lakebed.ingest.writers.replace import MergeReplaceWriter, ReplaceWriter
from lakebed.ingest.writers.undo import Undo
from lakebed.ingest.writers.writer import Counts as Counts
from lakebed.ingest.writers.writer import LoadConflictError as LoadConflictError
from lakebed.ingest.writers.writer import LoadStamp as LoadStamp
from lakebed.ingest.writers.writer import RelatedRowsError as RelatedRowsError
from lakebed.ingest.writers.writer import RepeatedKeyError as RepeatedKeyError
from lakebed.ingest.writers.writer import Writer as Writer
from lakebed.ingest.writers.writer import target_of as target_of
from lakebed.resources.postgres import Connection
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable


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
