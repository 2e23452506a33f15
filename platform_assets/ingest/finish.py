"""Finish loads that wait for other tables, once one of those tables has been loaded.

Each is one load, in its own transaction. Its rows may in turn let another load finish, so this
repeats until no load is ready. A load that fails again waits for the next load of its relatives, so
that tables that refer to each other in a cycle terminate.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from lakebed.errors import LakebedError
from lakebed.ingest.load import load_table
from lakebed.ingest.relatives import load_order
from lakebed.ingest.report import LoadReport
from lakebed.ingest.retry import retry_rejects
from lakebed.ingest.unfinished import (
    Unfinished,
    forget_unfinished,
    unfinished_loads,
    waits_for_parents,
)
from lakebed.resources.clock import Clock
from lakebed.resources.postgres import Postgres
from lakebed.resources.settings import Settings
from lakebed.spec.table import SourceTable
from lakebed.store.locks import LoadBusyError
from lakebed.store.rejects import RejectKind


@dataclass(frozen=True)
class Finished:
    """A load that had waited and was tried again."""

    table: SourceTable
    reports: tuple[LoadReport, ...] = ()
    error: LakebedError | None = None
    """Why it failed, if it did."""


def finish_loads(
    settings: Settings,
    postgres: Postgres,
    clock: Clock,
    tables: Sequence[SourceTable],
    *,
    asked: Collection[str] = (),
    on_table: Callable[[SourceTable], None] = lambda table: None,
) -> Iterator[Finished]:
    """Load again the tables that waited for tables loaded since; yield each result.

    Args:
        settings: The settings.
        postgres: The server.
        clock: The clock.
        tables: All table specs.
        asked: Tables to try even if no table they wait for was loaded, because an application
            writes the tables they wait for.
        on_table: Called with each table before its load.
    """
    tried: dict[str, object] = {}
    while True:
        with postgres.connect(autocommit=True) as connection:
            waiting = {one.table: one for one in unfinished_loads(connection)}
            order = load_order(connection, tables) if waiting else []
        ready = [
            table
            for table in order
            if table.source is not None
            and (one := waiting.get(table.name)) is not None
            and _is_ready(one, asked)
            and tried.get(table.name) != one.now
        ]
        if not ready:
            return
        tried[ready[0].name] = waiting[ready[0].name].now
        on_table(ready[0])
        yield _finish(settings, postgres, clock, ready[0])


def _is_ready(one: Unfinished, asked: Collection[str]) -> bool:
    by_application = one.table in asked and None in one.now.values()
    return one.ready or by_application


def _finish(settings: Settings, postgres: Postgres, clock: Clock, table: SourceTable) -> Finished:
    """Load the waiting parts of one table: rejects without a parent, and refused files."""
    reports: list[LoadReport] = []
    try:
        if not table.loads_whole:
            of_parents = RejectKind.MISSING_PARENT
            reports.append(retry_rejects(settings, postgres, clock, table, kind=of_parents))
        if table.load_by == "cursor":
            reports.append(load_table(settings, postgres, clock, table))
    except LoadBusyError:
        return Finished(table, tuple(reports))  # the load that runs finishes what waits at its end
    except LakebedError as error:
        return Finished(table, tuple(reports), error)
    effective = tuple(report for report in reports if report.load_id or report.refused)
    if not table.loads_whole and not any(report.refused for report in reports):
        with postgres.connect(autocommit=True) as connection:
            if not waits_for_parents(connection, table.name):
                forget_unfinished(connection, table.name)
    return Finished(table, effective)
