"""The sensor by which the UI shows what commands did: it reports what Dagster did not run.

PostgreSQL is the truth. A tick reads it, then which runs are under way, then the event log:

    records           the ledger, the manifest, the versions of models
    runs              assets of a run that has not ended are left to that run
    event log         newest materialization of each asset and partition
    report            what the records have and the event log does not

In this order nothing is reported twice: a run that committed before the records were read is still
under way, or its events are in the event log. A tick that dies has reported some events; the next
one finds them and reports the rest.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import dagster as dg

from lakebed.ingest.relatives import lookup_references, relatives
from lakebed.models.model import Model, ModelSet
from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.dagster_private import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from lakebed.orchestration.move_checks import files_evaluation, recorded_fingerprint
from lakebed.orchestration.recorded_state import (
    DATA_VERSION,
    STATE,
    RecordedEvent,
    recorded_builds,
    recorded_loads,
    recorded_model_windows,
    recorded_moves,
)
from lakebed.orchestration.table_checks import evaluation_of, watched_results
from lakebed.resources.postgres import Connection
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.verify import verify

EVENTS_PER_TICK = 300
SECONDS_PER_TICK = 20.0
SECONDS_BETWEEN_TICKS = 15
RECORDS_PER_QUERY = 500

_UNDER_WAY = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_MATERIALIZED = dg.DagsterEventType.ASSET_MATERIALIZATION


@dataclass
class Reconciliation:
    """One comparison of PostgreSQL's records with the event log of a Dagster instance."""

    platform: Platform
    models: ModelSet
    instance: dg.DagsterInstance
    compared: dict[str, str] = field(default_factory=dict)
    """By asset, a digest of its records and events when both last agreed."""

    def run(self) -> int:
        """Report at most EVENTS_PER_TICK events that the event log does not have; count them."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            recorded = self._recorded_partitions(connection)
            builds = list(recorded_builds(connection, self._unpartitioned_models()))
            known = self._known_loads()
            loads = {
                table.name: recorded_loads(connection, table, known.get(table.name))
                for table in self._loaded_by_cursor()
            }
            busy = self._busy_assets(connection)
        events = [event for table in loads.values() for event in table]
        # A run may have reported its load since the records were read.
        newest = self._known_loads()
        events = [event for event in events if newest.get(_name(event)) == known.get(_name(event))]
        events += self._unknown_builds(builds)
        for asset, states in recorded.items():
            events += self._unknown_partitions(asset, states)
        events = [event for event in events if event.key not in busy]
        return self._report(_first_round(events, {event.key for event in builds}))

    def _loaded_by_cursor(self) -> list[SourceTable]:
        tables = self.platform.tables
        return [t for t in tables if t.source is not None and t.load_by == "cursor"]

    def _unpartitioned_models(self) -> dict[str, Model]:
        return {m.name: m for m in self.models.built() if not _has_windows(m)}

    def _recorded_partitions(
        self, connection: Connection
    ) -> dict[dg.AssetKey, list[RecordedEvent]]:
        """Return the records of every asset that has partitions."""
        found, now = {}, self.platform.clock.now()
        for table in self.platform.tables:
            if table.tiering is not None:
                keys = partitions_of(table).get_partition_keys()
                key = dg.AssetKey(cold_key(table.name))
                found[key] = recorded_moves(connection, self.platform, table, keys, now)
        for model in filter(_has_windows, self.models.built()):
            key = dg.AssetKey(list(model.key))
            found[key] = list(recorded_model_windows(connection, model))
        return found

    def _known_loads(self) -> dict[str, str]:
        """Return the data version of the newest materialization of each hot table, by name."""
        keys = {dg.AssetKey(hot_key(t.name)): t.name for t in self._loaded_by_cursor()}
        found = {}
        for record in self.instance.get_asset_records(list(keys)):
            entry = record.asset_entry.last_materialization
            event = entry.asset_materialization if entry is not None else None
            if event is not None:
                name = keys[record.asset_entry.asset_key]
                found[name] = (event.tags or {}).get(DATA_VERSION, "unknown")
        return found

    def _busy_assets(self, connection: Connection) -> set[dg.AssetKey]:
        """Return the assets that runs under way may materialize, or finish the loads of."""
        busy: set[dg.AssetKey] = set()
        for run in self.instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
            busy |= run.asset_selection or set()
        related = {
            dg.AssetKey(hot_key(name))
            for table in self.platform.tables
            if dg.AssetKey(hot_key(table.name)) in busy
            for name in relatives(connection, table)
        }
        waiting = {
            dg.AssetKey(hot_key(child))
            for child, parent in lookup_references(self.platform.tables)
            if dg.AssetKey(hot_key(parent)) in busy
        }
        return busy | related | waiting

    def _unknown_builds(self, builds: Sequence[RecordedEvent]) -> list[RecordedEvent]:
        """Return the builds whose generation the newest materialization does not name."""
        known = {}
        for record in self.instance.get_asset_records([event.key for event in builds]):
            entry = record.asset_entry.last_materialization
            event = entry.asset_materialization if entry is not None else None
            if event is not None and "generation" in event.metadata:
                known[record.asset_entry.asset_key] = str(event.metadata["generation"].value)
        return [event for event in builds if known.get(event.key) != event.mark]

    def _unknown_partitions(
        self, asset: dg.AssetKey, recorded: Sequence[RecordedEvent]
    ) -> list[RecordedEvent]:
        """Return the states of partitions that their newest materializations do not show."""
        storage = self.instance.event_log_storage
        newest = storage.get_latest_storage_id_by_partition(asset, _MATERIALIZED)
        name = asset.to_user_string()
        digest = _digest([*((e.partition, e.mark) for e in recorded), *sorted(newest.items())])
        if self.compared.get(name) == digest:
            return []
        known = self._marks(asset, newest.values())
        unknown = [
            event
            for event in recorded
            if event.partition not in newest
            or (event.mark and known.get(event.partition) != event.mark)
        ]
        if not unknown:
            self.compared[name] = digest
        return unknown

    def _marks(self, asset: dg.AssetKey, storage_ids: Iterable[int]) -> dict[str | None, str]:
        """Return the state that each of these materializations shows, by partition."""
        found, ids = {}, sorted(storage_ids)
        for first in range(0, len(ids), RECORDS_PER_QUERY):
            some = ids[first : first + RECORDS_PER_QUERY]
            records = self.instance.fetch_materializations(
                dg.AssetRecordsFilter(asset, storage_ids=some), limit=len(some)
            ).records
            for record in records:
                event = record.asset_materialization
                if event is not None and STATE in event.metadata:
                    found[event.partition] = str(event.metadata[STATE].value)
        return found

    def _report(self, events: Sequence[RecordedEvent]) -> int:
        """Report events, then the checks of what they changed, until the time is up."""
        deadline, reported = time.monotonic() + SECONDS_PER_TICK, []
        for event in events[:EVENTS_PER_TICK]:
            if time.monotonic() > deadline:
                break
            self.instance.report_runless_asset_event(event.to_materialization())
            reported.append(event)
        changed = {event.key for event in reported}
        for table in self.platform.tables:
            if dg.AssetKey(hot_key(table.name)) in changed:
                self._report_checks(watched_results(self.platform, table, "hot"))
            cold = dg.AssetKey(cold_key(table.name))
            if cold in changed:
                self._report_fingerprints(cold, [e for e in reported if e.key == cold])
                found = files_evaluation(cold, verify(self.platform, table), deep=False)
                self.instance.report_runless_asset_event(found)
                self._report_checks(watched_results(self.platform, table, "cold"))
        return len(reported)

    def _report_checks(self, results: Iterable[dg.AssetCheckResult]) -> None:
        for result in results:
            self.instance.report_runless_asset_event(evaluation_of(result))

    def _report_fingerprints(self, cold: dg.AssetKey, moved: Sequence[RecordedEvent]) -> None:
        """Report the check of each partition with a file: its move compared before it committed."""
        with_file = {e.partition: e for e in moved if e.partition and "file" in e.metadata}
        if not with_file:
            return
        newest = self.instance.event_log_storage.get_latest_storage_id_by_partition(
            cold, _MATERIALIZED, set(with_file)
        )
        for partition, number in newest.items():
            target = Target(storage_id=number, run_id="", timestamp=time.time())
            event = with_file[partition]
            self.instance.report_runless_asset_event(
                recorded_fingerprint(cold, partition, event.metadata, target)
            )


def reconciliation_sensor(platform: Platform, models: ModelSet) -> dg.SensorDefinition:
    """Return the sensor that reports what commands did, at the start and every few seconds."""

    @dg.sensor(
        name="commands_in_the_ui",
        description="Shows what commands did: reports loads, moves, restores and builds that "
        "PostgreSQL records and no run of Dagster reported. It starts nothing.",
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def commands_in_the_ui(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        compared = json.loads(context.cursor or "{}")
        reconciliation = Reconciliation(platform, models, context.instance, compared)
        reported = reconciliation.run()
        return dg.SensorResult(
            skip_reason=f"{reported} events were reported",
            cursor=json.dumps(reconciliation.compared),
        )

    return commands_in_the_ui


def _has_windows(model: Model) -> bool:
    return model.incremental is not None and model.incremental.batches is not None


def _name(event: RecordedEvent) -> str:
    return event.key.path[-1]


def _first_round(events: Sequence[RecordedEvent], builds: set[dg.AssetKey]) -> list[RecordedEvent]:
    """Return events in the order of their commits, up to a load that follows a build.

    The automation counts a build and a load that it sees at once as one. Apart, it sees that the
    model is out of date.
    """
    ordered = sorted(events, key=lambda event: (event.at is None, event.at or 0))
    found: list[RecordedEvent] = []
    built = False
    for event in ordered:
        if built and event.key.path[0] == "hot":
            break
        built = built or event.key in builds
        found.append(event)
    return found


def _digest(lines: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(repr, lines)).encode()).hexdigest()[:16]
