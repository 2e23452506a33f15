"""Backfills: a range of partitions of an asset, one run for each range without a gap.

The runs are those that the UI would start, seen there while they run; they are executed by this
process, so it does not matter whether a daemon is up. The pool of the asset keeps two of them
apart: the later one waits.
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Literal

import dagster as dg

from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.run_launcher import HOST_TAG
from lakebed.schema.ddl import relation_exists
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable, TableError
from lakebed.store.platform import Platform
from lakebed.tiering.pending import with_work

State = Literal["done", "failed", "missing", "running"]
"""done; failed: by its last run; missing: never done, or there are rows to move; running now."""

POLL_SECONDS = 0.5
EVENTS_AT_ONCE = 1000

_OUTCOME_EVENTS = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class BackfillTarget:
    """An asset with partitions: hot/<table> of a table loaded by window, or cold/<table>."""

    table: SourceTable
    tier: Literal["hot", "cold"]

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key."""
        name = self.table.name
        return dg.AssetKey(hot_key(name) if self.tier == "hot" else cold_key(name))

    def __str__(self) -> str:
        """Return the key as people write it."""
        return self.key.to_user_string()


@dataclass(frozen=True)
class PartitionOutcome:
    """What is known of a partition of a run. rows: of it now; why: it failed."""

    partition: str
    rows: int | None = None
    why: str | None = None


@dataclass
class RangeRun:
    """One run of a range, when it has ended. problem: of the run as a whole, such as a crash."""

    run_id: str
    partitions: Sequence[str]
    seconds: float
    outcome: Mapping[str, PartitionOutcome] = field(default_factory=dict)
    problem: str | None = None

    @property
    def failed(self) -> list[PartitionOutcome]:
        """The partitions that failed, and those of which the run did not get to tell."""
        why = self.problem or "the run ended before it"
        return [
            outcome
            for partition in self.partitions
            if (outcome := self.outcome.get(partition, PartitionOutcome(partition, why=why))).why
        ]

    @property
    def rows(self) -> int:
        """How many rows the partitions hold that were done."""
        return sum(outcome.rows or 0 for outcome in self.outcome.values())


def backfill_target(platform: Platform, name: str) -> BackfillTarget:
    """Return the asset that a name such as cold/flights names. Raises TableError."""
    tier, _, table_name = name.rpartition("/")
    table = platform.table(table_name)
    if tier == "cold" and table.tiering is not None:
        return BackfillTarget(table, "cold")
    if tier == "hot" and table.load_by == "window":
        return BackfillTarget(table, "hot")
    there = [f"cold/{table.name}"] if table.tiering is not None else []
    there += [f"hot/{table.name}"] if table.load_by == "window" else []
    raise TableError(
        f"{name} is not an asset with partitions; "
        + (f"of {table.name} there is: {', '.join(there)}" if there else "the table has none")
    )


def keys_between(asset: BackfillTarget, first: str | None, last: str | None) -> list[str]:
    """Return the partitions from the first to the last, both included. Raises TableError."""
    known = partitions_of(asset.table).get_partition_keys()
    if not known:
        raise TableError(f"{asset} has no partition that has ended yet")
    for key in (first, last):
        if key is not None and key not in known:
            try:
                window_for_key(asset.table.require_partitioning.grain, key)
            except ValueError as error:
                raise TableError(f"{asset}: {error}") from error
            raise TableError(f"{asset}: {key} is not between {known[0]} and {known[-1]}")
    chosen = [key for key in known if (first or known[0]) <= key <= (last or known[-1])]
    if not chosen:
        raise TableError(f"{asset}: --from {first} is after --to {last}")
    return chosen


def states(
    platform: Platform, instance: dg.DagsterInstance, asset: BackfillTarget, keys: Sequence[str]
) -> dict[str, State]:
    """Return the state of each partition: by Dagster's records, of cold ones by PostgreSQL.

    A cold partition with nothing to move or to compact is done, whether a run moved it or not.
    """
    outcome = instance.get_status_by_partition(asset.key, keys, partitions_of(asset.table)) or {}
    found = {key: _STATES[status.value if (status := outcome.get(key)) else None] for key in keys}
    if asset.tier == "hot":
        return found
    windows = [window_for_key(asset.table.require_partitioning.grain, key) for key in keys]
    with platform.postgres.connect(autocommit=True) as connection:
        exists = relation_exists(connection, asset.table)
        work = {w.key for w in with_work(connection, asset.table, windows)} if exists else set()
        live = connection.execute(
            "select partition_key from lakebed.cold_file"
            " where table_name = %s and superseded_at is null",
            [asset.table.name],
        ).fetchall()
    for key in keys:
        if key in work and found[key] == "done":
            found[key] = "missing"
        elif key not in work and (key,) in live and found[key] != "running":
            found[key] = "done"
    return found


