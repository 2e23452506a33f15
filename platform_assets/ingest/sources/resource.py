"""dlt resources and HTTP APIs: run through dlt's own iteration, page after page, into batches.

Items may be dicts, lists of dicts, Arrow tables, polars or pandas frames. What is nested becomes
JSON text. dlt's state is not kept: where a resource has an incremental, it begins at the cursor of
Lakebed's ledger, or a little before. dlt gives out dicts one by one: see values.py for the cost.
"""

from __future__ import annotations

import importlib
import inspect
from abc import abstractmethod
from collections.abc import Iterator
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
)
from lakebed.ingest.sources.values import column, text_of
from lakebed.resources.settings import Settings
from lakebed.spec.queried_sources import DltResource, RestApi

ROWS_AT_ONCE = 10_000


class ResourceReader(TimedReader):
    """What is the same for all dlt resources."""

    def columns(self, item: SourceItem) -> None:
        """Return None: only the rows can say."""

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows; of a resource that can be asked for them, those from the cursor on."""
        row = 1
        try:
            for frame, others in _frames(self._open(newer), columns):
                yield Batch(frame, row_numbers(row, frame.height), others=others)
                row += frame.height
        except (SourceError, GeneratorExit):
            raise
        except Exception as error:
            raise SourceError(
                self.path, f"it failed after row {row - 1} ({self.words(_root(error))})"
            ) from None

    @abstractmethod
    def _open(self, newer: tuple[str, Any] | None) -> Iterator[Any]:
        """Return what yields the items of the resource. Raises SourceError."""


class RestReader(ResourceReader):
    """Reads RestApi."""

    def __init__(self, source: RestApi, settings: Settings) -> None:
        """Read the list that source names."""
        path = f"{source.base_url.rstrip('/')}/{source.path.lstrip('/')}"
        super().__init__(path, path, source.every, settings)
        self._source = source

    def _open(self, newer: tuple[str, Any] | None) -> Iterator[Any]:
        from dlt.sources.rest_api import rest_api_resources

        source = self._source
        params = dict(source.params)
        if newer is not None and source.cursor_param is not None:
            value = newer[1]
            params[source.cursor_param] = (
                value.strftime(source.cursor_format)
                if source.cursor_format is not None
                else text_of(value)
            )
        client = {
            "base_url": source.base_url,
            "headers": dict(source.headers) or None,
            "auth": None if source.auth is None else dict(source.auth),
            "paginator": dict(source.paginator)
            if source.paginator is not None and not isinstance(source.paginator, str)
            else source.paginator,
        }
        endpoint = {"path": source.path, "params": params, "data_selector": source.data_selector}
        config = {
            "client": {k: v for k, v in self.with_secrets(client).items() if v is not None},
            "resources": [
                {
                    "name": "rows",
                    "endpoint": {
                        k: v for k, v in self.with_secrets(endpoint).items() if v is not None
                    },
                }
            ],
        }
        (resource,) = rest_api_resources(config)  # type: ignore[arg-type]
        return iter(resource)


class DltReader(ResourceReader):
    """Reads DltResource."""

    def __init__(self, source: DltResource, settings: Settings) -> None:
        """Read the resource that source names."""
        label = f"{source.resource}/{source.select}" if source.select else source.resource
        super().__init__(label, label, source.every, settings)
        self._source = source

    def _open(self, newer: tuple[str, Any] | None) -> Iterator[Any]:
        from dlt.extract.incremental import Incremental
        from dlt.extract.resource import DltResource as Resource
        from dlt.extract.source import DltSource

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
            raise SourceError(self.path, f"it is no dlt resource, but {type(found).__name__}")
        return iter(found)

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
    items: Iterator[Any], columns: list[str]
) -> Iterator[tuple[pl.DataFrame, tuple[str, ...]]]:
    rows: list[dict[str, Any]] = []
    for item in items:
        if isinstance(item, dict):
            rows.append(item)
        elif isinstance(item, list):
            rows += item
        else:
            if rows:
                yield _of_dicts(rows, columns)
                rows = []
            yield _of_table(_tabular(item), columns)
        if len(rows) >= ROWS_AT_ONCE:
            yield _of_dicts(rows, columns)
            rows = []
    if rows:
        yield _of_dicts(rows, columns)


def _of_dicts(
    rows: list[dict[str, Any]], columns: list[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    names = set().union(*rows)
    frame = pl.DataFrame([column(name, [row.get(name) for row in rows]) for name in columns])
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
