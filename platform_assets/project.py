"""Use a project from Python: load, move, query and inspect it, in scripts and notebooks.

from lakebed import Lakebed

with Lakebed() as lake:
    lake.load("flights")
    lake.move("flights", due=True)
    lake.sql("select count(*) as n from flights").rows()    # [(336776,)]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow as pa

from lakebed.errors import LakebedError, PartlyFailedError
from lakebed.ingest.report import LoadReport
from lakebed.monitoring.status import PlatformStatus, read_status
from lakebed.operations.load_tables import (
    chosen_loads,
    chosen_tables,
    load_in_order,
    renew_catalog,
    windows_of,
    write_lake_copies,
)
from lakebed.operations.move_table import answer_requests, due_partitions, move_partitions
from lakebed.resources.pruning import Parameters
from lakebed.resources.session import ReadSession
from lakebed.resources.settings import Settings, read_settings
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.report import Moved


class ClosedError(LakebedError, RuntimeError):
    """A Lakebed object was used after its `with` block had ended."""


@dataclass(frozen=True)
class QueryResult:
    """The rows of a query, held in memory.

    Attributes:
        columns: The names of the columns, in order.
        arrow: The rows as an Arrow table.
    """

    columns: tuple[str, ...]
    arrow: pa.Table = field(repr=False, compare=False)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return the rows as tuples of Python values."""
        columns = [column.to_pylist() for column in self.arrow.columns]
        return list(zip(*columns, strict=True)) if columns else []

    def polars(self) -> pl.DataFrame:
        """Return the rows as a polars DataFrame."""
        return pl.DataFrame(self.arrow)

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    def __str__(self) -> str:
        return str(self.polars())


class Lakebed:
    """A project and its tables. Opens nothing until a method needs it.

    Args:
        settings: The settings; by default those of the project that `folder` is in.
        folder: The folder where the search for the project begins; by default the working folder.

    Raises:
        SettingsError: No project was found, or a setting cannot be used.
        TableError: A table file cannot be used.
    """

    def __init__(
        self, settings: Settings | None = None, *, folder: Path | str | None = None
    ) -> None:
        """Read the settings and the table files."""
        if settings is None:
            settings = read_settings(folder=None if folder is None else Path(folder))
        self._open: Platform | None = open_platform(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the use of this object. Each method has closed its connections already."""
        self._open = None

    @property
    def _platform(self) -> Platform:
        if self._open is None:
            raise ClosedError("This Lakebed object is closed. Make a new one: Lakebed()")
        return self._open

    @property
    def settings(self) -> Settings:
        """The settings that this object works with."""
        return self._platform.settings

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that the table files declare."""
        return tuple(table.name for table in self._platform.tables)

    def load(
        self, *tables: str, windows: Sequence[str] = (), again: bool = False
    ) -> list[LoadReport]:
        """Load what is new in the sources of tables, parents before the tables that refer to them.

        Args:
            tables: Names of tables; without one, every table that has a source and is not loaded
                by window.
            windows: Partition keys such as "2024-03", of one table that is loaded by window.
            again: Read all of the sources, whatever was loaded before.

        Returns:
            One report for each load, in the order of loading, including loads that had waited
            for one of these tables.

        Raises:
            TableError: A table is unknown or has no source.
            PartlyFailedError: A table or a file was not loaded. The rest was loaded; `done` has
                its reports.
        """
        platform = self._platform
        chosen = chosen_tables(platform, tables)
        reports: list[LoadReport] = []
        problems: dict[str, list[str]] = {}
        loads = chosen_loads(chosen, windows, skip_windowed=not tables)
        for outcome in load_in_order(platform, loads, again=again):
            reports += outcome.reports
            problems[outcome.name] = outcome.problems(platform)
            if outcome.error is None:
                problems[outcome.name] += write_lake_copies(platform, outcome.table)[1]
        _raise_if([text for texts in problems.values() for text in texts], reports)
        return reports

    def move(
        self,
        table: str,
        *partitions: str,
        due: bool = False,
        as_of: datetime | None = None,
        jobs: int = 1,
    ) -> list[Moved]:
        """Move partitions of a table to the lake, each in a transaction of its own.

        Args:
            table: The name of a table with tiering.
            partitions: Partition keys such as "2024-03".
            due: Move every partition that its policy says is due, instead of named ones.
            as_of: With due, the time to use as now.
            jobs: How many partitions are moved at once.

        Returns:
            One report for each partition, in order.

        Raises:
            ValueError: Both or none of partitions and due are given.
            TableError: The table is unknown or has no tiering, or a key does not fit its grain.
            PartlyFailedError: A partition was not moved. The rest was; `done` has its reports.
        """
        if bool(partitions) == due:
            raise ValueError("Give partition keys, or due=True")
        if as_of is not None and not (due and as_of.tzinfo is not None):
            raise ValueError("as_of goes with due=True and needs a time zone")
        platform = self._platform
        spec = platform.table(table)
        _ = spec.require_tiering
        chosen, requests = due_partitions(platform, spec, as_of) if due else ([], [])
        chosen = chosen if due else windows_of(spec, partitions)
        by_policy = (as_of or platform.clock.now()) if due else None
        moved: list[Moved] = []
        problems: list[str] = []
        for outcome in move_partitions(platform, spec, chosen, jobs=jobs, by_policy=by_policy):
            if outcome.moved is not None:
                moved.append(outcome.moved)
            elif outcome.error is not None:
                problems.append(platform.text_of(outcome.error))
        answer_requests(platform, spec, requests, problems[0] if problems else None)
        problems += renew_catalog(platform) if moved else []
        moved.sort(key=lambda one: one.partition_key)
        _raise_if(problems, moved)
        return moved

    def sql(self, query: str, params: Parameters = None) -> QueryResult:
        """Run one statement over both tiers, in one snapshot, and return its rows.

        Args:
            query: DuckDB's SQL. Each table and model is a view.
            params: Values for ? (a list) or $name (a dict).

        Raises:
            duckdb.Error: DuckDB refuses the statement.
            LakeReadError: The query has more than one statement.
        """
        with self.session() as session, session.stream(query, params) as result:
            table = result.to_arrow_table()
        return QueryResult(tuple(table.column_names), table)

    @contextmanager
    def session(self) -> Iterator[ReadSession]:
        """Open one snapshot for several queries that must be consistent with each other."""
        with self._platform.lake.session() as session:
            yield session

    def status(self) -> PlatformStatus:
        """Return where the rows are: each table and partition, hot, due, cold or late."""
        return read_status(self._platform)


def _raise_if(problems: Sequence[str], done: Sequence[object]) -> None:
    if problems:
        text = f"{len(problems)} not done:\n  " + "\n  ".join(problems)
        raise PartlyFailedError(text, done=tuple(done))
