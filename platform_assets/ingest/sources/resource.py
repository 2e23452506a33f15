"""dlt resources: run through dlt's own iteration, item after item, into batches.

Items may be dicts, lists of dicts, Arrow tables, polars or pandas frames. What is nested becomes
JSON text. dlt's state is not kept: where a resource has an incremental, it begins at the cursor of
Lakebed's ledger, or a little before. dlt gives out dicts one by one: see values.py for the cost.
"""

from __future__ import annotations

import importlib
import inspect
from abc import abstractmethod
from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from lakebed.ingest.sources.queried import TimedReader
from lakebed.ingest.sources.reader import (
    Batch,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    row_numbers,
    shortened,
)
from lakebed.ingest.sources.values import column, json_column
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import DltResource

ROWS_AT_ONCE = 10_000


class ResourceReader(TimedReader):
    """What is the same for all dlt resources."""

    _json: frozenset[str] = frozenset()

    def keep_json(self, columns: Collection[str]) -> None:
        """Let strings of these columns stay JSON strings, where rows are dicts."""
        self._json = frozenset(columns)

    def columns(self, item: SourceItem) -> None:
        """Return None: only the rows can say."""

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows; of a resource that can be asked for them, those from the cursor on."""
        row = 1
        try:
            for frame, others in _frames(self._open(columns, newer), columns, self._json):
                yield Batch(frame, row_numbers(row, frame.height), others=others)
                row += frame.height
        except (SourceError, GeneratorExit):
            raise
        except Exception as error:
            root = _root(error)
            if isinstance(root, SourceError):
                raise root from None
            raise SourceError(
                self.path, f"it failed after row {row - 1} ({self.words(root)})"
            ) from None

    @abstractmethod
    def _open(self, columns: list[str], newer: tuple[str, Any] | None) -> Iterator[Any]:
        """Return what yields the items of the resource. Raises SourceError."""


class DltReader(ResourceReader):
    """Reads DltResource."""

    def __init__(self, source: DltResource, settings: Settings) -> None:
        """Read the resource that source names."""
        label = f"{source.resource}/{source.select}" if source.select else source.resource
        super().__init__(label, label, source.every, settings)
        self._source = source

    def _open(self, columns: list[str], newer: tuple[str, Any] | None) -> Iterator[Any]:
        from dlt.extract.incremental import Incremental
        from dlt.extract.resource import DltResource as Resource
        from dlt.extract.source import DltSource

        from lakebed.resources.dlt_pipelines import configure_dlt

        configure_dlt()
        found = self._import()
        arguments = self.with_secrets(dict(self._source.arguments))
        if newer is not None and callable(found):
            for name, parameter in inspect.signature(found).parameters.items():
                given = arguments.get(name, parameter.default)
                if isinstance(given, Incremental) and given.cursor_path in (newer[0], None):
                    arguments[name] = _starting_at(given, newer[1])
        if callable(found) and (not isinstance(found, Resource) or arguments):
            found = found(**arguments)
        if isinstance(found, DltSource):
            names = ", ".join(found.resources)
            wanted = self._source.select or (names if len(found.resources) == 1 else "")
            if wanted not in found.resources:
                raise SourceError(self.path, f"select=... names one of its resources: {names}")
            found = found.resources[wanted]
        if not isinstance(found, Resource):
            raise SourceError(self.path, f"it is {type(found).__name__}. Expected a dlt resource")
        ours = found.with_name(found.name)  # a copy: the step below is not for its other readers
        ours.add_step(OfTable(self.path, found, self._source.table).rows)
        return iter(ours)

    def _import(self) -> Any:
        module, _, name = self._source.resource.partition(":")
        try:
            found: Any = importlib.import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise SourceError(
                self.path,
                f"it cannot be imported ({first_line(error)}); install the package, or put its "
                "folder into PYTHONPATH",
            ) from error
        return found


class OfTable:
    """Keeps the rows that a dlt resource gives to one table, as it can give each to another."""

    def __init__(self, path: str, resource: Any, declared: str | None) -> None:
        """Keep rows of the declared table; for None, keep only rows without a table name."""
        self._path = path
        self._of_row = resource.table_name if callable(resource.table_name) else None
        self._plain = resource.name if self._of_row else resource.table_name
        self._declared = declared

    def rows(self, item: Any, meta: Any = None) -> Any:
        """Return what is ours of an item, None where nothing is. Raises SourceError."""
        from dlt.extract.hints import HintsMeta
        from dlt.extract.items import TableNameMeta

        if self._of_row is not None and meta is None:
            if not isinstance(item, list):
                return item if self._is_ours(self._of_row(item)) else None
            return [row for row in item if self._is_ours(self._of_row(row))] or None
        name = self._plain
        if isinstance(meta, TableNameMeta):
            name = meta.table_name
        elif type(meta) is HintsMeta:  # its subclass hands over a file
            name = (meta.hints or {}).get("table_name") or name
        elif meta is not None:
            raise SourceError(
                self._path,
                f"it hands over more than rows ({type(meta).__name__}), such as whole files, which "
                "a DltResource cannot be read from; let it yield the rows",
            )
        return item if self._is_ours(name) else None

    def _is_ours(self, name: str) -> bool:
        if self._declared is not None:
            return name == self._declared
        if name != self._plain:
            raise SourceError(
                self._path,
                f"it gives rows to a table of its own, {shortened(name)!r}; say which rows this "
                f"table takes, with DltResource(table={shortened(name)!r}) or another name, and "
                "declare each remaining table in its own table file",
            )
        return True


def _starting_at(incremental: Any, value: Any) -> Any:
    """Return a copy of an incremental that begins at a value, in the form of its initial value.

    Text is compared as text: it begins a day early, so that the form of the time cannot matter.
    """
    first = incremental.initial_value
    if isinstance(value, datetime | date) and isinstance(first, str):
        day = (value - timedelta(days=1)).isoformat()[:10]
        value = day if "T" not in first else f"{day}T00:00:00{'Z' if first.endswith('Z') else ''}"
    elif isinstance(value, datetime) and isinstance(first, int | float):
        raise ValueError(
            "its incremental counts time as a number, which the cursor is not; make the cursor a "
            "number in the table file"
        )
    elif isinstance(first, datetime) and isinstance(value, datetime):
        value = value.replace(tzinfo=None) if first.tzinfo is None else value.astimezone(UTC)
    copy = incremental.copy()
    copy.initial_value = value
    return copy


def _frames(
    items: Iterator[Any], columns: list[str], json: frozenset[str]
) -> Iterator[tuple[pl.DataFrame, tuple[str, ...]]]:
    rows: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, dict):
            rows.append(item)
        elif isinstance(item, list):
            strange = [type(row).__name__ for row in item if not isinstance(row, dict)]
            if strange:
                raise TypeError(f"it yields a list of {strange[0]}, not of rows as dicts")
            rows += item
        else:
            if rows:
                yield _of_dicts(rows, columns, json)
                rows = []
            yield _of_table(_tabular(item), columns)
        if len(rows) >= ROWS_AT_ONCE:
            yield _of_dicts(rows, columns, json)
            rows = []
    if rows:
        yield _of_dicts(rows, columns, json)


def _of_dicts(
    rows: list[dict[str, Any]], columns: list[str], json: frozenset[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    names = set().union(*rows)
    frame = pl.DataFrame(
        [
            (json_column if name in json else column)(name, [row.get(name) for row in rows])
            for name in columns
        ]
    )
    return frame, tuple(sorted(names - set(columns)))


def _of_table(frame: pl.DataFrame, columns: list[str]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    found = []
    for name in columns:
        if name not in frame.columns:
            found.append(pl.Series(name, [None], dtype=pl.Null).new_from_index(0, frame.height))
        elif frame[name].dtype.is_nested():
            found.append(column(name, frame[name].to_list()))
        else:
            found.append(frame[name])
    others = tuple(name for name in frame.columns if name not in columns)
    return pl.DataFrame(found), others


def _tabular(item: Any) -> pl.DataFrame:
    if isinstance(item, pl.DataFrame):
        return item
    if isinstance(item, pl.LazyFrame):
        return item.collect()
    if isinstance(item, pa.RecordBatch):
        item = pa.Table.from_batches([item])
    elif not isinstance(item, pa.Table):
        if not hasattr(item, "columns"):
            raise TypeError(
                f"it yields {type(item).__name__}, which is neither rows as dicts nor a table"
            )
        item = pa.Table.from_pandas(item, preserve_index=False)
    return frame_of(item)


def _root(error: BaseException) -> BaseException:
    """Return what went wrong first: dlt wraps it several times."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
