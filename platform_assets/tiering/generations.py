"""The generations of a partition: what the manifest says of them, and what their files hold."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from psycopg import sql

from lakebed.errors import TieringError, VerificationError
from lakebed.pgcopy.cold_rows import as_they_are_now
from lakebed.spec.postgres_types import types_of
from lakebed.spec.schema import Column
from lakebed.store.fingerprint import Fingerprint
from lakebed.store.grain_mismatch import check_grain
from lakebed.tiering.cold_file import Written
from lakebed.tiering.partition import Partition


@dataclass(frozen=True)
class Generation:
    """The live generation of a partition. columns: name and PostgreSQL type of its file's."""

    number: int
    path: PurePosixPath
    fingerprint: Fingerprint
    columns: dict[str, str]
    sha256: str


def generations(partition: Partition) -> tuple[Generation | None, int]:
    """Return the live generation, or None, and the last number in use.

    Raises GrainError if rows of the partition are cold under another grain.
    """
    check_grain(partition.ask, partition.table, partition.window)
    query = sql.SQL(
        "select generation, path, fingerprint::text, columns::text, sha256,"
        " superseded_at is null as live"
        " from lakebed.cold_file where table_name = {} and partition_key = {} order by generation"
    ).format(partition.table.name, partition.window.key)
    rows = partition.ask(query)
    live = [_generation(*values) for *values, live in rows if live]
    return (live[0] if live else None), max((row[0] for row in rows), default=0)


def superseded(partition: Partition) -> list[tuple[Generation, bool]]:
    """Return the generations that are live no more and still there, in order.

    With each, whether a backup, or a load that can be undone, names it.
    """
    query = sql.SQL(
        "select generation, path, fingerprint::text, columns::text, sha256,"
        " exists (select from lakebed.backup_cold p where (p.table_name, p.partition_key,"
        " p.generation) = (f.table_name, f.partition_key, f.generation))"
        " or exists (select from lakebed.load_superseded p where (p.table_name, p.partition_key,"
        " p.generation) = (f.table_name, f.partition_key, f.generation)) as pinned"
        " from lakebed.cold_file f where table_name = {} and partition_key = {}"
        " and superseded_at is not null and removed_at is null order by generation"
    ).format(partition.table.name, partition.window.key)
    return [(_generation(*values), pinned) for *values, pinned in partition.ask(query)]


def _generation(number: int, path: str, fingerprint: str, columns: str, sha256: str) -> Generation:
    return Generation(
        number,
        PurePosixPath(path),
        Fingerprint.from_json(json.loads(fingerprint)),
        {column["name"]: column["type"] for column in json.loads(columns)},
        sha256,
    )


def verified(partition: Partition, old: Generation) -> Fingerprint:
    """Return the fingerprint of a generation's file, computed from the file.

    Raises VerificationError if the file differs from the manifest.
    """
    found = partition.fingerprint(parquet(partition, old), columns_of(partition, old))
    damage = found.differences(old.fingerprint)
    if damage:
        raise VerificationError(
            f"{partition.files.address(old.path)} is not what the manifest says: "
            f"{'; '.join(damage)}. Restore the file from a copy of the lake, then run `lakebed "
            "move` again"
        )
    return found


def check_bytes(partition: Partition, old: Generation) -> None:
    """Raises VerificationError where a generation's file is not, byte by byte, what was written."""
    try:
        problem = partition.files.sha256(old.path) != old.sha256
    except FileNotFoundError:
        problem = True
    if problem:
        raise VerificationError(
            f"{partition.files.address(old.path)} is not the file that was written: it is gone, or "
            "its SHA-256 differs. Restore it from a copy of the lake, then run it again"
        )


def parquet(partition: Partition, generation: Generation) -> sql.Composable:
    """Return the relation of a generation's file, in DuckDB."""
    return sql.SQL("read_parquet([{}], hive_partitioning = false)").format(
        sql.Literal(partition.files.address(generation.path))
    )


def rows_of(partition: Partition, old: Generation) -> sql.Composable:
    """Return the query of a generation's rows, in the columns and types that the table has now."""
    columns = as_they_are_now(partition.table.columns, old.columns)
    return sql.SQL("select {} from {}").format(columns, parquet(partition, old))


def columns_of(partition: Partition, old: Generation) -> list[Column]:
    """Return the columns of an older file, with the types that they have there."""
    table = partition.table
    lost = sorted(old.columns.keys() - set(table.column_names))
    if lost:
        raise TieringError(
            f"{partition}: the cold file has a column {lost[0]} that the contract does not "
            "declare, and a rewrite would lose it; nothing was moved. Declare it in the model, "
            "nullable"
        )
    columns = [column for column in table.columns if column.name in old.columns]
    return [_as_it_was(partition, column, old.columns[column.name]) for column in columns]


def supersede(partition: Partition, old: Generation) -> None:
    """Make the live generation live no more, in the transaction."""
    partition.do(
        sql.SQL(
            "update lakebed.cold_file set superseded_at = clock_timestamp() where table_name = {}"
            " and partition_key = {} and generation = {} and superseded_at is null"
        ).format(partition.table.name, partition.window.key, old.number)
    )


def record(partition: Partition, written: Written, *, live: bool = True) -> None:
    """Name a new file in the manifest, in the transaction; live or superseded from the start."""
    columns = [{"name": c.name, "type": c.postgres} for c in partition.table.columns]
    partition.do(
        sql.SQL(
            "insert into lakebed.cold_file (table_name, partition_key, generation, path, rows,"
            " bytes, sha256, lower_bound, upper_bound, time_min, time_max, fingerprint, columns,"
            " superseded_at) values"
            " ({}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}::jsonb, {}::jsonb, {})"
        ).format(
            partition.table.name,
            partition.window.key,
            written.generation,
            str(written.file.path),
            written.fingerprint.rows,
            written.bytes,
            written.sha256,
            partition.window.lower.isoformat(),
            partition.window.upper.isoformat(),
            written.first.isoformat(),
            written.last.isoformat(),
            json.dumps(written.fingerprint.to_json()),
            json.dumps(columns),
            sql.SQL("null" if live else "clock_timestamp()"),
        )
    )


def _as_it_was(partition: Partition, column: Column, postgres: str) -> Column:
    if column.postgres == postgres:
        return column
    types = types_of(postgres)
    if types is None:
        raise TieringError(
            f"{partition}: column {column.name} is {postgres} in the cold file and "
            f"{column.postgres} now; nothing was moved. Declare it as it was"
        )
    return replace(column, types=types)
