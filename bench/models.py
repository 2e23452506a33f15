"""Time SQL models and exports against bare DuckDB doing the same.

    python -m bench.models [--rows 5000000] [--runs 3] [--only NAME,...] [--json PATH]

Every figure is taken in this run, each in a process of its own with its imports not counted, in a
database made for the run on the embedded server or that of LAKEBED_POSTGRES_URL. Ours and the bare
one take turns; a ratio is the median of those of the turns.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from bench.server import ROOT, LoadError, server, without_settings

FEWEST_ROWS = 10_000
TRIVIAL_MODELS = 200
BUSY_MODELS = 4
DAYS = 100

TRIPS = """\
copy (
    select
        range as id, range % 97 as zone, (range * 7919 % 100003) / 100.0 as fare,
        range * 31 % 1009 as seconds, md5(range::varchar) as ticket,
        'driver ' || range % 5003 as driver, ['cash', 'card', null][range % 3 + 1] as paid_by,
        case when range % 11 = 0 then null else 'a note, "quoted" at times' end as note
    from range({rows})
) to '{path}'"""
DAY = """\
copy (
    select
        timestamp '2024-01-01' + to_days({day}) + to_microseconds(range * 1000) as "at",
        range % 50 as kind, range / 7 as amount
    from range({rows})
) to '{path}'"""
GROSS = """\
{{ config(materialized='incremental', unique_key='day', incremental_strategy='delete+insert') }}
SHOWN from {{ ref('events') }}
{% if is_incremental() %}
where "at" >= (select max(day) + 1 from {{ this }})
{% endif %}"""
TO_PARQUET = "(format parquet, compression zstd)"


@dataclass(frozen=True)
class Took:
    """What one piece of work took."""

    seconds: float
    cpu_seconds: float
    rows: int
    peak_mb: float


@dataclass(frozen=True)
class Line:
    """A line of the table. ratio: the speed in that of what `against` says."""

    case: str
    what: str
    seconds: float | None = None
    cpu_seconds: float | None = None
    rows: int | None = None
    peak_mb: float | None = None
    ratio: float | None = None
    against: str = ""


@dataclass
class Bench:
    """One run: where files lie, and the lines so far."""

    home: Path
    environment: dict[str, str]
    rows: int
    runs: int
    tell: Callable[[str], None]
    lines: list[Line] = field(default_factory=list)

    def model(self, name: str, text: str) -> None:
        """Write a model's file."""
        path = self.home / "models" / "staging" / f"{name}.sql"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def no_models(self) -> None:
        """Take all models' files away."""
        shutil.rmtree(self.home / "models")
        (self.home / "models").mkdir()

    def file(self, name: str) -> Path:
        """Return the path of a file of this run."""
        return self.home / "files" / name

    def once(self, **asked: Any) -> Took:
        """Do one piece of work. Raises LoadError where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "bench.model_once", json.dumps(asked)],
            cwd=ROOT,
            env=without_settings() | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise LoadError(f"{asked} failed:\n{done.stderr[-3000:]}")
        return Took(**json.loads(done.stdout.splitlines()[-1]))

    def pair(self, case: str, what: str, ours: dict[str, Any], *bare: str) -> tuple[float, float]:
        """Measure ours and bare DuckDB by turns; add a line of each, and return their seconds."""
        mine, theirs = [], []
        for _ in range(self.runs):
            theirs.append(self.once(do="bare", sql=list(bare)))
            mine.append(self.once(**ours))
        ratio = statistics.median(b.seconds / a.seconds for a, b in zip(mine, theirs, strict=True))
        self.add(_line(case, f"{what}, bare DuckDB", theirs))
        self.add(_line(case, what, mine, ratio, "of bare DuckDB"))
        return _median(mine), _median(theirs)

    def add(self, line: Line) -> None:
        """Add a line to the table."""
        self.lines.append(line)
        self.tell(f"{line.case}: {line.what}, {line.seconds or 0:.2f} s {line.against}")


def csv_case(bench: Bench) -> None:
    """CSV of 8 columns into the lake by a model, and out again."""
    source, parquet = bench.file("trips.csv"), bench.file("bare.parquet")
    duckdb.execute(TRIPS.format(rows=bench.rows, path=source))
    size = source.stat().st_size / 1e6
    bench.tell(f"{bench.rows:,} rows of 8 columns, {size:,.0f} MB of CSV")
    reading = f"from read_csv('{source}')"
    bench.model("trips", f"{{{{ config(materialized='table') }}}}\n{reading}")
    bench.pair(
        "csv",
        "CSV in",
        {"do": "build", "names": ["trips"]},
        f"copy ({reading}) to '{parquet}' {TO_PARQUET}",
    )
    out, bare = bench.file("out.csv"), bench.file("bare.csv")
    asked = {"do": "export", "of": "trips", "path": str(out)}
    every = "id, zone, fare, seconds, ticket, driver, paid_by, note"
    for what, ordered in (("CSV out, as it lies", False), ("CSV out, in order", True)):
        order = f" order by {every}" if ordered else ""
        copy = f"copy (from '{parquet}'{order}) to '{bare}'"
        bench.pair("csv", what, asked | {"ordered": ordered}, copy)


def overhead_case(bench: Bench) -> None:
    """Some models that each group many rows, in one build, against their SQL alone."""
    rows = bench.file("rows.parquet")
    duckdb.execute(TRIPS.format(rows=bench.rows, path=rows))
    names, copies = [], []
    for number in range(BUSY_MODELS):
        query = (
            f"select zone, driver, count(*) as trips, sum(fare + {number}) as fares,"
            f" max(ticket) as last\nfrom read_parquet('{rows}') group by zone, driver"
        )
        names.append(f"busy_{number}")
        bench.model(names[-1], f"{{{{ config(materialized='table') }}}}\n{query}")
        copies.append(f"copy ({query}) to '{bench.file(f'busy_{number}.parquet')}' {TO_PARQUET}")
    ours = {"do": "build", "names": names}
    mine, theirs = bench.pair("overhead", f"{BUSY_MODELS} models", ours, *copies)
    beyond = (mine - theirs) / BUSY_MODELS
    against = "of the time of its SQL, its share of the fixed start included"
    share = beyond / theirs * BUSY_MODELS
    bench.add(Line("overhead", "    overhead a model", beyond, ratio=share, against=against))


def many_case(bench: Bench) -> None:
    """Many models that do next to nothing."""
    bench.no_models()
    for number in range(TRIVIAL_MODELS):
        text = f"{{{{ config(materialized='table') }}}}\nselect {number} as n"
        bench.model(f"trivial_{number}", text)
    took = bench.once(do="build", names=[])
    bench.no_models()
    bench.add(_line("many", f"{TRIVIAL_MODELS} trivial models", [took]))


def incremental_case(bench: Bench) -> None:
    """A mart over a hundred days of twice as many rows, and what one more day costs."""
    folder = bench.file("events")
    folder.mkdir()
    for day in range(DAYS):
        _write_day(bench, folder, day)
    bench.model("events", f"from read_parquet('{folder}/*.parquet')")
    shown = 'select "at"::date as day, "at", kind, amount * 1.19 as gross'
    bench.model("gross", GROSS.replace("SHOWN", shown))
    whole = bench.once(do="build", names=["events", "gross"])
    bench.add(_line("incremental", "a mart, built whole", [whole]))
    _write_day(bench, folder, DAYS)
    copy = f"copy ({shown} from '{folder}/{DAYS:04}.parquet') to '{bench.file('day.parquet')}'"
    alone = bench.once(do="bare", sql=[f"{copy} {TO_PARQUET}"])
    bench.add(_line("incremental", "one new day, bare DuckDB, with the file named", [alone]))
    nothing = bench.once(do="build", names=["events"])
    bench.add(_line("incremental", "fixed start: a build of a view", [nothing]))
    day = bench.once(do="build", names=["gross"])
    ratio = whole.seconds / day.seconds
    bench.add(_line("incremental", "one new day", [day], ratio, "of the whole build"))


def _write_day(bench: Bench, folder: Path, day: int) -> None:
    path = folder / f"{day:04}.parquet"
    duckdb.execute(DAY.format(day=day, rows=2 * bench.rows // DAYS, path=path))


CASES = {
    "csv": csv_case,
    "overhead": overhead_case,
    "many": many_case,
    "incremental": incremental_case,
}


def main() -> None:
    """Run the cases, print one table."""
    asked = _asked()
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="lakebed-bench-"))
    # Registered before the server joins, so that it runs after the server stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # SIGTERM becomes a normal exit, so that the database and the folder are deleted.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    home.chmod(0o755)
    for folder in ("files", "models", "data"):
        (home / folder).mkdir()
    with server(home) as running:
        environment = running.environment() | {"LAKEBED_MODELS": str(home / "models")}
        bench = Bench(home, environment, asked.rows, asked.runs, console.print)
        for name in asked.only.split(","):
            CASES[name](bench)
    console.print(_table(bench))
    if asked.json:
        facts = {"rows": bench.rows, "runs": bench.runs, "cores": os.cpu_count()}
        figures = [asdict(line) for line in bench.lines]
        asked.json.write_text(json.dumps(facts | {"figures": figures}, indent=2) + "\n")


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.models", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3, help="turns of each pair")
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="where to write the figures as JSON")
    given = parser.parse_args()
    unknown = [name for name in given.only.split(",") if name not in CASES]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is not a case. The cases are {', '.join(CASES)}")
    if given.rows < FEWEST_ROWS or given.runs < 1:
        parser.error(f"--rows is at least {FEWEST_ROWS}, --runs at least 1")
    return given


def _median(took: list[Took]) -> float:
    return statistics.median(each.seconds for each in took)


def _line(
    case: str, what: str, took: list[Took], ratio: float | None = None, against: str = ""
) -> Line:
    seconds = _median(took)
    cpu = statistics.median(each.cpu_seconds for each in took)
    peak = max(each.peak_mb for each in took)
    return Line(case, what, seconds, cpu, took[0].rows, peak, ratio, against)


def _table(bench: Bench) -> Table:
    table = Table(title=f"models and exports, {bench.rows:,} rows, {os.cpu_count()} cores")
    for name in ("what", "seconds", "cpu s", "rows/s", "speed", "peak MB"):
        table.add_column(name, justify="left" if name in ("what", "speed") else "right")
    for line in bench.lines:
        rate = line.rows / line.seconds if line.rows and line.seconds else None
        table.add_row(
            line.what,
            "" if line.seconds is None else f"{line.seconds:.2f}",
            "" if line.cpu_seconds is None else f"{line.cpu_seconds:.2f}",
            "" if rate is None else f"{rate:,.0f}",
            line.against if line.ratio is None else f"{line.ratio:.2f} {line.against}",
            "" if line.peak_mb is None else f"{line.peak_mb:,.0f}",
        )
    return table


if __name__ == "__main__":
    main()
