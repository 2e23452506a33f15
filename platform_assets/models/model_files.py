"""The files of a model: those that are live, and those that a build writes.

What is in them is not known here, nor what a run does with them: see `increment`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
from psycopg import sql
from psycopg.types.json import Jsonb

from lakebed.models.model import Model
from lakebed.resources.lake_files import LakeFiles, NewFile
from lakebed.resources.postgres import Connection
from lakebed.resources.tiers import blooms, listed, parquet
from lakebed.spec.names import model_file_path
from lakebed.spec.partitions import Window

Columns = tuple[tuple[str, str], ...]
"""Name and DuckDB type of each column, in order."""


@dataclass(frozen=True)
class LiveFile:
    """A file of an incremental model that is a part of its rows. address: as DuckDB opens it.

    lower, upper: the window that it holds, where the model is built by windows.
    """

    number: int
    address: str
    rows: int
    bytes: int
    columns: Columns
    lower: datetime | None = None
    upper: datetime | None = None


@dataclass(frozen=True)
class Written:
    """A file that a build wrote and nobody can read yet."""

    file: NewFile
    columns: Columns
    rows: int
    bytes: int
    lower: datetime | None = None
    upper: datetime | None = None

    @property
    def body(self) -> sql.Composable:
        """The query that gives its rows, until it is published."""
        return parquet(listed([str(self.file.writing)]))


@dataclass
class FileWriter:
    """Writes the files of one build; they get their names together, or are all taken away.

    first: the number of the first of them.
    """

    files: LakeFiles
    model: Model
    first: int
    written: list[Written] = field(default_factory=list)

    def write(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: sql.Composable,
        columns: Columns,
        window: Window | None = None,
    ) -> Written:
        """Write the rows of a query, which has these columns, into a file.

        window: the one whose rows they are, all of them. Raises duckdb.Error, LakeFileError.
        """
        file = self.files.reserve(
            lambda number: model_file_path(self.model.group, self.model.name, number), self.first
        )
        self.first = file.generation + 1
        try:
            copy = sql.SQL("copy ({}\n) to {} (format parquet, compression zstd{})").format(
                query, sql.Literal(str(file.writing)), blooms(kind for _, kind in columns)
            )
            rows = int(connection.execute(copy.as_string()).fetchall()[0][0])
            lower, upper = (window.lower, window.upper) if window else (None, None)
            made = Written(file, columns, rows, file.bytes, lower, upper)
        except BaseException:
            file.discard()
            raise
        self.written.append(made)
        return made

    def drop(self, written: Written) -> None:
        """Take one of the files away, for another one that holds its rows."""
        self.written.remove(written)
        written.file.discard()

    def publish(self, on_step: Callable[[str], None]) -> None:
        """Give the files their names; nobody knows them before a transaction says so."""
        for written in self.written:
            written.file.publish()
            on_step("named")

    def discard(self) -> None:
        """Take all files away. Only while no transaction can have named them."""
        for written in self.written:
            written.file.discard()


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
            tuple((n, k) for n, k in columns),
            lower,
            upper,
        )
        for number, path, count, size, columns, lower, upper in rows
    )


def next_number(connection: Connection, model: str) -> int:
    """Return the number of a model's next file."""
    row = connection.execute(
        "select coalesce(max(number), 0) + 1 from lakebed.model_file where model = %s", [model]
    ).fetchall()[0]
    return int(row[0])


def record(
    connection: Connection, model: str, kept: tuple[int, ...], written: Sequence[Written]
) -> None:
    """Say in a transaction that these files are the model's: some that it had, and new ones."""
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
                Jsonb(list(map(list, new.columns))),
                new.lower,
                new.upper,
            ],
        )
