"""Write an export: DuckDB streams one snapshot of hot and cold into one file.

A sort that does not fit in memory spills to a folder next to the lake. The bytes of CSV and
Parquet do not depend on the time, the machine or the number of threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import duckdb
from psycopg import sql

from lakebed.exports.query import FLOATS, Selection, selection
from lakebed.exports.target import MARK, ExportFailedError, failed, target_of, written
from lakebed.resources.private import make_private_folder
from lakebed.resources.session import ReadSession
from lakebed.resources.tiers import blooms
from lakebed.spec.export import Export, ExportError
from lakebed.store.platform import Platform

ROW_GROUP_ROWS = 122_880
POLL_SECONDS = 0.2
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Exported:
    """A written file. target: its path or URL.  columns: name and type, for a single table."""

    name: str
    target: str
    format: str
    rows: int
    bytes: int
    seconds: float
    columns: tuple[tuple[str, str], ...]


def write_export(
    platform: Platform, export: Export, *, on_bytes: Callable[[int], None] = lambda total: None
) -> Exported:
    """Write an export to its target. After an error the target is unchanged.

    Args:
        platform: The platform.
        export: The export.
        on_bytes: Called from time to time with the size of the file.

    Raises:
        ExportError: The export cannot be used as declared.
        ExportFailedError: The file cannot be written.
        SourceError: The object store fails.
    """
    started = time.monotonic()
    target = target_of(export, platform.settings)
    if target != export.path and not Path(export.path).is_absolute():
        make_private_folder(Path(target).parent)
    with written(target, export.kind, platform) as path:
        with platform.lake.session() as session, _clear_errors(export, target, path):
            chosen = [selection(session, export, name) for name in export.names]
            with _watched(path, on_bytes):
                if export.kind == "duckdb":
                    rows = _write_database(session, chosen, path)
                else:
                    rows = _copy(session, chosen[0], export, str(path))
        size = path.stat().st_size
    return Exported(
        export.name,
        target,
        export.kind,
        rows,
        size,
        time.monotonic() - started,
        chosen[0].columns if len(chosen) == 1 else (),
    )


def stream_export(platform: Platform, export: Export, stream: BinaryIO) -> int:
    """Write an export as CSV to a stream. Return its number of rows.

    Raises:
        ExportError: The export is not CSV, or cannot be used as declared.
        ExportFailedError: The export cannot be written.
        BrokenPipeError: The reader of the stream has gone.
    """
    if export.kind not in ("csv", "csv.gz"):
        raise ExportError(f"Standard output takes only CSV, not {export.kind}. Name a file")
    with (
        platform.lake.session() as session,
        _piped_to(stream) as path,
        _clear_errors(export, "standard output", Path(path)),
    ):
        return _copy(session, selection(session, export, export.names[0]), export, path)


def _copy(
    session: ReadSession, chosen: Selection, export: Export, path: str, *, dictionaries: bool = True
) -> int:
    statement = sql.SQL("copy ({}) to {} ({})").format(
        chosen.query, sql.Literal(path), _options(export, chosen, dictionaries)
    )
    with session.pruned(chosen.query.as_string()):
        rows = int(session.bare.execute(statement.as_string()).fetchall()[0][0])
        lost = dictionaries and export.kind == "parquet" and _lost_zeros(session, chosen, path)
    return _copy(session, chosen, export, path, dictionaries=False) if lost else rows


def _lost_zeros(session: ReadSession, chosen: Selection, path: str) -> bool:
    """Whether zeros in a Parquet file have another sign than the written values.

    In DuckDB's dictionary encoding each zero has the sign of the first one.
    """
    counts = [count for name, kind in chosen.columns if (count := _zeros(name, kind)) is not None]
    if not counts:
        return False
    query = sql.SQL("select {} from ({})")
    file = sql.SQL("from read_parquet({})").format(sql.Literal(path))
    every, negative = (sql.SQL(", ").join(each) for each in zip(*counts, strict=True))

    def counted(what: sql.Composable, source: sql.Composable) -> tuple[int, ...]:
        return session.bare.execute(query.format(what, source).as_string()).fetchall()[0]

    if not any(counted(every, file)):
        return False
    return counted(negative, file) != counted(negative, chosen.query)


def _zeros(name: str, kind: str) -> tuple[sql.Composable, sql.Composable] | None:
    """Return SQL that counts the zeros, and the negative zeros, of a column of floats or lists."""
    base, column = kind.removesuffix("[]"), sql.Identifier(name)
    if base not in FLOATS:
        return None
    if base == kind:
        form = sql.SQL("count(*) filter ({0} = 0 and {1})")
        return form.format(column, sql.SQL("true")), form.format(
            column, sql.SQL("signbit({})").format(column)
        )
    form = sql.SQL("coalesce(sum(len(list_filter({0}, lambda x: x = 0 and {1}))), 0)")
    return form.format(column, sql.SQL("true")), form.format(column, sql.SQL("signbit(x)"))


def _options(export: Export, chosen: Selection, dictionaries: bool) -> sql.Composable:
    if export.kind == "parquet":
        return sql.SQL(
            "format parquet, compression zstd, row_group_size {}, use_tmp_file false{}{}"
        ).format(
            sql.Literal(ROW_GROUP_ROWS),
            blooms(kind for _, kind in chosen.columns),
            sql.SQL("" if dictionaries else ", dictionary_size_limit 0"),
        )
    return sql.SQL(
        "format csv, header {}, delimiter {}, nullstr {}, quote '\"', escape '\"',"
        " compression {}, use_tmp_file false"
    ).format(
        sql.Literal(export.csv.header),
        sql.Literal(export.csv.delimiter),
        sql.Literal(export.csv.null),
        sql.Literal("gzip" if export.kind == "csv.gz" else "none"),
    )


def _write_database(session: ReadSession, chosen: list[Selection], path: Path) -> int:
    """Write tables and the marker table into a DuckDB file. Return the number of rows."""
    connection, out = session.bare, sql.Identifier("lakebed_out")
    attach = sql.SQL("attach {} as {}").format(sql.Literal(str(path)), out)
    connection.execute(attach.as_string())
    mark = sql.Identifier("lakebed_out", "main", MARK)
    create = sql.SQL("create table {} (table_name varchar, row_count bigint)").format(mark)
    connection.execute(create.as_string())
    total = 0
    for each in chosen:
        table = sql.Identifier("lakebed_out", "main", each.name)
        statement = sql.SQL("create table {} as {}").format(table, each.query)
        with session.pruned(each.query.as_string()):
            rows = int(connection.execute(statement.as_string()).fetchall()[0][0])
        entry = sql.SQL("insert into {} values ({}, {})").format(
            mark, sql.Literal(each.name), sql.Literal(rows)
        )
        connection.execute(entry.as_string())
        total += rows
    connection.execute("commit")
    connection.execute(sql.SQL("detach {}").format(out).as_string())  # and its log is in the file
    return total


@contextmanager
def _clear_errors(export: Export, target: str, path: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.IOException as error:
        if str(path) in str(error):
            raise failed(target, error) from error
        raise
    except duckdb.Error as error:
        raise ExportFailedError(
            f"export {export.name!r}: {error}\nNothing was written; {target} is as it was"
        ) from error


@contextmanager
def _watched(path: Path, on_bytes: Callable[[int], None]) -> Iterator[None]:
    """Report the size of a file from time to time, while DuckDB occupies the calling thread."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(POLL_SECONDS):
            if path.exists():
                on_bytes(path.stat().st_size)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _piped_to(stream: BinaryIO) -> Iterator[str]:
    """Yield a path whose bytes go to the stream. Raises what the stream raises."""
    reader, writer = os.pipe()
    problems: list[OSError] = []

    def carry() -> None:
        try:
            with os.fdopen(reader, "rb", buffering=0) as source:
                while chunk := source.read(CHUNK_BYTES):
                    stream.write(chunk)
                stream.flush()
        except OSError as error:
            problems.append(error)  # the pipe is closed, and so DuckDB stops

    carrier = threading.Thread(target=carry, daemon=True)
    carrier.start()
    try:
        yield f"/dev/fd/{writer}"
    finally:
        os.close(writer)
        carrier.join()
        if problems:
            raise problems[0]
