"""The cases of `make bench-tiering`: each fills the tables that it needs, and adds its lines.

A case measures every figure of its ratios, so that it can run alone.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg import sql

from bench import tpch
from lakebed.demo.demo_files import write_demo_files
from lakebed.demo.demo_folders import TABLES as DEMO_TABLES
from lakebed.ingest.load import load_table
from lakebed.resources.extras import MissingExtraError
from lakebed.resources.settings import read_settings
from lakebed.resources.tiers import listed, parquet
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from lakebed.tiering.move_many import move_many
from lakebed.tiering.partition_tables import tidy
from lakebed.tiering.pending import with_work

COUNT_DISTINCT = "select count(distinct l_partkey) from lineitem"
AGGREGATE = "select l_shipmode, count(*), sum(l_quantity), sum(l_tax) from lineitem{} group by 1"
CUT = "'1995-01-01'"
MANY = 10_000
ONE_DAY = (
    "select count(*) from lineitem where l_shipdate >= '1994-03-01' and l_shipdate < '1994-03-02'"
)


class BenchError(RuntimeError):
    """The operation to measure failed."""


@dataclass(frozen=True)
class Line:
    """A line of the table. ratio: a number.  against: its reference.  limit: the target."""

    case: str
    what: str
    seconds: float | None = None
    rows: int | None = None
    ratio: float | None = None
    against: str = ""
    limit: str = ""


@dataclass
class Bench:
    """One run: its database, and the lines so far. tell: prints progress."""

    home: Path
    url: str
    scale: float
    runs: int
    tell: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        """Make the rows of lineitem, and the table that they are copied from for each case."""
        settings = read_settings(
            {"LAKEBED_HOME": str(self.home), "LAKEBED_POSTGRES_URL": self.url}, self.home
        )
        lineitem = next(table for table in tpch.tables() if table.name == "lineitem")
        self.platform: Platform = open_platform(settings, (lineitem,))
        with tpch.generated(self.platform, self.scale) as duck:
            tpch.insert(duck, self.table)
        self.execute("create table kept as table lineitem")
        self.execute("vacuum (analyze) kept")
        self.rows = self.execute("select count(*) from kept")[0][0]

    @property
    def table(self) -> SourceTable:
        """The table lineitem."""
        return self.platform.table("lineitem")

    def add(self, case: str, what: str, seconds: float | None = None, **more: Any) -> None:
        """Add a line to the table."""
        self.lines.append(Line(case, what, seconds, **more))
        self.tell(f"{case}: {what}" + ("" if seconds is None else f", {seconds:.3f} s"))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement in PostgreSQL; return its rows, if it has any."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def fill(self) -> None:
        """Put all rows back into the hot tier, and forget the cold one."""
        self.execute("delete from lakebed.cold_file")
        self.execute("delete from lakebed.cold_delete")
        shutil.rmtree(self.platform.settings.lake, ignore_errors=True)
        self.execute("truncate lineitem")
        self.execute("insert into lineitem select * from kept")
        self.execute("vacuum (analyze) lineitem")
        self.execute("checkpoint")

    def windows(self, until: str = "'9999-01-01'") -> list[Window]:
        """Return the windows that hold hot rows, of those that end by some time."""
        every = list(self.table.windows(self.platform.clock.now()))
        with self.platform.postgres.connect() as connection:
            found = with_work(connection, self.table, every)
        return [window for window in found if window.upper.isoformat() <= until.strip("'")]

    def move(self, windows: list[Window], jobs: int = 1) -> float:
        """Move windows; return the seconds. Raises BenchError."""
        started = time.perf_counter()
        for _, moved in move_many(self.platform.lake, self.table, windows, jobs):
            if isinstance(moved, Exception):
                raise BenchError(str(moved)) from moved
        return time.perf_counter() - started

    def tidy(self) -> None:
        """Vacuum the emptied partition tables, and write dirty pages to disk, like `fill`."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            waits = [
                note
                for note in tidy(connection, self.table, self.platform.clock.now())
                if note.what == "waits"
            ]
        if waits:
            raise BenchError(f"{waits[0].partition_table} is not vacuumed: {waits[0].why}")
        self.execute("checkpoint")

    def ask(self, *queries: str) -> list[float]:
        """Return the median seconds of each query over both tiers, without opening the session."""
        with self.platform.lake.session() as session:
            return [self.median(lambda q=q: session.sql(q).fetchall()) for q in queries]

    def median(self, run: Callable[[], Any]) -> float:
        """Return the median seconds of some runs, after one that is not counted."""
        run()
        return statistics.median(_seconds(run) for _ in range(self.runs))


