"""Time the cold tier with TPC-H lineitem: moves, what their files take, and reads of both tiers.

    python -m bench.tiering [--scale 0.3] [--runs 3] [--only NAME,...] [--json PATH]

Every figure is taken in this run, from the same rows, in the same server: the embedded one, or that
of LAKEBED_POSTGRES_URL, in a database that is made for the run. Moves and queries run in this
process; its start and imports are not in the figures.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.server import database
from bench.tiering_cases import CASES, Bench


def main() -> None:
    """Make the rows, run the cases, print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench.tiering", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--scale", type=float, default=0.3, help="1 is 6,001,215 rows")
    parser.add_argument("--runs", type=int, default=3, help="of each figure; the median counts")
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--json", type=Path, help="where to write the figures as JSON")
    asked = parser.parse_args()
    only = [name for name in asked.only.split(",") if name]
    unknown = [name for name in only if name not in CASES]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is not a case. The cases are {', '.join(CASES)}")
    console = Console()
    home = Path(tempfile.mkdtemp(prefix="lakebed-bench-"))
    # Registered before the server joins, so that it runs after the server stopped.
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    home.chmod(0o755)
    with database(home) as url:
        bench = Bench(home, url, asked.scale, asked.runs, console.print)
        for name in only:
            CASES[name](bench)
        version = bench.execute("show server_version")[0][0]
    about = {
        "scale": asked.scale,
        "rows": bench.rows,
        "runs": asked.runs,
        "postgres": version,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
    }
    console.print(
        _table(bench, f"{bench.rows:,} rows, PostgreSQL {version}, {os.cpu_count()} cores")
    )
    if asked.json:
        figures = about | {"figures": [asdict(line) for line in bench.lines]}
        asked.json.write_text(json.dumps(figures, indent=2) + "\n")


def _table(bench: Bench, title: str) -> Table:
    table = Table(title=f"lineitem, {title}; median of {bench.runs}")
    for name in ("what", "seconds", "rows/s", "ratio", "limit"):
        table.add_column(name, justify="left" if name in ("what", "ratio", "limit") else "right")
    case = ""
    for line in bench.lines:
        if case and line.case != case:
            table.add_section()
        case = line.case
        rate = line.rows / line.seconds if line.rows and line.seconds else None
        table.add_row(
            line.what,
            "" if line.seconds is None else f"{line.seconds:.3f}",
            "" if rate is None else f"{rate:,.0f}",
            "" if line.ratio is None else f"{line.ratio:.2f} {line.against}",
            line.limit,
        )
    return table


if __name__ == "__main__":
    main()
