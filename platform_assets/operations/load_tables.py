"""Load tables or windows of tables, and keep what the lake shows of them up to date."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lakebed.doors.write import refresh_catalog
from lakebed.errors import FAILED, WRONG_USAGE, LakebedError, exit_code
from lakebed.ingest.finish import finish_loads
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.relatives import load_order
from lakebed.ingest.report import LoadReport
from lakebed.spec.partitions import Window, window_for_key
from lakebed.spec.steps import OnLoadStep
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.lake_copies import LakeCopy, write_due_copies

Load = tuple[SourceTable, Window | None]


class LoadChoiceError(LakebedError, ValueError):
    """A choice of tables and windows that cannot be loaded together."""

    exit_code = WRONG_USAGE


def chosen_tables(platform: Platform, names: Sequence[str]) -> list[SourceTable]:
    """Return the named tables, each with a source. Without names, return all tables with one.

    Raises:
        TableError: A table is unknown or has no source.
    """
    if not names:
        return [table for table in platform.tables if table.source is not None]
    tables = [platform.table(name) for name in dict.fromkeys(names)]
    for table in tables:
        _ = table.require_source
    return tables


def chosen_loads(
    tables: Sequence[SourceTable], keys: Sequence[str], *, skip_windowed: bool
) -> list[Load]:
    """Return what to load: each table, or the windows of the one table that is loaded by window.

    Args:
        tables: The tables that were chosen.
        keys: Partition keys, of one table that is loaded by window.
        skip_windowed: Leave out tables that are loaded by window instead of refusing them.

    Raises:
        LoadChoiceError: Keys without such a table, or such a table without keys.
        TableError: A key does not fit the table's grain.
    """
    if keys:
        if len(tables) != 1 or tables[0].load_by != "window":
            raise LoadChoiceError("Windows need exactly one table that is loaded by window")
        return [(tables[0], window) for window in windows_of(tables[0], keys)]
    windowed = [table.name for table in tables if table.load_by == "window"]
    if windowed and not skip_windowed:
        raise LoadChoiceError(
            f"{windowed[0]} is loaded by window. Load it alone, and name its windows"
        )
    return [(table, None) for table in tables if table.load_by == "cursor"]


def windows_of(table: SourceTable, keys: Sequence[str]) -> list[Window]:
    """Return the windows that partition keys name, in order.

    Raises:
        TableError: A key does not fit the table's grain.
    """
    try:
        return sorted({window_for_key(table.require_partitioning.grain, key) for key in keys})
    except ValueError as error:
        raise TableError(f"table {table.name}: {error}") from error


def load_one(
    platform: Platform,
    table: SourceTable,
    window: Window | None = None,
    *,
    again: bool = False,
    on_rows: Callable[[int], None] = lambda rows: None,
    on_step: OnLoadStep = lambda step: None,
) -> LoadReport:
    """Load what is new in a table's source, or replace one window of the table.

    Args:
        platform: The platform.
        table: The table to load.
        window: The window to replace, of a table that is loaded by window.
        again: Read all of the source, whatever was loaded before.
        on_rows: Called with the number of rows of each batch.
        on_step: Called with the name of each step when it is done.
    """
    run = partial(load_table, again=again)
    if window is not None:
        run = partial(load_window, window=window)
    return run(
        platform.settings,
        platform.postgres,
        platform.clock,
        table,
        on_rows=on_rows,
        on_step=on_step,
    )


@dataclass(frozen=True)
class Outcome:
    """The outcome of one load.

    Attributes:
        table: The table.
        window: The window that was to be replaced; None for a load by cursor.
        reports: The reports of the load, and of waiting rejects that were loaded as well.
        error: Why nothing was loaded, if nothing was.
        waited: Whether this is a second attempt, after a table that the load waited for.
    """

    table: SourceTable
    window: Window | None = None
    reports: tuple[LoadReport, ...] = ()
    error: Exception | None = None
    waited: bool = False

    @property
    def name(self) -> str:
        """The table, and the window if there is one."""
        return self.table.name if self.window is None else f"{self.table.name} {self.window.key}"

    def problems(self, platform: Platform) -> list[str]:
        """Return the reasons why the table, or some of its files, were not loaded."""
        if self.error is not None:
            return [f"{self.table.name}: {platform.text_of(self.error)}"]
        return [
            f"{report.table}: {file.path}: {file.problem}"
            for report in self.reports
            for file in report.refused
        ]


class LoadOne(Protocol):
    """Loads one table or window, as `load_one` does."""

    def __call__(
        self, platform: Platform, table: SourceTable, window: Window | None, *, again: bool
    ) -> LoadReport:
        """Return the report of the load."""


def load_in_order(
    platform: Platform, loads: Sequence[Load], *, again: bool = False, load: LoadOne = load_one
) -> Iterator[Outcome]:
    """Load tables, parents before children, and then the loads that waited for one of them.

    A table that cannot be loaded does not stop the remaining ones.

    Args:
        platform: The platform.
        loads: The tables, or the windows of a table.
        again: Read all of the sources, whatever was loaded before.
        load: The function that loads one of them.

    Yields:
        The outcome of each load. A later outcome of a table replaces an earlier one.

    Raises:
        LoadChoiceError: A table that may not be read again.
        LakebedError: PostgreSQL cannot be reached, or the settings are wrong.
    """
    appended = [table.name for table, _ in loads if again and table.write_mode == "append"]
    if appended:
        raise LoadChoiceError(
            f"{', '.join(appended)} cannot be read again: append would add every row twice. "
            f"Undo its loads first, `lakebed rollback {appended[0]} --reload`, or use "
            "write_mode='merge' with a key"
        )
    for table, window in _parents_first(platform, loads):
        try:
            outcome = Outcome(table, window, (load(platform, table, window, again=again),))
        except Exception as error:
            if exit_code(error) != FAILED:
                raise
            outcome = Outcome(table, window, error=error)
        yield outcome
    for finished in finish_loads(
        platform.settings,
        platform.postgres,
        platform.clock,
        platform.tables,
        asked=[table.name for table, _ in loads],
    ):
        yield Outcome(finished.table, None, finished.reports, finished.error, waited=True)


def _parents_first(platform: Platform, loads: Sequence[Load]) -> list[Load]:
    if len({table.name for table, _ in loads}) < 2:
        return list(loads)
    with platform.postgres.connect(autocommit=True) as connection:
        order = load_order(connection, platform.tables)
    place = {table.name: number for number, table in enumerate(order)}
    return sorted(loads, key=lambda load: place[load[0].name])


def write_lake_copies(
    platform: Platform, table: SourceTable, *, changed: bool = False
) -> tuple[list[LakeCopy], list[str]]:
    """Copy a changed table without partitions to the lake, and renew the catalogs.

    Args:
        platform: The platform.
        table: The table that was loaded.
        changed: Copy the table even if the ledger has no change.

    Returns:
        The written copies, and the reasons of failures.
    """
    try:
        taken = write_due_copies(platform, table, changed=changed)
    except Exception as error:
        if exit_code(error) != FAILED:
            raise
        why = f"{table.name}: its rows are committed, its copy in the lake was not written"
        return [], [f"{why}: {platform.text_of(error)}. The next load writes it"]
    problems = renew_catalog(platform) if taken else []
    return taken, problems + refresh_catalog(platform, table)


def renew_catalog(platform: Platform) -> list[str]:
    """Write the catalog file; return why it could not be written, if it could not."""
    try:
        write_catalog(platform)
    except Exception as error:
        if exit_code(error) != FAILED:
            raise
        return [f"the catalog file could not be written: {platform.text_of(error)}"]
    return []
