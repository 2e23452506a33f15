"""Verifying the files of the lake against the manifest, long after the moves. Changes nothing.

Each live file must exist with the size that the manifest says. Deep: the file is read, and its
SHA-256 and the fingerprint of its rows must equal those of the day it was written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import duckdb
from psycopg import sql

from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.lake_owner import ForeignLakeError
from lakebed.resources.postgres import Connection
from lakebed.schema.evolved import effective
from lakebed.spec.postgres_types import polars_type, types_of
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint, fingerprint_query, read_fingerprint
from lakebed.store.platform import Platform


@dataclass(frozen=True)
class CheckedFile:
    """A live file and its problem, None if it is intact.

    partition_key: empty for the lake copy of an unpartitioned table.
    """

    table: str
    partition_key: str
    generation: int
    path: str
    rows: int
    bytes: int
    problem: str | None = None


@dataclass(frozen=True)
class _Entry:
    """What the manifest says of a live file. columns: name -> PostgreSQL type in the file."""

    file: CheckedFile
    sha256: str
    fingerprint: Fingerprint
    columns: dict[str, str]


def verify(
    platform: Platform,
    table: SourceTable,
    keys: Collection[str] | None = None,
    *,
    deep: bool = False,
    on_file: Callable[[str], None] = lambda path: None,
) -> list[CheckedFile]:
    """Check the live files of a table, or of some of its partitions, in the order of time.

    A damaged file is looked up in the manifest once more: if it was superseded and removed in
    between, it is left out. Raises PostgresUnavailableError, and ForeignLakeError if a file is
    missing because the lake belongs to another database.
    """
    with platform.postgres.connect(autocommit=True) as connection:
        table = effective(connection, table)
        entries = [
            entry
            for entry in _entries(connection, table)
            if keys is None or entry.file.partition_key in keys
        ]
        if not entries:
            return []
        platform.lake.owner.check_readable()
        found = _sizes(platform, table, [entry.file for entry in entries])
        if deep:
            found = _read_all(platform, table, entries, found, on_file)
        live = {entry.file.path for entry in _entries(connection, table)}
    wrong = any(file.problem for file in found)
    if wrong and (problem := platform.lake.owner.problem()) is not None:
        raise ForeignLakeError(problem)
    return [file for file in found if file.problem is None or file.path in live]


def _entries(connection: Connection, table: SourceTable) -> list[_Entry]:
    rows = connection.execute(
        "select table_name, partition_key, generation, path, rows, bytes,"
        " sha256, fingerprint::text, columns::text from ("
        "select table_name, partition_key, generation, path, rows, bytes, sha256, fingerprint,"
        " columns, superseded_at, lower_bound from lakebed.cold_file union all"
        " select table_name, '', generation, path, rows, bytes, sha256, fingerprint, columns,"
        " superseded_at, null from lakebed.lake_copy) files"
        " where table_name = %s and superseded_at is null order by lower_bound",
        [table.name],
    ).fetchall()
    return [
        _Entry(
            CheckedFile(*file),
            digest,
            Fingerprint.from_json(json.loads(fingerprint)),
            {column["name"]: column["type"] for column in json.loads(columns)},
        )
        for *file, digest, fingerprint, columns in rows
    ]


def _sizes(
    platform: Platform, table: SourceTable, files: Sequence[CheckedFile]
) -> list[CheckedFile]:
    """Hold the sizes of files against those in the manifest, from one listing."""
    there = {stored.path: stored.bytes for stored in platform.lake.files.listing(table.name)}
    return [_sized(file, there.get(PurePosixPath(file.path))) for file in files]


def _sized(file: CheckedFile, size: int | None) -> CheckedFile:
    if size is None:
        return _wrong(file, "it is not there")
    if size != file.bytes:
        return _wrong(file, f"it has {size:,} bytes, and had {file.bytes:,} when it was written")
    return file


def _read_all(
    platform: Platform,
    table: SourceTable,
    entries: Sequence[_Entry],
    sized: Sequence[CheckedFile],
    on_file: Callable[[str], None],
) -> list[CheckedFile]:
    found = []
    with platform.lake.attached(read_only=True) as duck:
        for entry, file in zip(entries, sized, strict=True):
            on_file(file.path)
            found.append(file if file.problem else _read(platform, table, entry, duck))
    return found


def _read(
    platform: Platform, table: SourceTable, entry: _Entry, duck: duckdb.DuckDBPyConnection
) -> CheckedFile:
    lake, file = platform.lake.files, entry.file
    try:
        if lake.sha256(file.path) != entry.sha256:
            return _wrong(file, "its SHA-256 is another one than when it was written")
        columns = _columns(table, entry)
        relation = sql.SQL("read_parquet([{}], hive_partitioning = false)").format(
            sql.Literal(lake.address(file.path))
        )
        query = fingerprint_query(columns, relation, "duckdb").as_string()
        read = read_fingerprint(columns, duck.execute(query).fetchall()[0])
    except (OSError, LakeFileError, duckdb.Error) as error:
        return _wrong(file, f"it cannot be read: {str(error).splitlines()[0]}")
    wrong = read.differences(_known(entry.fingerprint, columns))
    return _wrong(file, "; ".join(wrong)) if wrong else file


def _columns(table: SourceTable, entry: _Entry) -> list[Column]:
    """Return the columns of a file with their types in the file, as far as they are known.

    A column that left the contract, of a type that only a contract can name, is left out.
    """
    declared = {column.name: column for column in table.columns}
    return [
        column
        for name, postgres in entry.columns.items()
        if (column := _column(name, postgres, declared.get(name))) is not None
    ]


def _column(name: str, postgres: str, declared: Column | None) -> Column | None:
    if declared is not None and declared.postgres == postgres:
        return declared
    types = types_of(postgres)
    dtype = polars_type(postgres)
    if types is None or dtype is None:
        return None
    return Column(name, dtype, types, True, False, "", ())


def _known(fingerprint: Fingerprint, columns: Sequence[Column]) -> Fingerprint:
    names = {column.name for column in columns}
    kept = {name: value for name, value in fingerprint.columns.items() if name in names}
    return Fingerprint(fingerprint.rows, kept)


def _wrong(file: CheckedFile, problem: str) -> CheckedFile:
    return replace(file, problem=problem)
