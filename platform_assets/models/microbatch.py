"""Run an incremental model by windows: each window is one file, which a later run replaces.

The strategy is dbt's microbatch. The query runs once for each window. Inputs with a known time are
filtered to the window, and the resulting rows must lie in the window too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import duckdb
from psycopg import sql

from lakebed.models.calls import within
from lakebed.models.increment import Change, columns_after, columns_of, described, fitted
from lakebed.models.model import Batches, Model, ModelError, ModelSet, Run
from lakebed.models.model_files import Columns, FileWriter, LiveFile, Written
from lakebed.models.reading import errors_located, reading
from lakebed.resources.session import ReadSession
from lakebed.spec.partitions import Window, window_of


def microbatch(
    session: ReadSession,
    models: ModelSet,
    writer: FileWriter,
    live: Sequence[LiveFile],
    windows: Sequence[Window],
    run: Run,
) -> Change:
    """Write a file for each window that has rows, in place of the window's old file.

    Raises:
        ModelError: DuckDB refuses the query, or the rows of a window do not fit.
    """
    model, batches = writer.model, batches_of(writer.model)
    _refuse_other_windows(model, batches, live)
    columns: Columns = columns_of(live) if live else ()
    for window in windows:
        part = models.compiled(model, replace(run, window=window))
        with errors_located(models, part), reading(session, part.sql) as connection:
            fresh = described(connection, part.sql)
            columns = columns_after(model, columns, fresh) if columns else fresh
            query = fitted(model, part.sql, columns, fresh)
            written = writer.write(connection, query, window)
            if written.rows:
                _refuse_outside(connection, part, batches, written, window)
    lowers = {window.lower for window in windows}
    kept = tuple(file for file in live if file.lower not in lowers)
    empty = [written for written in writer.written if not written.rows]
    # A model without a row still has its columns.
    for written in empty[0 if kept or len(empty) < len(writer.written) else 1 :]:
        writer.drop(written)
    return Change(columns, kept)


def batches_of(model: Model) -> Batches:
    """Return the windows of a model that is built by them."""
    assert model.incremental is not None
    assert model.incremental.batches is not None
    return model.incremental.batches


def built_until(
    batches: Batches, before: datetime | None, windows: Sequence[Window]
) -> datetime | None:
    """Return the end of the windows built without a gap, after a run; None if the first is open."""
    reached = before or batches.begin
    if windows[0].lower > reached:
        return before
    return max(reached, windows[-1].upper)


def _refuse_other_windows(model: Model, batches: Batches, live: Sequence[LiveFile]) -> None:
    for file in live:
        if file.lower is None or window_of(batches.grain, file.lower).upper != file.upper:
            raise ModelError(
                model.path,
                None,
                f"the files of {model.name!r} do not have windows of a {batches.grain}",
                f"Build it whole: lakebed build {model.name} --full-refresh.",
            )


def _refuse_outside(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    batches: Batches,
    written: Written,
    window: Window,
) -> None:
    """Refuse rows outside of the window: a later run of it would not replace them."""
    condition = sql.SQL(within(window, batches.event_time))
    query = sql.SQL("select count(*) from ({}) where not coalesce({}, false)")
    ((outside,),) = connection.execute(query.format(written.body, condition).as_string()).fetchall()
    if outside:
        raise ModelError(
            model.path,
            None,
            f"{model.name!r} gives {outside:,} rows for {window.key} whose {batches.event_time} "
            "lies outside of it, or is null",
            "Declare the event_time of its inputs, or filter the query to the window.",
        )
