"""Sensors: new source files start loads, due partitions start moves, failures send alerts."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

import dagster as dg

from lakebed.ingest.incremental import new_files_of
from lakebed.ingest.relatives import load_order
from lakebed.ingest.sources.reader import SourceError, SourceItem
from lakebed.ingest.sources.readers import reader_of
from lakebed.ingest.unfinished import unfinished_loads
from lakebed.orchestration.alerts import post_alert
from lakebed.orchestration.cold_assets import BY_POLICY
from lakebed.orchestration.dagster_runs import failed_partitions
from lakebed.orchestration.load_checks import RECONCILIATION
from lakebed.orchestration.run_keys import delivery_key, digest
from lakebed.resources.postgres import Connection
from lakebed.spec.names import cold_key, hot_key, source_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.pending import answer_requests, ranges, waiting
from lakebed.tiering.requests import Ended, record_heartbeat, take

PATIENCE_AFTER_FAILURE = 600
"""Seconds for which a table whose last move failed is left alone."""

RUNS_OF_A_REQUEST = 25
"""How many of the last moves of a table are searched for the answer to a request."""

LOADS_FIRST = {"dagster/priority": "10"}
MOVES_LAST = {"dagster/priority": "-10"}
"""Tags by which a queued load starts before backfills, which have priority 0, and before moves."""

_TAKEN = "lakebed/taken_at"
_INTERRUPTED = "DagsterExecutionInterruptedError"
_ENDED = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]
_UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in _ENDED]


def new_files_sensor(platform: Platform, tables: list[SourceTable]) -> dg.SensorDefinition:
    """Return the sensor that loads a table when its source has files that the ledger does not.

    The run key holds the versions of those files, and what the ledger says of them: what was asked
    for is not asked for again, and a file that was refused waits until it changes. A run that died
    without an answer is Dagster's to run again. The cursor only keeps observations from repeating.
    """

    @dg.sensor(
        name="new_files",
        description="Loads a table when its source has new or changed files.",
        target=[dg.AssetKey(hot_key(table.name)) for table in tables],
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def new_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        seen: dict[str, str] = json.loads(context.cursor or "{}")
        requests, observations = [], []
        with platform.postgres.connect(autocommit=True) as connection:
            for table in load_order(connection, tables):
                try:
                    files = reader_of(table, platform.settings).glance()
                except SourceError as error:
                    requests.append(_run_that_says(table, str(error), platform.clock.now()))
                    continue
                if files and seen.get(table.name) != digest(files):
                    seen[table.name] = digest(files)
                    observations.append(_observation(table, files))
                new = new_files_of(connection, table, files)
                if new:
                    requests.append(
                        dg.RunRequest(
                            run_key=delivery_key(connection, table, new),
                            asset_selection=[dg.AssetKey(hot_key(table.name))],
                            tags={"lakebed/new_files": str(len(new)), **LOADS_FIRST},
                        )
                    )
            requests += _finishing(connection, tables)
        return dg.SensorResult(
            run_requests=requests, asset_events=observations, cursor=json.dumps(seen)
        )

    return new_files


def _finishing(connection: Connection, tables: Sequence[SourceTable]) -> list[dg.RunRequest]:
    """Return runs of tables that wait for one that has been loaded since: one a state of those.

    The run that loads the other table finishes them, unless it is stopped before it does.
    """
    names = {table.name for table in tables}
    return [
        dg.RunRequest(
            run_key=f"{one.table}:waits:{hashlib.sha256(repr(one.now).encode()).hexdigest()[:16]}",
            asset_selection=[dg.AssetKey(hot_key(one.table))],
            tags=LOADS_FIRST,
        )
        for one in unfinished_loads(connection)
        if one.ready and one.table in names
    ]


def due_sensor(platform: Platform, table: SourceTable) -> dg.SensorDefinition:
    """Return the sensor that moves what is due, by policy or by request, and compacts late rows.

    One a table: Dagster lets a sensor start partitions of one definition alone.
    """

    @dg.sensor(
        name=f"due_{table.name}",
        description="Moves due partitions, compacts late rows, answers lakebed.request_move.",
        target=[dg.AssetKey(cold_key(table.name))],
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def due_partitions(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if _runs_of(context.instance, table, _UNDER_WAY, limit=1):
            return dg.SensorResult(skip_reason=f"a move of {table.name} runs or waits")
        ended = _runs_of(context.instance, table, _ENDED, limit=RUNS_OF_A_REQUEST)
        taken = [run for run in ended if _TAKEN in run.dagster_run.tags]
        now = platform.clock.now()
        with platform.postgres.connect(autocommit=True) as connection:
            record_heartbeat(connection, table)
            results = [_result(context.instance, platform, run) for run in taken]
            requests = answer_requests(connection, table, now, results)
            if ended and _has_just_failed(ended[0]):
                return dg.SensorResult(skip_reason=f"a move of {table.name} has just failed")
            taken_at = take(connection, requests)
            windows = waiting(connection, table, now, requests)
        held_back = _held_back(context.instance, table)
        windows = [window for window in windows if window.key not in held_back]
        runs = [
            dg.RunRequest(
                asset_selection=[dg.AssetKey(cold_key(table.name))],
                tags={
                    BY_POLICY: table.name,
                    _TAKEN: taken_at.isoformat(),
                    **MOVES_LAST,
                    "dagster/asset_partition_range_start": first.key,
                    "dagster/asset_partition_range_end": last.key,
                },
            )
            for first, last in ranges(windows)
        ]
        return dg.SensorResult(run_requests=runs)

    return due_partitions


def _held_back(instance: dg.DagsterInstance, table: SourceTable) -> set[str]:
    """Return the partitions whose load failed a blocking check: they stay where they are."""
    if table.load_by != "window":
        return set()
    check = dg.AssetCheckKey(dg.AssetKey(hot_key(table.name)), RECONCILIATION)
    return failed_partitions(instance, check)


def failure_sensor(platform: Platform) -> dg.SensorDefinition:
    """Return the sensor that posts each failed run to LAKEBED_ALERT_URL."""

    @dg.run_failure_sensor(
        name="alert_on_failure",
        description="Posts each failed run to LAKEBED_ALERT_URL, where that is set.",
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=10,
        # Runs of `lakebed backfill` are of no code location, and would be passed over.
        monitor_all_code_locations=True,
    )
    def alert_on_failure(context: dg.RunFailureSensorContext) -> None:
        url = platform.settings.alert_url
        if url is None:
            return
        selection = context.dagster_run.asset_selection or frozenset()
        post_alert(
            url,
            run_id=context.dagster_run.run_id,
            ui_url=platform.settings.ui_url,
            assets=sorted(key.to_user_string() for key in selection),
            partition=_partitions(context.dagster_run),
            error=platform.postgres.redact(_reason(context)),
        )

    return alert_on_failure


def _run_that_says(table: SourceTable, problem: str, now: datetime) -> dg.RunRequest:
    """Return a run that fails on what the sensor stumbled over, so that it is seen: one an hour."""
    said = hashlib.sha256(f"{problem} {now:%Y-%m-%d %H}".encode()).hexdigest()[:16]
    return dg.RunRequest(
        run_key=f"{table.name}:unreachable:{said}",
        asset_selection=[dg.AssetKey(hot_key(table.name))],
    )


def _observation(table: SourceTable, files: list[SourceItem]) -> dg.AssetObservation:
    return dg.AssetObservation(
        asset_key=dg.AssetKey(source_key(table.name)),
        metadata={
            "files": len(files),
            "bytes": sum(file.bytes for file in files),
            "newest": max(files, key=lambda file: file.modified).path,
            # Metadata, not a data version: a load by command or a first look at files that are
            # loaded would leave the table "Unsynced" though it has all rows. The ledger decides.
            "version": digest(files),
        },
    )


def _runs_of(
    instance: dg.DagsterInstance,
    table: SourceTable,
    statuses: list[dg.DagsterRunStatus],
    limit: int,
) -> Sequence[dg.RunRecord]:
    """Return the moves of a table that the sensor started, newest first."""
    of_table = dg.RunsFilter(tags={BY_POLICY: table.name}, statuses=statuses)
    return instance.get_run_records(of_table, limit=limit)


def _result(instance: dg.DagsterInstance, platform: Platform, run: dg.RunRecord) -> Ended:
    """Return what came of a move that has ended."""
    status, run_id = run.dagster_run.status, run.dagster_run.run_id
    since = datetime.fromisoformat(run.dagster_run.tags[_TAKEN])
    if status == dg.DagsterRunStatus.SUCCESS:
        return Ended(since)
    if status == dg.DagsterRunStatus.CANCELED:
        return Ended(since, f"run {run_id} was canceled")
    failed = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    said = _said(entry.dagster_event for entry in failed if entry.dagster_event)
    why = platform.lake.redact(said or "see it in the UI")
    return Ended(since, f"run {run_id} failed: {why}")


def _has_just_failed(run: dg.RunRecord) -> bool:
    failed_at = run.end_time if run.dagster_run.status == dg.DagsterRunStatus.FAILURE else None
    return failed_at is not None and _wall_clock() - failed_at < PATIENCE_AFTER_FAILURE


def _partitions(run: dg.DagsterRun) -> str | None:
    """Return the partition of a run, or the first and the last of its range."""
    first = run.tags.get("dagster/asset_partition_range_start")
    last = run.tags.get("dagster/asset_partition_range_end")
    if first is None or first == last:
        return first or run.tags.get("dagster/partition")
    return f"{first}...{last}"


def _reason(context: dg.RunFailureSensorContext) -> str:
    """Return the error of the first failed step; the run itself only names its steps."""
    said = _said(context.get_step_failure_events())
    if said is not None:
        return said
    message = (context.failure_event.message or "no message").strip()
    again = context.dagster_run.tags.get("dagster/will_retry") == "true"
    return f"the run was killed or stopped before it was done: {message}" + (
        " It is tried again." if again else " It is not tried again; run it again yourself."
    )


def _said(failed: Iterable[dg.DagsterEvent]) -> str | None:
    """Return the error of the first failed step; an interrupted step has none."""
    for event in failed:
        failure = event.step_failure_data
        if failure.error is not None and failure.error.cls_name == _INTERRUPTED:
            continue
        if failure.user_failure_data is not None and failure.user_failure_data.description:
            return failure.user_failure_data.description
        error = failure.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return error.message.strip()
    return None


def _wall_clock() -> float:
    """Return the machine's time, which run records are in, whatever the platform's clock says."""
    from lakebed.resources.clock import SystemClock

    return SystemClock().now().timestamp()
