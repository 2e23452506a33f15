"""One piece of work in a process of its own, so that its memory is its own.

    python -m bench.model_once '{"do": "build", "names": ["trips"]}'
    python -m bench.model_once '{"do": "export", "of": "trips", "path": "trips.csv"}'
    python -m bench.model_once '{"do": "bare", "sql": ["copy (...) to ..."]}'

Settings come from the environment. Prints one line of JSON: the seconds, of the clock and of
the processor, without those of imports, the rows, and the peak of the process's memory in MB.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import duckdb

from lakebed.exports.write import write_export
from lakebed.models.runner import build, models_of
from lakebed.models.selection import select
from lakebed.resources.settings import read_settings
from lakebed.spec.export import Export
from lakebed.store.platform import open_platform


def main() -> None:
    """Do what the first argument says."""
    asked = json.loads(sys.argv[1])
    platform = open_platform(read_settings(), ())
    started, used = time.perf_counter(), time.process_time()
    if asked["do"] == "bare":
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            rows = sum(connection.execute(text).fetchall()[0][0] for text in asked["sql"])
    elif asked["do"] == "build":
        models = models_of(platform)
        results = build(platform, models, select(models, asked["names"]))
        failed = [f"{result.name}: {result.error}" for result in results if result.error]
        if failed:
            raise SystemExit("\n".join(failed))
        rows = sum(result.rows or 0 for result in results)
    else:
        export = Export(
            name="bench", of=asked["of"], path=asked["path"], ordered=asked.get("ordered", True)
        )
        rows = write_export(platform, export).rows
    told = {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
        "rows": rows,
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(told))


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss begins with what the parent had
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    main()