def moves(bench: Bench) -> None:
    """A move with its verification against DuckDB's bare copy; partitions side by side."""
    bare, ordered, one, two = [], [], [], []
    for _ in range(bench.runs):
        bench.fill()
        windows = bench.windows()
        bare.append(_seconds(lambda w=windows: _bare_copy(bench, w, "")))
        ordered.append(_seconds(lambda w=windows: _bare_copy(bench, w, " order by l_shipdate")))
        one.append(bench.move(windows))
        bench.fill()
        two.append(bench.move(bench.windows(), jobs=2))
    floor, sorted_, moved, side_by_side = map(statistics.median, (bare, ordered, one, two))
    of_bare = {"rows": bench.rows, "against": "of the bare copy's speed"}
    bench.add("move", "DuckDB: Postgres to zstd Parquet, bare", floor, ratio=1.0, **of_bare)
    bench.add("move", "    the same, sorted", sorted_, ratio=floor / sorted_, **of_bare)
    what = "a move: copied sorted, verified, recorded, deleted"
    bench.add("move", what, moved, ratio=floor / moved, limit="at least 0.5, aim 0.8", **of_bare)
    bench.add(
        "move",
        "    two partitions at once",
        side_by_side,
        rows=bench.rows,
        ratio=moved / side_by_side,
        against="times the speed of one at a time",
    )


def sizes(bench: Bench) -> None:
    """The size of the cold files compared with the rows in PostgreSQL."""
    bench.fill()
    before = _hot_bytes(bench.platform, "lineitem")
    bench.move(bench.windows())
    _add_size(bench, bench.platform, "lineitem", before)
    settings = read_settings(
        {
            "LAKEBED_HOME": str(bench.home / "flights"),
            "LAKEBED_POSTGRES_URL": bench.url,
            "LAKEBED_TABLES": str(DEMO_TABLES),
            "LAKEBED_DATA": str(bench.home / "flights" / "data"),
        },
        bench.home,
    )
    try:
        write_demo_files(settings.data)
    except MissingExtraError as error:
        bench.add("size", f"flights: skipped, {error}")
        return
    platform = open_platform(settings)
    flights = platform.table("flights")
    load_table(settings, platform.postgres, platform.clock, flights)
    before = _hot_bytes(platform, "flights")
    for _, moved in move_many(platform.lake, flights, list(flights.windows(platform.clock.now()))):
        if isinstance(moved, Exception):
            raise BenchError(str(moved)) from moved
    _add_size(bench, platform, "flights", before)


def queries(bench: Bench) -> None:
    """TPC-H Q1, Q6 and a COUNT DISTINCT on the cold tier, in PostgreSQL, and in bare DuckDB.

    PostgreSQL runs twice: with one plain table, as in TPC-H, and with the hot tier, where Q6 needs
    one partition table. Emptied partition tables are vacuumed, as by autovacuum or
    `lakebed housekeep`.
    """
    asked = {"Q1": tpch.query(1), "Q6": tpch.query(6), "COUNT DISTINCT": COUNT_DISTINCT}
    bench.fill()
    hot = [bench.median(lambda q=q: bench.execute(q)) for q in asked.values()]
    plain = [
        bench.median(lambda q=q: bench.execute(q.replace("lineitem", "kept")))
        for q in asked.values()
    ]
    bench.move(bench.windows())
    dead = bench.ask(*asked.values())
    bench.tidy()
    cold = bench.ask(*asked.values())
    bare = _bare_reads(bench, list(asked.values()))
    for number, name in enumerate(asked):
        bench.add("query", f"{name}, cold", cold[number], rows=bench.rows)
        for what, seconds, limit in (
            ("PostgreSQL, one plain table", plain[number], "at least 10"),
            ("PostgreSQL, the hot tier, a partition table a year", hot[number], ""),
            ("cold, with emptied partition tables not vacuumed", dead[number], ""),
            ("bare DuckDB on the same files", bare[number], ""),
        ):
            ratio = {"ratio": seconds / cold[number], "against": "times the cold tier's time"}
            bench.add("query", f"    {what}", seconds, rows=bench.rows, **ratio, limit=limit)


def both(bench: Bench) -> None:
    """A query over both tiers against its two parts."""
    bench.fill()
    bench.move(bench.windows(CUT))
    cold, hot, whole = bench.ask(
        AGGREGATE.format(f" where l_shipdate < {CUT}"),
        AGGREGATE.format(f" where l_shipdate >= {CUT}"),
        AGGREGATE.format(""),
    )
    bench.add("both", "the cold part alone", cold)
    bench.add("both", "the hot part alone", hot)
    ratio = whole / (cold + hot)
    bench.add("both", "both", whole, ratio=ratio, against="of the parts' sum", limit="at most 1.2")