_STATES: dict[str | None, State] = {
    None: "missing",
    "MATERIALIZED": "done",
    "FAILED": "failed",
    "IN_PROGRESS": "running",
}


def ranges_of(asset: BackfillTarget, chosen: Sequence[str]) -> list[list[str]]:
    """Return partitions in stretches without a gap, each of which is one run."""
    known = partitions_of(asset.table).get_partition_keys()
    place = {key: number for number, key in enumerate(known)}
    found: list[list[str]] = []
    for key in chosen:
        if found and place[key] == place[found[-1][-1]] + 1:
            found[-1].append(key)
        else:
            found.append([key])
    return found


def run_range(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    asset: BackfillTarget,
    partitions: Sequence[str],
    on_partition: Callable[[PartitionOutcome], None] = lambda outcome: None,
) -> RangeRun:
    """Materialize adjacent partitions in one run; report each partition when it is done."""
    run_id, started = str(uuid.uuid4()), time.monotonic()
    watch = _Watch(instance, run_id, on_partition)
    with watch.running():
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[asset.key],
            run_id=run_id,
            run_config=_QUIET,
            raise_on_error=False,
            tags={
                "dagster/asset_partition_range_start": partitions[0],
                "dagster/asset_partition_range_end": partitions[-1],
                "lakebed/backfill": str(asset),
                HOST_TAG: socket.gethostname(),
            },
        )
    problem = None
    if not result.success:
        failures = result.get_step_failure_events() or result.filter_events(_is_failure_of_run)
        problem = " | ".join(map(_reason, failures))
    return RangeRun(run_id, partitions, time.monotonic() - started, watch.outcome, problem)


def _is_failure_of_run(event: dg.DagsterEvent) -> bool:
    return event.event_type is dg.DagsterEventType.RUN_FAILURE


def _reason(event: dg.DagsterEvent) -> str:
    """Return the error of a failed step or run, without Dagster's words around it."""
    step = event.is_step_failure
    error = event.step_failure_data.error if step else event.job_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else "no message"


class _Watch:
    """Reads the events of a run while it runs."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        run_id: str,
        on_partition: Callable[[PartitionOutcome], None],
    ) -> None:
        self.outcome: dict[str, PartitionOutcome] = {}
        self._instance = instance
        self._run_id = run_id
        self._on_partition = on_partition
        self._cursor: str | None = None
        self._over = Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = Thread(target=self._poll, name="lakebed_backfill", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        self._poll_once()

    def _poll(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            self._poll_once()

    def _poll_once(self) -> None:
        more = True
        while more:
            found = self._instance.get_records_for_run(
                self._run_id, self._cursor, of_type=_OUTCOME_EVENTS, limit=EVENTS_AT_ONCE
            )
            self._cursor, more = found.cursor, found.has_more
            for record in found.records:
                outcome = _outcome_of(record.event_log_entry.get_dagster_event())
                if outcome is not None and (outcome.why or outcome.partition not in self.outcome):
                    self.outcome[outcome.partition] = outcome
                    self._on_partition(outcome)


def _outcome_of(event: dg.DagsterEvent) -> PartitionOutcome | None:
    """Return what an event says of a partition: that it was done, or that it failed."""
    if event.is_step_materialization:
        materialization = event.step_materialization_data.materialization
        rows = materialization.metadata.get("dagster/partition_row_count")
        assert materialization.partition is not None
        return PartitionOutcome(materialization.partition, rows=int(str(rows.value)) if rows else 0)
    evaluation = event.asset_check_evaluation_data
    if evaluation.partition is None or evaluation.passed:
        return None
    if evaluation.severity is dg.AssetCheckSeverity.WARN:
        return None
    return PartitionOutcome(
        evaluation.partition, why=evaluation.description or evaluation.check_name
    )
