"""The retry: what waits in a table's quarantine goes through the load again, like all rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.resources.clock import Clock
from lakebed.resources.postgres import Postgres
from lakebed.resources.settings import Settings
from lakebed.spec.sources import RejectedRows
from lakebed.spec.steps import OnLoadStep
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.rejects import RejectKind


def retry_rejects(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    table: SourceTable,
    *,
    load_id: str | None = None,
    column: str | None = None,
    kind: RejectKind | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: OnLoadStep = lambda step: None,
) -> LoadReport:
    """Load the waiting rows of a table again: all, of one load, bad in one column, or of one kind.

    In one transaction the rows that are good now are loaded and leave the quarantine; bad rows
    stay, with their new reason. Rows without a column that the table now needs stay untouched, and
    the report has them as refused. Raises TableError for a table that is loaded whole, and what
    `load_table` raises.
    """
    if table.loads_whole:
        raise TableError(
            f"table {table.name}: a load reads its whole source, so rejected rows cannot be loaded "
            "alone; correct the table file or the source, and read it again: "
            f"`lakebed load {table.name} --again`"
        )
    source = RejectedRows(
        table=table.name,
        columns=table.source_columns,
        load_id=load_id,
        column=column,
        reject_kind=kind,
    )
    # However many are still bad, the good ones go on.
    waiting = replace(
        table,
        source=source,
        load_by="cursor",
        reject_share=1.0,
        new_columns="discard",
        changed_files="refuse",
        parallel_files=1,
    )
    return load_table(settings, postgres, clock, waiting, on_rows=on_rows, on_step=on_step)
