"""Runs whose process is gone: found by its id, ended red, their pools given free.

A run that is killed, or that lost PostgreSQL, can say nothing any more. Otherwise it would
count as running for ever, and runs of the same pool would wait for ever.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import dagster as dg
import psutil

from lakebed.orchestration.dagster_private import CheckRunHealthResult, WorkerStatus, instance_of
from lakebed.orchestration.instance import instance_environment, prepare_instance
from lakebed.store.platform import Platform

HOST_TAG = "lakebed/host"
"""Where a run was started that no daemon launched; all other runs are where the daemon is."""

UNDER_WAY = (
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


class LocalRunLauncher(dg.DefaultRunLauncher):
    """Dagster's own launcher, which also reports whether the process of a run still lives."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes: by the id of its process."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Say whether the process of a run is there."""
        if is_dead(instance_of(self), run):
            return CheckRunHealthResult(WorkerStatus.FAILED, "its process is gone")
        return CheckRunHealthResult(WorkerStatus.RUNNING)


def open_instance(platform: Platform) -> dg.DagsterInstance:
    """Return the instance that `lakebed up` shows; from now on this process is one of Dagster's.

    Ends the runs whose process is gone, so that no run waits for them.
    Raises PostgresUnavailableError.
    """
    home = prepare_instance(platform)
    os.environ.update(instance_environment(platform))
    instance = dg.DagsterInstance.from_config(str(home))
    end_dead_runs(instance)
    return instance


def end_dead_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """End the runs whose process is gone, and give their pools free; return them."""
    running = instance.get_runs(dg.RunsFilter(statuses=list(UNDER_WAY)))
    dead = [run for run in running if is_dead(instance, run)]
    for run in dead:
        instance.report_run_failed(run, "The process of the run is gone; run it again.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return dead


def is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run had a process on this machine that is there no more."""
    if run.tags.get(HOST_TAG, socket.gethostname()) != socket.gethostname():
        return False
    process = _process(instance, run)
    return process is not None and not _is_there(*process)


def _process(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Return the id of a run's process, and a time when it was alive; None before it started."""
    events: Sequence[dg.EventLogEntry] = instance.all_logs(
        run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT
    )
    for event in reversed(events):
        told = event.get_dagster_event().engine_event_data.metadata.get("pid")
        if told is not None:
            return int(str(told.value)), event.timestamp
    return None


def _is_there(pid: int, alive_at: float) -> bool:
    """Whether a process is the one that was alive then, and not a later one of the same id."""
    try:
        process = psutil.Process(pid)
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and float(process.create_time()) <= alive_at + 1
    except psutil.NoSuchProcess:
        return False
