"""Time a load against the floor of COPY, and a move against DuckDB's bare copy, on made-up events.

    python -m bench [ROWS]        default 1,000,000

Each figure is the median of three runs over the same rows in the same server. The floor is COPY
BINARY of bytes that were encoded before the clock started.
"""

from __future__ import annotations

import atexit
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandera.polars as pa
import pgpq
import polars as pl
from psycopg import sql
from rich.console import Console
from rich.table import Table

from lakebed.ingest.load import load_table
from lakebed.resources.settings import read_settings
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.schema import arrow_schema
from lakebed.spec.table import Grain, ParquetFiles, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.move import move

START = datetime(2024, 1, 1, tzinfo=UTC)
RUNS = 3


class Event(pa.DataFrameModel):
    """Made-up events of four months."""

    happened_at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64 = pa.Field(ge=0)
    user: pl.Int32 = pa.Field(ge=0)
    kind: str = pa.Field(isin=["view", "click", "order", "refund"])
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    score: pl.Float64
    note: str = pa.Field(nullable=True)


def events(name: str, write_mode: str, key: tuple[str, ...]) -> SourceTable:
    """Return a table over the made-up file."""
    return SourceTable(
        name=name,
        model=Event,
        source=ParquetFiles(glob="events.parquet"),
        cursor="happened_at",
        key=key,
        write_mode=write_mode,
        partitioning=Partitioning(
            column="happened_at",
            grain=Grain.MONTH,
            start=START,
            end=datetime(2024, 5, 1, tzinfo=UTC),
        ),
        tiering=Tiering(hot_for=timedelta(0)),
    )


TABLES = (events("appended", "append", ()), events("merged", "merge", ("happened_at", "id")))


def write_events(path: Path, rows: int) -> pl.DataFrame:
    """Write the made-up file; the same rows at each call."""
    step = timedelta(days=120).total_seconds() * 1e6 / rows
    number = pl.int_range(rows, dtype=pl.Int64)
    frame = pl.select(
        happened_at=pl.lit(START) + pl.duration(microseconds=(number * step).cast(pl.Int64)),
        id=number,
        user=(number * 7919 % 50_000).cast(pl.Int32),
        kind=pl.Series(["view", "click", "order", "refund"]).gather(number % 4),
        amount=(number % 100_000 / 100).cast(pl.Decimal(12, 2)),
        score=(number * 31 % 1000) / 7,
        note=pl.format("event {} of user {}", number, number * 7919 % 50_000),
    )
    frame.write_parquet(path)
    return frame


def main() -> None:
    """Run everything and print one table."""
    rows = int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 1_000_000
    home = Path(tempfile.mkdtemp(prefix="lakebed-bench-"))
    # Registered before the server joins, so that it runs after the server stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    home.chmod(0o755)
    (home / "data").mkdir()
    frame = write_events(home / "data" / "events.parquet", rows)
    platform = open_platform(read_settings({"LAKEBED_HOME": str(home)}, home), TABLES)
    console = Console()
    table = Table(title=f"{rows:,} rows of {len(frame.columns)} columns, median of {RUNS}")
    for name in ("what", "seconds", "rows/s", "of the floor"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for name in ("appended", "merged"):
        time_loads(platform, name, frame, table)
    time_moves(platform, rows, table)
    console.print(table)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"peak memory of this process, the made-up rows included: {peak:,.0f} MB")


def time_loads(platform: Platform, name: str, frame: pl.DataFrame, out: Table) -> None:
    """Time the floor and our load into the same empty table."""
    table = platform.table(name)
    wire = arrow_schema(table.columns)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(wire)
    batches = frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(wire).to_batches(131_072)
    encoded = [encoder.write_header(), *map(encoder.write_batch, batches), encoder.finish()]

    def copy() -> None:
        statement = sql.SQL("copy {} from stdin (format binary)").format(sql.Identifier(name))
        with (
            platform.postgres.connect() as connection,
            connection.cursor() as cursor,
            cursor.copy(statement) as stream,
        ):
            for chunk in encoded:
                stream.write(chunk)

    floor = median(copy, lambda: empty(platform, name))
    line(out, f"COPY BINARY, encoded beforehand, into {name}", floor, frame.height, floor)

    def load() -> None:
        load_table(platform.settings, platform.postgres, platform.clock, table)

    line(
        out,
        f"lakebed load {name}: read, dlt, pandera, encode, COPY",
        median(load, lambda: empty(platform, name)),
        frame.height,
        floor,
    )


def time_moves(platform: Platform, rows: int, out: Table) -> None:
    """Time DuckDB's bare copy of the table to Parquet, and our moves of the same rows."""
    table = platform.table("merged")
    windows = list(table.windows(platform.clock.now()))

    def copy() -> None:
        with platform.lake.attached(read_only=False) as connection:
            for window in windows:
                target = platform.settings.home / f"bare_{window.key}.parquet"
                statement = sql.SQL(
                    "copy (select * from pg.public.merged where happened_at >= {}"
                    " and happened_at < {} order by happened_at) to {} (compression zstd)"
                ).format(window.lower.isoformat(), window.upper.isoformat(), str(target))
                connection.execute(statement.as_string())

    floor = median(copy, lambda: None)
    line(out, "DuckDB: Postgres to sorted zstd Parquet, bare", floor, rows, floor)
    started = time.perf_counter()
    for window in windows:
        move(platform.lake, table, window)
    seconds = time.perf_counter() - started
    line(out, "lakebed move: copied, verified, recorded, deleted", seconds, rows, floor)


def empty(platform: Platform, name: str) -> None:
    """Create the table again, with its partition tables, and delete its load history."""
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(name)))
        connection.execute("delete from lakebed.loaded_file where table_name = %s", [name])
        table = platform.table(name)
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, table.windows(platform.clock.now()))
        connection.execute("checkpoint")


def median(run: Callable[[], None], before: Callable[[], None]) -> float:
    """Return the median of the seconds of three runs, each after its preparation."""
    times = []
    for _ in range(RUNS):
        before()
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def line(out: Table, what: str, seconds: float, rows: int, floor: float) -> None:
    """Add one figure."""
    out.add_row(what, f"{seconds:.2f}", f"{rows / seconds:,.0f}", f"{floor / seconds:.2f}")


if __name__ == "__main__":
    main()
