"""What PostgreSQL records of tables and models, as the events that a run would have reported.

Every event carries a mark: the load, the generation or the state that it speaks of. A run reports
the same mark, so an event that is in Dagster's event log already can be recognized.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from lakebed.ingest.incremental import last_load_of
from lakebed.ingest.report import LoadReport
from lakebed.models.model import Model
from lakebed.monitoring.status import State, hot_row_count, read_states
from lakebed.orchestration.dagster_metadata import load_metadata, pace, query_of
from lakebed.orchestration.dagster_tables import table_schema
from lakebed.resources.postgres import Connection
from lakebed.schema.ddl import relation_exists
from lakebed.schema.evolved import effective
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform

LOADS_OF_A_TABLE = 20
"""How many of the newest loads of a table are reported, each as an event of its own."""

DATA_VERSION = "dagster/data_version"
STATE = "state"
"""The metadata of a cold partition that says where its rows are; also its mark."""

NO_ROWS = "no rows"
NOT_DUE = "not due yet, its rows are in PostgreSQL"

_STATES: dict[State, str] = {
    "hot": NOT_DUE,
    "held": "restored to PostgreSQL, and held there",
    "missing": NO_ROWS,
    "empty": NO_ROWS,
}


@dataclass(frozen=True)
class RecordedEvent:
    """A materialization, as PostgreSQL records what it speaks of."""

    key: dg.AssetKey
    partition: str | None
    mark: str
    """What identifies the event within its partition: a load, a generation or a state."""
    at: datetime | None
    """When PostgreSQL committed what the event speaks of, where it says so."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data_version: str | None = None

    def to_materialization(self) -> dg.AssetMaterialization:
        """Return the event as Dagster stores it."""
        committed = {"committed_at": dg.MetadataValue.timestamp(self.at)} if self.at else {}
        return dg.AssetMaterialization(
            self.key,
            partition=self.partition,
            description="Done outside Dagster, for example by a command.",
            metadata={**self.metadata, **committed},
            tags={DATA_VERSION: self.data_version} if self.data_version else None,
        )


def cold_metadata(
    connection: Connection, platform: Platform, table: SourceTable, key: str
) -> dict[str, Any]:
    """Return what the manifest says of a partition: its state, generation, rows, bytes and file."""
    row = connection.execute(
        "select generation, rows, bytes, path, moved_at from lakebed.cold_file"
        " where (table_name, partition_key) = (%s, %s) and superseded_at is null",
        [table.name, key],
    ).fetchone()
    return {STATE: NO_ROWS} if row is None else _file_metadata(platform, table, key, *row[:4])


def _file_metadata(
    platform: Platform,
    table: SourceTable,
    key: str,
    generation: int,
    rows: int,
    size: int,
    path: str,
) -> dict[str, Any]:
    by = table.require_partitioning
    return {
        STATE: f"generation {generation}",
        "generation": generation,
        "dagster/partition_row_count": rows,
        "bytes": size,
        "file": dg.MetadataValue.path(platform.lake.files.address(path)),
        "query": query_of(table.name, by.column, window_for_key(by.grain, key)),
    }


def recorded_moves(
    connection: Connection,
    platform: Platform,
    table: SourceTable,
    keys: Collection[str],
    now: datetime,
) -> list[RecordedEvent]:
    """Return the state of partitions: the live file of each, or why it needs none.

    A due partition that still has its rows in PostgreSQL is left out: it waits for its move. A
    partition that has not ended by the platform's clock is not due.
    """
    if not relation_exists(connection, table):
        return []
    files = {
        key: rest
        for key, *rest in connection.execute(
            "select partition_key, generation, rows, bytes, path, moved_at from lakebed.cold_file"
            " where table_name = %s and superseded_at is null",
            [table.name],
        )
    }
    asset, found = dg.AssetKey(cold_key(table.name)), []
    states = read_states(connection, table, now)
    for key in sorted(keys):
        state = states.get(key, "hot")
        if key in files:
            *file, moved_at = files[key]
            metadata = _file_metadata(platform, table, key, *file)
            found.append(RecordedEvent(asset, key, metadata[STATE], moved_at, metadata))
        elif state in _STATES:
            metadata = {STATE: _STATES[state], "dagster/partition_row_count": 0}
            found.append(RecordedEvent(asset, key, _STATES[state], None, metadata))
    return found


_LOADS = """\
select load_id, started_at, committed_at, files, bytes, rows_read, inserted, updated, unchanged,
       superseded, marked, rejected, deleted, cursor_from, cursor_to
from lakebed.load where table_name = %s and rolled_back_at is null"""

