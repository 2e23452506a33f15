"""One load through the Dagster asset, in a process of its own, so that its memory is its own.

    python -m bench.load_once '{"glob": "whole.parquet", "write_mode": "append"}'

Settings come from the environment. It prints one line of JSON: the seconds of the run and of its
imports, the asset's report, the peak of the process's memory, and the bytes that it read.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg

from bench.lineitem import lineitem
from lakebed.build import build_defs
from lakebed.models.model import ModelSet
from lakebed.resources.settings import read_settings
from lakebed.spec.names import hot_key

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
REPORTED = ("rows_read", "rows_inserted", "rows_updated", "rows_unchanged", "rows_rejected")


class Imports:
    """Measures imports: a fixed part of a load, independent of its rows.

    bytes: the bytes of the modules' files, to be subtracted from those of the source.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.bytes = 0
        within = threading.local()
        import_module = builtins.__import__
        loader = importlib.machinery.SourceFileLoader
        read = loader.get_data

        def timed(*asked: Any, **more: Any) -> Any:
            if getattr(within, "depth", 0):
                return import_module(*asked, **more)
            within.depth = 1
            started = time.perf_counter()
            try:
                return import_module(*asked, **more)
            finally:
                within.depth = 0
                self.seconds += time.perf_counter() - started

        def counted(this: Any, path: str) -> bytes:
            data = read(this, path)
            self.bytes += len(data)
            return data

        builtins.__import__ = timed
        setattr(loader, "get_data", counted)  # noqa: B010  (mypy forbids the assignment)


def main() -> None:
    """Load once and print what was measured."""
    settings = read_settings()
    table = lineitem(**json.loads(sys.argv[1]))
    none = ModelSet(folder=settings.models, models=(), tests=())
    defs = build_defs(settings, tables=(table,), models=none)
    job = defs.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(hot_key(table.name))
    with dg.DagsterInstance.ephemeral() as instance:
        imports = Imports()
        before = bytes_read()
        started = time.perf_counter()
        result = job.execute_in_process(asset_selection=[key], instance=instance, run_config=QUIET)
        seconds = time.perf_counter() - started
        read = bytes_read()
    (event,) = result.asset_materializations_for_node("__".join(key.path))
    failed = [c.check_name for c in result.get_asset_check_evaluations() if not c.passed]
    report = {name: event.metadata[name].value for name in REPORTED}
    print(
        json.dumps(
            report
            | {
                "seconds": seconds,
                "peak_mb": peak_mb(),
                "import_seconds": imports.seconds,
                "bytes_read": read - before - imports.bytes if read else None,
                "failed_checks": failed,
            }
        )
    )


def peak_mb() -> float:
    """Return the peak of this process's resident memory in MB, without what its parent had."""
    # ru_maxrss would do, were it not inherited from the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def bytes_read() -> int:
    """Return the bytes that this process read from files; 0 where the system does not count."""
    counters = Path("/proc/self/io")
    if not counters.exists():
        return 0
    lines = dict(line.split(": ") for line in counters.read_text().splitlines())
    return int(lines["rchar"])


if __name__ == "__main__":
    main()
