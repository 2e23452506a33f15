"""What readers of databases, APIs and dlt resources share.

They read in one transaction of their source, so an item cannot change while it is read. Its version
is determined before that: rows committed in between are read, and the next look finds them again.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from psycopg import sql

from lakebed.ingest.sources.files import FoundFiles
from lakebed.ingest.sources.places import stat_version
from lakebed.ingest.sources.reader import (
    MOMENT,
    Batch,
    Reader,
    SourceError,
    SourceItem,
    first_line,
    frame_of,
    row_numbers,
)
from lakebed.resources.clock import SystemClock
from lakebed.resources.extensions import in_memory
from lakebed.resources.settings import Settings, SettingsError, read_secret
from lakebed.spec.queried_sources import secrets_in

DUCKDB_MEMORY = "128MB"


class DatabaseFileReader(FoundFiles):
    """A table of database files: found by a glob; the version is size and time of file and log."""

    log_suffix = ""

    def __init__(self, pattern: str, table: str, data: Path) -> None:
        """Look for pattern below data."""
        super().__init__(pattern, data)
        self._table = table

    def find(self) -> list[SourceItem]:
        """Return the table of each file. Raises SourceError where a file that is named is missing.

        The write-ahead log of a file is part of its version.
        """
        found = super().find()
        if not found and not glob.has_magic(self._pattern):
            raise SourceError(
                str(self._data / self._pattern),
                "the file does not exist; put it there, or correct database=... in the table file",
            )
        return [
            SourceItem(item.path, self._version(item), item.bytes, f"{item.name}:{self._table}")
            for item in found
        ]

    def check_unchanged(self, item: SourceItem) -> None:
        """Do nothing: the rows were read in one snapshot."""

    def _version(self, item: SourceItem) -> str:
        try:
            log = Path(f"{item.path}{self.log_suffix}").stat()
        except FileNotFoundError:
            return item.version
        # A log without a byte holds nothing; it comes and goes with those who only read.
        return f"{item.version}-{stat_version(log)}" if log.st_size else item.version


class TimedReader(Reader):
    """A reader of one item that cannot say whether it has changed: read again every so often."""

    def __init__(self, path: str, name: str, every: timedelta, settings: Settings) -> None:
        """Call the item by path in errors, by name in the ledger."""
        self.path = path
        self._name = name
        self._every = every
        self._settings = settings
        self._hidden: set[str] = set()

    def find(self) -> list[SourceItem]:
        """Return the item at this moment: a load that is asked for is done."""
        return [self._at(SystemClock().now())]

    def glance(self) -> list[SourceItem]:
        """Return the item as of the last time that it was due."""
        past = SystemClock().now() - datetime.min.replace(tzinfo=UTC)
        return [self._at(datetime.min.replace(tzinfo=UTC) + past // self._every * self._every)]

    def check_unchanged(self, item: SourceItem) -> None:
        """Do nothing: the rows were read as they were."""

    def _at(self, moment: datetime) -> SourceItem:
        text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return SourceItem(self.path, f"{MOMENT}{text}", 0, self._name)

    def secret(self, name: str) -> str:
        """Return a secret, which `words` removes from errors from now on. Raises SourceError."""
        try:
            value = read_secret(self._settings.home, name)
        except SettingsError as error:
            raise SourceError(self.path, str(error)) from None
        self._hidden.add(value)
        return value

    def with_secrets(self, value: Any) -> Any:
        """Return nested mappings and lists with each Secret replaced by its value."""
        if isinstance(value, dict):
            return {key: self.with_secrets(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.with_secrets(part) for part in value]
        found = secrets_in(value)
        return self.secret(found[0].setting) if found else value

    def words(self, error: BaseException) -> str:
        """Return the first line of an error without secrets."""
        text = first_line(error)
        for hidden in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(hidden, "***")
        return text


@contextmanager
def private_duckdb(*extensions: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an in-memory DuckDB in UTC with little memory, which reads other databases."""
    connection = in_memory(extensions)
    try:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(
            sql.SQL("set memory_limit = {}").format(sql.Literal(DUCKDB_MEMORY)).as_string()
        )
        yield connection
    finally:
        connection.interrupt()
        connection.close()


def batches_of(reader: pa.RecordBatchReader) -> Iterator[Batch]:
    """Yield the batches of a stream from Arrow as they come."""
    row = 1
    for batch in reader:
        frame = frame_of(pa.Table.from_batches([batch]))
        yield Batch(frame, row_numbers(row, frame.height))
        row += frame.height