_AFTER = """
  and committed_at > coalesce((select committed_at from lakebed.load where load_id = %s),
                              '-infinity')"""


def recorded_loads(
    connection: Connection, table: SourceTable, known: str | None
) -> list[RecordedEvent]:
    """Return the loads after the one that Dagster knows, oldest first; none where it knows all.

    Args:
        connection: To the platform's database.
        table: A table that is loaded by cursor.
        known: The data version of the table's newest materialization: the last load it shows.
    """
    last = last_load_of(connection, table)
    if (last or "empty") == (known or "empty") or not relation_exists(connection, table):
        return []
    limit = f" order by committed_at desc limit {LOADS_OF_A_TABLE}"
    rows = connection.execute(f"{_LOADS}{_AFTER}{limit}", [table.name, known]).fetchall()
    if not rows:  # the newest loads were rolled back
        newest = f"{_LOADS} order by committed_at desc limit 1"
        rows = connection.execute(newest, [table.name]).fetchall()
    events = [_load_event(table, *row) for row in reversed(rows)]
    if not events:
        events = [RecordedEvent(dg.AssetKey(hot_key(table.name)), None, "empty", None)]
    return [*events[:-1], _with_state(connection, table, events[-1])]


def _with_state(connection: Connection, table: SourceTable, event: RecordedEvent) -> RecordedEvent:
    """Return the newest event with what is so of the table now."""
    rows, estimated = hot_row_count(connection, table)
    metadata = {
        **event.metadata,
        "dagster/row_count": rows,
        "row_count": "of PostgreSQL's statistics" if estimated else "counted",
        "query": query_of(table.name),
        "dagster/column_schema": table_schema(effective(connection, table)),
    }
    return RecordedEvent(event.key, None, event.mark, event.at, metadata, event.mark)


def _load_event(
    table: SourceTable, load_id: str, started: datetime, committed: datetime, *figures: Any
) -> RecordedEvent:
    files, size, read, inserted, updated, unchanged, superseded, marked, *rest = figures
    rejected, deleted, cursor_from, cursor_to = rest
    report = LoadReport(
        table=table.name,
        load_ids=(load_id,),
        files=files,
        bytes=size,
        rows_read=read,
        inserted=inserted,
        updated=updated,
        unchanged=unchanged,
        superseded=superseded,
        marked=marked,
        rejected=rejected,
        deleted=deleted,
        cursor_from=cursor_from,
        cursor_to=cursor_to,
        seconds=max(0.0, (committed - started).total_seconds()),
    )
    metadata = load_metadata(report)
    # The ledger does not record which columns a load added.
    for name in ("columns_added", "columns_left_out"):
        del metadata[name]
    key = dg.AssetKey(hot_key(table.name))
    return RecordedEvent(key, None, load_id, committed, metadata, load_id)


def recorded_builds(connection: Connection, models: Mapping[str, Model]) -> Iterator[RecordedEvent]:
    """Yield the live version of each model that has no partitions."""
    for name, generation, rows, size, built_at in connection.execute(
        "select model, generation, rows, bytes, built_at from lakebed.model_version"
        " where superseded_at is null and model = any (%s)",
        [list(models)],
    ).fetchall():
        metadata: dict[str, Any] = {"generation": generation, "query": query_of(name)}
        if rows is not None:
            metadata["dagster/row_count"] = rows
        if size is not None:
            metadata["bytes"] = size
        key = dg.AssetKey(list(models[name].key))
        yield RecordedEvent(key, None, str(generation), built_at, metadata)


def recorded_model_windows(connection: Connection, model: Model) -> Iterator[RecordedEvent]:
    """Yield the windows of a model built by windows that have a live file."""
    batches = model.incremental.batches if model.incremental else None
    assert batches is not None
    key = dg.AssetKey(list(model.key))
    for lower, rows, size, written_at in connection.execute(
        "select lower_bound, sum(rows)::bigint, sum(bytes)::bigint, max(written_at)"
        " from lakebed.model_file where superseded_at is null and lower_bound is not null"
        " and model = %s group by lower_bound order by 1",
        [model.name],
    ).fetchall():
        partition = lower.astimezone(UTC).strftime(batches.grain.key_format)
        metadata = {"dagster/partition_row_count": rows, **pace(None, size, 0.0)}
        del metadata["seconds"]
        yield RecordedEvent(key, partition, "", written_at, metadata)
