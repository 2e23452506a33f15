"""Dagster's home: its instance file, its storage in a database of its own, its environment."""

from __future__ import annotations

import json
from pathlib import Path

from psycopg import sql
from sqlalchemy.engine import make_url

from lakebed.resources.durable import replacing
from lakebed.resources.embedded import make_home
from lakebed.resources.private import make_private_folder
from lakebed.store.platform import Platform

STORAGE_VARIABLE = "DAGSTER_STORAGE_URL"

_INSTANCE = """\
# Written by Lakebed at each start; the storage's address comes from the environment.
storage:
  custom:
    module: lakebed.orchestration.dagster_storage
    class: PooledPostgresStorage
    config: {postgres_url: {env: DAGSTER_STORAGE_URL}}
run_launcher: {module: lakebed.orchestration.run_launcher, class: LocalRunLauncher}
telemetry: {enabled: false}
nux: {enabled: false}
run_queue: {dequeue_interval_seconds: 1}
concurrency:
  # One writer a table: a pool is a table's load, or its moves, or a model.
  pools: {default_limit: 1, granularity: op}
  # Backfills and the moves of the sensors take one place each, so that a load finds a free one.
  runs:
    max_concurrent_runs: 3
    tag_concurrency_limits:
      - {key: dagster/backfill, limit: 1}
      - {key: lakebed/cold, limit: 1}
sensors: {use_threads: true, num_workers: 4}
schedules: {use_threads: true, num_workers: 2}
backfills: {use_threads: true, num_workers: 2}
# A run that ended without an answer, killed or interrupted, is run again, three times in all: what
# it committed is committed, and the next run goes on from there. A step that failed has answered.
run_retries: {enabled: true, max_retries: 2, retry_on_asset_or_op_failure: false}
# A run whose process is gone ends red within half a minute, and its pool is free again.
run_monitoring:
  enabled: true
  poll_interval_seconds: 15
  start_timeout_seconds: 120
  cancel_timeout_seconds: 180
  free_slots_after_run_end_seconds: 10
  max_resume_run_attempts: 0
  max_runtime_seconds: @run_timeout@
# Ticks; runs are forgotten by the job upkeep.
retention:
  schedule: {purge_after_days: {skipped: 7, started: 90, success: 90, failure: 90}}
  sensor: {purge_after_days: {skipped: 1, started: 30, success: 30, failure: 30}}
"""

_WORKSPACE = "# Written by Lakebed at each start.\nload_from:\n  - {}\n"


def prepare_instance(platform: Platform) -> Path:
    """Write the instance file and the workspace file into DAGSTER_HOME; return that folder."""
    home = platform.settings.dagster_home
    if platform.settings.postgres_url is None:
        make_home(platform.settings.home)
    make_private_folder(home)
    timeout = f"{platform.settings.run_timeout.total_seconds():.0f}"
    _write(home / "dagster.yaml", _INSTANCE.replace("@run_timeout@", timeout))
    _write(home / "workspace.yaml", _WORKSPACE.format(json.dumps(_location(platform))))
    return home


def _location(platform: Platform) -> dict[str, dict[str, str]]:
    """Return where Dagster finds the definitions: the project's own file, else Lakebed's."""
    project = platform.settings.project
    if project is not None and (project / "definitions.py").is_file():
        file, folder = str(project / "definitions.py"), str(project)
        return {
            "python_file": {
                "relative_path": file,
                "working_directory": folder,
                "location_name": "lakebed",
            }
        }
    return {"python_module": {"module_name": "lakebed.definitions", "location_name": "lakebed"}}


def _write(file: Path, text: str) -> None:
    """Replace a file at once: the webserver may read it while the daemon starts."""
    with replacing(file) as written:
        written.write_text(text)


def instance_environment(platform: Platform) -> dict[str, str]:
    """Return the environment in which Dagster's processes find the platform and their storage.

    Makes the storage's database where it is not there yet. Raises PostgresUnavailableError.
    """
    # psycopg2 by name: SQLAlchemy's default driver cannot send what dagster-postgres sends.
    url = platform.postgres.sibling_url("dagster", "postgresql+psycopg2")
    with platform.postgres.connect(autocommit=True) as connection:
        # Losing the last half second of a run's events in a crash of the server loses no data.
        connection.execute(
            sql.SQL("alter database {} set synchronous_commit = off").format(
                sql.Identifier(make_url(url).database or "")
            )
        )
    return platform.settings.environment() | {
        "DAGSTER_HOME": str(platform.settings.dagster_home),
        STORAGE_VARIABLE: url,
        "DAGSTER_EVENT_BATCH_SIZE": "200",
    }
