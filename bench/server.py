"""A database for one run of the benchmark, and loads into it by hand and through the asset.

The server is the embedded one of a home below the temporary folder, or that of
LAKEBED_POSTGRES_URL; there a database of our own is made and dropped, and no other is touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pgpq
import polars as pl
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from psycopg import sql

from bench.lineitem import KEY, Lineitem, lineitem
from lakebed.resources import embedded
from lakebed.resources.settings import read_settings
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.schema import arrow_schema
from lakebed.store.platform import Platform, open_platform

ROOT = Path(__file__).resolve().parent.parent
BATCH_ROWS = 131_072
CHUNK_BYTES = 1 << 20

COPY = sql.SQL("copy {} from stdin (format binary)")
UPSERT = """\
insert into lineitem as hot select * from incoming
on conflict ({key}) do update set {changes}"""


class LoadError(RuntimeError):
    """A measured load failed, or loaded other rows than expected."""


@dataclass(frozen=True)
class Loaded:
    """The cost of a load through the asset, measured in the process of the run.

    import_seconds: the part of the seconds spent on imports.  bytes_read: without the bytes of
    modules; None where the system does not count.
    """

    seconds: float
    import_seconds: float
    rows_read: int
    inserted: int
    updated: int
    peak_mb: float
    bytes_read: int | None


class Server:
    """The database of this run."""

    def __init__(self, url: str, home: Path) -> None:
        self.url = url
        self.home = home
        self.data = home / "data"
        self.platform: Platform = open_platform(
            read_settings(self.environment(), home), (lineitem("*.parquet"),)
        )

    def environment(self) -> dict[str, str]:
        """Return the settings that make a load use this database and these files."""
        return {"LAKEBED_HOME": str(self.home), "LAKEBED_POSTGRES_URL": self.url}

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows, if it has any."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def empty(self) -> None:
        """Create the table again, with its partition tables, and delete its load history."""
        table = self.platform.table("lineitem")
        with self.platform.postgres.connect(autocommit=True) as connection:
            connection.execute("drop table if exists lineitem")
            connection.execute("delete from lakebed.loaded_file")
            ensure_table(connection, table)
            ensure_partition_tables(connection, table, table.windows(self.platform.clock.now()))
        self.flush()

    def flush(self) -> None:
        """Write dirty pages to disk, so that the next load does not pay for them."""
        may = "select pg_has_role(current_user, 'pg_checkpoint', 'member')"
        if self.execute(may)[0][0]:
            self.execute("checkpoint")

    def copy(self, encoded: Path) -> float:
        """COPY BINARY an encoded file into the table; return the seconds."""
        with self.platform.postgres.connect() as connection:
            started = time.perf_counter()
            _send(connection, "lineitem", encoded)
            connection.commit()
            return time.perf_counter() - started

    def copy_one_after_the_other(self, parquet: Path) -> float:
        """Read, check, encode and COPY each batch in one thread; return the seconds."""
        schema = Lineitem.to_schema()
        started = time.perf_counter()
        with self.platform.postgres.connect() as connection, connection.cursor() as cursor:
            encoder = pgpq.ArrowToPostgresBinaryEncoder(_wire())
            with cursor.copy(COPY.format(sql.Identifier("lineitem"))) as stream:
                stream.write(encoder.write_header())
                for batch in _batches(parquet):
                    frame = pl.from_arrow(pa.Table.from_batches([batch]))
                    assert isinstance(frame, pl.DataFrame)
                    schema.validate(frame, lazy=True)
                    stream.write(encoder.write_batch(batch))
                stream.write(encoder.finish())
            connection.commit()
        return time.perf_counter() - started

    def upsert_by_hand(self, encoded: Path) -> float:
        """COPY an encoded file to a temporary table, then INSERT ON CONFLICT; return seconds."""
        others = [name for name in Lineitem.to_schema().columns if name not in KEY]
        statement = UPSERT.format(
            key=", ".join(KEY), changes=", ".join(f"{name} = excluded.{name}" for name in others)
        )
        with self.platform.postgres.connect() as connection:
            started = time.perf_counter()
            connection.execute(
                "create temporary table incoming (like lineitem including defaults) on commit drop"
            )
            _send(connection, "incoming", encoded)
            connection.execute(statement)
            connection.commit()
            return time.perf_counter() - started

    def load(self, glob: str, write_mode: str = "append", **more: Any) -> Loaded:
        """Materialize hot/lineitem in a process of its own.

        more: further fields of SourceTable. Raises LoadError, or LookupError for a field that
        SourceTable does not have.
        """
        lineitem(glob, write_mode, **more)
        asked = json.dumps({"glob": glob, "write_mode": write_mode} | more)
        done = subprocess.run(
            [sys.executable, "-m", "bench.load_once", asked],
            cwd=ROOT,
            env=without_settings() | self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LoadError(f"the load of {glob} failed:\n{done.stderr[-3000:]}")
        report = json.loads(done.stdout.splitlines()[-1])
        if report["rows_rejected"] or report["failed_checks"]:
            raise LoadError(f"the load of {glob} is not clean: {report}")
        return Loaded(
            report["seconds"],
            report["import_seconds"],
            report["rows_read"],
            report["rows_inserted"],
            report["rows_updated"],
            report["peak_mb"],
            report["bytes_read"],
        )

    def rows(self) -> int:
        """Return how many rows the table has."""
        return int(self.execute("select count(*) from lineitem")[0][0])


@contextmanager
def server(home: Path) -> Iterator[Server]:
    """Create a database and its server object. Drop the database afterwards."""
    with database(home) as url:
        yield Server(url, home)


@contextmanager
def database(home: Path) -> Iterator[str]:
    """Make a database on the embedded server or on that of LAKEBED_POSTGRES_URL; drop it after."""
    given = read_settings().postgres_url
    url = given or embedded.join(home)
    name = f"lakebed_bench_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        except psycopg.errors.InsufficientPrivilege as error:
            raise LoadError(
                "The user of LAKEBED_POSTGRES_URL cannot create databases. Use one that can, or "
                "unset it to use the embedded server"
            ) from error
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
            )


def encode(parquet: Path, target: Path) -> int:
    """Write a Parquet file's rows as the bytes of COPY BINARY; return their number."""
    encoder = pgpq.ArrowToPostgresBinaryEncoder(_wire())
    rows = 0
    with target.open("wb") as out:
        out.write(encoder.write_header())
        for batch in _batches(parquet):
            out.write(encoder.write_batch(batch))
            rows += batch.num_rows
        out.write(encoder.finish())
    return rows


def without_settings() -> dict[str, str]:
    """Return the environment without Lakebed's settings, which would reach into another home."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LAKEBED_")}


def _batches(parquet: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(parquet) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            yield batch.cast(_wire())


def _wire() -> pa.Schema:
    return arrow_schema(lineitem("*.parquet").columns)


def _send(connection: psycopg.Connection[Any], table: str, encoded: Path) -> None:
    with (
        encoded.open("rb") as source,
        connection.cursor() as cursor,
        cursor.copy(COPY.format(sql.Identifier(table))) as stream,
    ):
        while chunk := source.read(CHUNK_BYTES):
            stream.write(chunk)
