"""Compare ways to load TPC-H lineitem into PostgreSQL.

    python -m bench.ingest [--scale 1] [--runs 3] [--only NAME,...] [--json PATH]

Every figure is taken in this run, from the same rows, in the same server: the embedded one, or that
of LAKEBED_POSTGRES_URL, in a database that is made for the run. Lakebed's loads go through the
Dagster asset, each in a process of its own. The floor is COPY BINARY of bytes that were encoded
before the clock started, into the same table.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.cases import CASES, Bench
from bench.server import ROOT, server, without_settings

SMALLEST = 0.01


@dataclass(frozen=True)
class GenericTestQuery:
    """The arguments of the command line."""

    scale: float
    runs: int
    only: tuple[str, ...]
    json: Path | None


def main() -> None:
    """Make the files, run the cases, print one table."""
    asked = _asked()
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="lakebed-bench-"))
    # Registered before the server joins, so that it runs after the server stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    # SIGTERM becomes a normal exit, so that the database and the folder are deleted.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    home.chmod(0o755)
    with console.status("making lineitem"):
        subprocess.run(
            [sys.executable, "-m", "bench.lineitem", str(asked.scale), str(home / "files")],
            cwd=ROOT,
            env=without_settings(),
            check=True,
        )
    (home / "data").mkdir()
    with server(home) as running:
        bench = Bench(running, home / "files", asked.runs, lambda text: console.print(text))
        for name in asked.only:
            CASES[name](bench)
        version = running.execute("show server_version")[0][0]
    console.print(_table(bench, asked, version))
    if asked.json:
        asked.json.write_text(json.dumps(_figures(bench, asked, version), indent=2) + "\n")


def _asked() -> GenericTestQuery:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 6,001,215 rows")
    parser.add_argument("--runs", type=int, default=3, help="of each full load; the median counts")
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="where to write the figures as JSON")
    given = parser.parse_args()
    only = tuple(name for name in given.only.split(",") if name)
    unknown = [name for name in only if name not in CASES]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is not a case. The cases are {', '.join(CASES)}")
    if given.scale < SMALLEST or given.runs < 1:
        parser.error(f"--scale is at least {SMALLEST}, --runs at least 1")
    return GenericTestQuery(given.scale, given.runs, only, given.json)


def _table(bench: Bench, asked: GenericTestQuery, version: str) -> Table:
    table = Table(
        title=f"lineitem, {bench.rows:,} rows of 16 columns, PostgreSQL {version}, "
        f"{os.cpu_count()} cores; full loads: median of {asked.runs}",
        caption="peak MB: of the process that loads.  fixed start: a load that finds nothing new, "
        "and the imports that a load needs",
    )
    for name in ("what", "seconds", "rows/s", "ratio", "peak MB"):
        table.add_column(name, justify="left" if name in ("what", "ratio") else "right")
    case = ""
    for line in bench.lines:
        if case and line.case != case:
            table.add_section()
        case = line.case
        rate = line.rows / line.seconds if line.rows and line.seconds else None
        table.add_row(
            line.what,
            "" if line.seconds is None else f"{line.seconds:.2f}",
            "" if rate is None else f"{rate:,.0f}",
            line.against if line.ratio is None else f"{_ratio(line.ratio)} {line.against}",
            "" if line.peak_mb is None else f"{line.peak_mb:,.0f}",
        )
    return table


def _ratio(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _figures(bench: Bench, asked: GenericTestQuery, version: str) -> dict[str, object]:
    return {
        "scale": asked.scale,
        "rows": bench.rows,
        "runs": asked.runs,
        "postgres": version,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "figures": [asdict(line) for line in bench.lines],
    }


if __name__ == "__main__":
    main()