def late(bench: Bench) -> None:
    """The cost of late rows and tombstones for a read of the cold tier."""
    bench.fill()
    bench.move(bench.windows())
    bench.tidy()
    (clean,) = bench.ask(AGGREGATE.format(""))
    bench.add("late", "cold, nothing waits", clean, rows=bench.rows)
    bench.execute("insert into lineitem select * from kept where l_orderkey % 100 = 0")
    (overridden,) = bench.ask(AGGREGATE.format(""))
    against = "times the clean read"
    share = {"rows": bench.rows, "against": against}
    bench.add(
        "late", "    1 % overridden by late rows", overridden, ratio=overridden / clean, **share
    )
    bench.execute("truncate lineitem")
    bench.execute(
        "insert into lakebed.cold_delete (table_name, key, moment) select 'lineitem',"
        " jsonb_build_object('l_shipdate', l_shipdate, 'l_orderkey', l_orderkey,"
        " 'l_linenumber', l_linenumber), l_shipdate from kept where l_orderkey % 1000 = 0"
    )
    (deleted,) = bench.ask(AGGREGATE.format(""))
    bench.add("late", "    0.1 % deleted by tombstones", deleted, ratio=deleted / clean, **share)


def planning(bench: Bench) -> None:
    """A query of one day among 10,000 cold partitions, whole session, against among seven."""
    bench.fill()
    bench.move(bench.windows())

    def ask() -> None:
        with bench.platform.lake.session() as session:
            session.sql(ONE_DAY).fetchall()

    low_cardinality = bench.median(ask)
    bench.execute(
        "insert into lakebed.cold_file (table_name, partition_key, generation, path, rows, bytes,"  # noqa: S608
        " sha256, lower_bound, upper_bound, fingerprint, columns)"
        " select table_name, d::date::text, 1, 'lineitem/none_' || i, 1, 1, 'none',"
        " d, d + interval '1 day', fingerprint, columns"
        f" from (select * from lakebed.cold_file limit 1) f, generate_series(1, {MANY}) i,"
        " lateral (select '1992-01-01Z'::timestamptz - i * interval '1 day' as d) days"
    )
    bench.execute("vacuum (analyze) lakebed.cold_file")
    many = bench.median(ask)
    bench.add("planning", "session and query of a day, 7 cold partitions", low_cardinality)
    bench.add("planning", f"    among {MANY:,} more", many)
    bench.add("planning", "    the difference", many - low_cardinality, limit="below 0.1 s")


def _bare_copy(bench: Bench, windows: list[Window], order: str) -> None:
    with bench.platform.lake.attached(read_only=False) as connection:
        for window in windows:
            statement = sql.SQL(
                "copy (select * from pg.public.lineitem where l_shipdate >= {}"
                " and l_shipdate < {}{}) to {} (format parquet, compression zstd)"
            ).format(
                window.lower.isoformat(),
                window.upper.isoformat(),
                sql.SQL(order),
                str(bench.home / "bare.parquet"),
            )
            connection.execute(statement.as_string())


def _bare_reads(bench: Bench, asked: list[str]) -> list[float]:
    """Return the median seconds of each query in a DuckDB that knows the cold files alone."""
    addresses = [
        bench.platform.lake.files.address(path)
        for (path,) in bench.execute("select path from lakebed.cold_file order by lower_bound")
    ]
    with bench.platform.lake.reader() as connection:
        view = sql.SQL("create view lineitem as {}").format(parquet(listed(addresses)))
        connection.execute(view.as_string())
        return [bench.median(lambda q=q: connection.execute(q).fetchall()) for q in asked]


def _hot_bytes(platform: Platform, table: str) -> int:
    with platform.postgres.connect() as connection:
        ((size,),) = connection.execute(
            "select sum(pg_total_relation_size(relid)) from pg_partition_tree(%s) where isleaf",
            [table],
        )
    return int(size)


def _add_size(bench: Bench, platform: Platform, table: str, before: int) -> None:
    with platform.postgres.connect() as connection:
        ((size,),) = connection.execute(
            "select sum(bytes) from lakebed.cold_file where table_name = %s", [table]
        )
    bench.add(
        "size",
        f"{table}: {before / 1e6:,.1f} MB in PostgreSQL, {float(size) / 1e6:,.1f} MB cold",
        ratio=float(size) / before,
        against="of heap plus indexes",
        limit="at most 0.2",
    )


def _seconds(run: Callable[[], Any]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


CASES: dict[str, Callable[[Bench], None]] = {
    "move": moves,
    "size": sizes,
    "query": queries,
    "both": both,
    "late": late,
    "planning": planning,
}
"""Every case by the name that --only takes, in the order in which they run."""
