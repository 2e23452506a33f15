"""Other loaders on the same files and the same server, each as its manual says, no knob turned.

A loader that is not installed is skipped with the reason. Passwords go by the environment or in a
file of the run's own folder, never on a command line.

    python -m bench.peers FILE      stock dlt, in a process of its own
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bench.server import ROOT, Server, without_settings

PGLOADER = """\
LOAD CSV
    FROM '{csv}' WITH ENCODING UTF-8
    INTO {url}
    TARGET TABLE public.lineitem
    WITH skip header = 1, fields optionally enclosed by '"', fields escaped by double-quote,
         fields terminated by ','
    SET timezone TO 'UTC';
"""


class SkippedError(Exception):
    """A peer that cannot run here; the text says why, and how it could."""


def psql(server: Server, csv: Path) -> float:
    """Load a CSV file by psql's copy into the same table; return seconds. Raises SkippedError."""
    program = _found("psql", "apt-get install postgresql-client")
    command = sql.SQL("\\copy lineitem from {} with (format csv, header true)").format(str(csv))
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    return _timed(
        [program, *options, "--command", command.as_string()], _libpq_environment(server.url)
    )


def pgloader(server: Server, csv: Path) -> float:
    """Load a CSV file by pgloader into the same table; return seconds. Raises SkippedError."""
    program = _found("pgloader", "apt-get install pgloader")
    part = _parts(server.url)
    host = part.get("host", "localhost")
    host = f"unix:{host}" if host.startswith("/") else host
    password = f":{quote(part['password'], safe='')}" if part.get("password") else ""
    url = f"postgresql://{part['user']}{password}@{host}:{part['port']}/{part['dbname']}"
    script = server.home / "pgloader.load"
    script.touch(mode=0o600)
    script.write_text(PGLOADER.format(csv=csv, url=url))
    try:
        return _timed([program, "--quiet", str(script)], {}, cwd=server.home)
    finally:
        script.unlink()


def sling(server: Server, csv: Path) -> float:
    """Load a CSV file by sling into a table that it makes; return seconds. Raises SkippedError."""
    part = _parts(server.url)
    host = part.get("host", "localhost")
    socket = host.startswith("/")
    address = "" if socket else f"{host}:{part['port']}"
    more = f"host={host}" if socket else f"sslmode={part.get('sslmode', 'disable')}"
    password = f":{quote(part['password'], safe='')}" if part.get("password") else ""
    url = f"postgresql://{part['user']}{password}@{address}/{part['dbname']}?{more}"
    source = ("--src-stream", f"file://{csv}")
    target = ("--tgt-conn", "BENCH", "--tgt-object", "public.peer_sling", "--mode", "full-refresh")
    return _timed(
        [_sling_binary(), "run", *source, *target],
        {"BENCH": url, "SLING_HOME_DIR": str(server.home / "sling")},
    )


def dlt(server: Server, parquet: Path) -> float:
    """Load a Parquet file by dlt's own source and destination; return seconds, imports left out."""
    part = _parts(server.url)
    host = quote(part.get("host", "localhost"), safe="")
    port = "" if host.startswith("%2F") else f":{part['port']}"
    password = quote(part.get("password", ""), safe="")
    url = f"postgresql://{part['user']}:{password}@{host}{port}/{part['dbname']}"
    environment = {
        "DESTINATION__POSTGRES__CREDENTIALS": url,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "DLT_DATA_DIR": str(server.home / "peer_dlt"),
    }
    done = _run([sys.executable, "-m", "bench.peers", str(parquet)], environment, cwd=ROOT)
    return float(json.loads(done.splitlines()[-1])["seconds"])


def run_dlt(parquet: Path) -> None:
    """Run stock dlt and print the seconds as JSON."""
    import dlt as library
    from dlt.sources.filesystem import filesystem, read_parquet

    files = filesystem(bucket_url=parquet.parent.as_uri(), file_glob=parquet.name)
    pipeline = library.pipeline("peer", destination="postgres", dataset_name="peer_dlt")
    started = time.perf_counter()
    pipeline.run((files | read_parquet()).with_name("lineitem"))
    print(json.dumps({"seconds": time.perf_counter() - started}))


def _sling_binary() -> str:
    given = os.environ.get("SLING_BINARY")
    if given:
        return given
    wheel = importlib.util.find_spec("sling_linux_amd64")
    if wheel is not None and wheel.submodule_search_locations:
        return str(Path(wheel.submodule_search_locations[0]) / "bin" / "sling-linux-amd64")
    cached = sorted((Path.home() / ".sling" / "bin" / "sling").glob("*/sling"))
    if cached:
        return str(cached[-1])
    raise SkippedError(
        "sling's binary is not here, and its wheel would download it from GitHub; "
        "pip install sling-linux-amd64, or set SLING_BINARY"
    )


def _found(program: str, install: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SkippedError(f"{program} is not installed; {install}")
    return path


def _parts(url: str) -> dict[str, str]:
    part = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    return {"port": "5432", "user": "postgres"} | part


def _libpq_environment(url: str) -> dict[str, str]:
    part = _parts(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD"}
    names |= {"dbname": "PGDATABASE", "sslmode": "PGSSLMODE"}
    return {names[name]: value for name, value in part.items() if name in names and value} | {
        "PGTZ": "UTC"
    }


def _timed(command: list[str], environment: dict[str, str], cwd: Path | None = None) -> float:
    started = time.perf_counter()
    _run(command, environment, cwd)
    return time.perf_counter() - started


def _run(command: list[str], environment: dict[str, str], cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        env=without_settings() | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    if done.returncode:
        raise SkippedError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout)[-600:]}")
    return done.stdout


if __name__ == "__main__":
    run_dlt(Path(sys.argv[1]))
