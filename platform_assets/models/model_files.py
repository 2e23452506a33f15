"""The files of a model: read the live ones, write and publish new ones.

`increment` decides which files a run writes and replaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
from psycopg import sql
from psycopg.types.json import Jsonb

from lakebed.models.model import Model, ModelError
from lakebed.resources.lake_files import LakeFiles, NewFile
from lakebed.resources.live_models import grouped, rows_of
from lakebed.resources.postgres import Connection
from lakebed.resources.stored_form import (
    Forms,
    StoredColumn,
    TooWideError,
    UnstorableError,
    as_stored,
)
from lakebed.resources.tiers import blooms
from lakebed.spec.names import model_file_path
from lakebed.spec.partitions import Window
from lakebed.spec.steps import OnBuildStep

Columns = tuple[tuple[str, str], ...]
"""Name and DuckDB type of each column, in order."""
Layout = tuple[StoredColumn, ...]
"""The columns of a file, in order, with the types that they have in it."""


@dataclass(frozen=True)
class LiveFile:
    """A live file of an incremental model.

    Attributes:
        address: The address by which DuckDB opens it.
        lower: The start of its window, where the model is built by windows.
        upper: The end of its window.
    """

    number: int
    address: str
    rows: int
    bytes: int
    layout: Layout
    lower: datetime | None = None
    upper: datetime | None = None

    @property
    def columns(self) -> Columns:
        """Name and DuckDB type of each column, as the model's query gave it."""
        return columns_in(self.layout)


@dataclass(frozen=True)
class Written:
    """A file that a build wrote and has not published."""

    file: NewFile
    layout: Layout
    rows: int
    bytes: int
    lower: datetime | None = None
    upper: datetime | None = None

    @property
    def address(self) -> str:
        """Where its rows are, until it is published."""
        return str(self.file.writing)

    @property
    def columns(self) -> Columns:
        """Name and DuckDB type of each column, as the model's query gave it."""
        return columns_in(self.layout)

    @property
    def body(self) -> sql.Composable:
        """The query that gives its rows, until it is published."""
        return rows_in([self], self.columns)


@dataclass
class FileWriter:
    """Writes the files of one build, and publishes or deletes all of them together.

    Attributes:
        first: The number of the first file.
        forms: The form in which each column is stored.
    """

    files: LakeFiles
    model: Model
    first: int
    forms: Forms = field(default_factory=Forms)
    written: list[Written] = field(default_factory=list)

    def write(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: sql.Composable,
        window: Window | None = None,
    ) -> Written:
        """Write the rows of a query into a file.

        Args:
            connection: The DuckDB session.
            query: The query.
            window: The window that these rows fill, if the model is built by windows.

        Raises:
            duckdb.Error: DuckDB refuses the query.
            LakeFileError: The lake refuses the file.
            ModelError, TooWideError: As `copied` raises them.
        """
        file = self.files.reserve(
            lambda number: model_file_path(self.model.group, self.model.name, number), self.first
        )
        self.first = file.generation + 1
        try:
            layout, rows = copied(connection, self.model, query, file, self.forms)
            lower, upper = (window.lower, window.upper) if window else (None, None)
            made = Written(file, layout, rows, file.bytes, lower, upper)
        except BaseException:
            file.discard()
            raise
        self.written.append(made)
        return made

    def drop(self, written: Written) -> None:
        """Delete one of the files, because another file holds its rows."""
        self.written.remove(written)
        written.file.discard()

    def publish(self, on_step: OnBuildStep) -> None:
        """Give the files their final names. Readers see them only after the commit."""
        for written in self.written:
            written.file.publish()
            on_step("named")

    def discard(self) -> None:
        """Delete all files. Call it only while no transaction can have recorded them."""
        for written in self.written:
            written.file.discard()


def copied(
    connection: duckdb.DuckDBPyConnection,
    model: Model,
    query: sql.Composable,
    file: NewFile,
    forms: Forms,
) -> tuple[Layout, int]:
    """Write the rows of a query into a Parquet file. Return its columns and its number of rows.

    Raises:
        duckdb.Error: DuckDB refuses the query.
        ModelError: Parquet cannot hold a column.
        TooWideError: A value needs another stored form of its column.
    """
    try:
        layout = forms.columns(connection, query)
    except UnstorableError as error:
        raise ModelError(
            model.path,
            None,
            f"{model.name!r} cannot be stored: {error}",
            f"Cast it in the query, {error.name}::varchar for instance, or build a view.",
        ) from error
    copy = sql.SQL("copy ({}\n) to {} (format parquet, compression zstd{})").format(
        as_stored(query, layout),
        sql.Literal(str(file.writing)),
        blooms(column.stored for column in layout),
    )
    try:
        return layout, int(connection.execute(copy.as_string()).fetchall()[0][0])
    except duckdb.ConversionException as error:
        if forms.exact or all(column.kind == column.stored for column in layout):
            raise
        # The query itself may be at fault; then this raises its error again.
        raise TooWideError(str(error)) from error


def columns_in(layout: Layout) -> Columns:
    """Return name and DuckDB type of each column, as the model's query gave it."""
    return tuple((column.name, column.kind) for column in layout)


def rows_in(
    files: Sequence[LiveFile | Written], columns: Columns, file_name: str | None = None
) -> sql.Composable:
    """Return the query that reads columns of files in these types.

    Args:
        files: The files.
        columns: Name and type of each column.
        file_name: The name of an extra column with the address of the file.
    """
    return rows_of(grouped((file.layout, file.address) for file in files), columns, file_name)


def layout_of(columns: Sequence[Sequence[str]]) -> Layout:
    """Return the columns of a file from their JSON."""
    return tuple(StoredColumn(*column) for column in columns)


def live_files(connection: Connection, files: LakeFiles, model: str) -> tuple[LiveFile, ...]:
    """Return the live files of an incremental model, the oldest first."""
    rows = connection.execute(
        "select number, path, rows, bytes, columns, lower_bound, upper_bound"
        " from lakebed.model_file where model = %s and superseded_at is null order by number",
        [model],
    ).fetchall()
    return tuple(
        LiveFile(
            number,
            files.address(path),
            count,
            size,
            layout_of(columns),
            lower,
            upper,
        )
        for number, path, count, size, columns, lower, upper in rows
    )


def stored_before(connection: Connection, model: str) -> dict[str, str]:
    """Return the stored DuckDB type of each column of a model's newest file."""
    rows = connection.execute(
        "select columns from lakebed.model_version where model = %s and superseded_at is null",
        [model],
    ).fetchall()
    return {
        column.name: column.stored for (columns,) in rows for column in layout_of(columns or ())
    }


def next_number(connection: Connection, model: str) -> int:
    """Return the number of a model's next file."""
    row = connection.execute(
        "select coalesce(max(number), 0) + 1 from lakebed.model_file where model = %s", [model]
    ).fetchall()[0]
    return int(row[0])


def record(
    connection: Connection, model: str, kept: tuple[int, ...], written: Sequence[Written]
) -> None:
    """Record the live files of a model in the transaction: those it keeps, and new ones."""
    connection.execute(
        "update lakebed.model_file set superseded_at = clock_timestamp()"
        " where model = %s and superseded_at is null and not number = any(%s)",
        [model, list(kept)],
    )
    for new in written:
        connection.execute(
            "insert into lakebed.model_file (model, number, path, rows, bytes, columns,"
            " lower_bound, upper_bound) values (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                model,
                new.file.generation,
                str(new.file.path),
                new.rows,
                new.bytes,
                Jsonb(list(map(list, new.layout))),
                new.lower,
                new.upper,
            ],
        )
