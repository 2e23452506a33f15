"""cold/<table>: the move of each partition, as a partitioned Dagster asset."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from lakebed.errors import TieringError
from lakebed.ingest.sources.reader import listed
from lakebed.monitoring.heat_picture import heat_picture, legend
from lakebed.monitoring.status import read_states
from lakebed.orchestration.dagster_metadata import owners, pace, picture, query_of, table_link
from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.dagster_runs import PartitionLog, RetryQueue, partitions_failed
from lakebed.orchestration.dagster_tables import table_schema
from lakebed.orchestration.move_checks import (
    cold_check_specs,
    files_result,
    fingerprint_result,
    not_moved,
)
from lakebed.orchestration.phases import MOVE_PHASES, Phases
from lakebed.orchestration.recorded_state import cold_metadata, recorded_moves
from lakebed.orchestration.table_checks import watched_results, watched_specs
from lakebed.resources.postgres import PostgresUnavailableError
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.partitions import Window, window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.store.policy import due
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.holds import PartitionHeldError
from lakebed.tiering.move_many import move_many
from lakebed.tiering.report import Moved
from lakebed.tiering.verify import verify

JOBS = "lakebed/jobs"
"""The tag of a run that says how many partitions it moves at once; 1 where it does not."""

BY_POLICY = "lakebed/cold"
"""The tag of a run that the sensor started: a partition that was restored since stays hot."""

BEFORE_DUE = "lakebed/before_due"
"""The tag of a run that also moves partitions that are not due."""

_CHOOSES_PARTITIONS = {BY_POLICY, BEFORE_DUE, "lakebed/backfill"}
"""A run with one of these tags moves every partition of its range, due or not."""


def cold_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    """Return the asset whose partitions are moved, or compacted, when they are materialized.

    A range of partitions is one run; a partition that fails leaves the others green.
    """
    with warnings.catch_warnings():
        # Backfill policies are in beta; that they may change is ours to know, not the user's.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _cold_asset(platform, table)


def _cold_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    key = dg.AssetKey(cold_key(table.name))

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(hot_key(table.name))],
        description=(
            f"{table.description}\n\nPartitions of `hot/{table.name}` that ended more than "
            f"{table.require_tiering.hot_for.days} days ago, as Parquet in the lake. A green "
            "partition needs no move: it has its file, has no rows, is held after a restore, or is "
            "not due yet; its metadata says which."
        ),
        group_name="cold",
        kinds={"duckdb", "parquet"},
        owners=owners(table.owner),
        tags={
            "grain": table.require_partitioning.grain.value,
            "hot_for_days": str(table.require_tiering.hot_for.days),
        },
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/uri": f"{platform.lake.files.uri}/{table.name}",
            **table_link(table),
        },
        partitions_def=partitions_of(table),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=f"cold_{table.name}",
        output_required=False,
        check_specs=[*cold_check_specs(table, key), *watched_specs(table, "cold")],
    )
    def settle(context: dg.AssetExecutionContext) -> Iterator[Any]:
        log = PartitionLog(context, key)
        failed: list[tuple[str, str]] = []
        chosen, not_due = _chosen_partitions(context, platform, table)
        for partition, metadata in not_due.items():
            yield from log.add(partition, metadata, [])
        retry_queue, told, left = RetryQueue(chosen), 0, 0
        phases: dict[Window, Phases] = {}

        def begin(window: Window) -> Phases:
            phases[window] = Phases(MOVE_PHASES)
            return phases[window]

        jobs = max(1, int(context.run.tags.get(JOBS, "1")))
        by_policy = platform.clock.now() if BY_POLICY in context.run.tags else None
        for partitions in retry_queue.batches():
            windows = [window_for_key(table.require_partitioning.grain, key) for key in partitions]
            for window, done in move_many(platform.lake, table, windows, jobs, begin, by_policy):
                if isinstance(done, PartitionHeldError):
                    context.log.info(str(done))
                    left += 1
                    continue
                if isinstance(done, Exception):
                    if retry_queue.requeue(window.key, done):
                        continue
                    if not isinstance(done, TieringError | PostgresUnavailableError):
                        raise done
                    failed.append((window.key, str(done)))
                    yield from log.add(window.key, None, [not_moved(str(done))])
                    continue
                told += 1
                metadata = _metadata(platform, table, window, done, phases[window])
                if told + left + len(failed) == len(chosen):
                    metadata |= heat_map(platform, table)
                yield from log.add(window.key, metadata, [fingerprint_result(done)])
        yield from log.finish()
        yield files_result(verify(platform, table))
        yield from watched_results(platform, table, "cold")
        write_catalog(platform)
        if failed:
            raise partitions_failed(failed, len(context.partition_keys))

    return settle


def _chosen_partitions(
    context: dg.AssetExecutionContext, platform: Platform, table: SourceTable
) -> tuple[list[str], dict[str, Mapping[str, Any]]]:
    """Return the partitions that a run moves, and the state of those that are not due.

    "Materialize all" and "Missing" in the browser select partitions that are not due. These stay
    as they are, unless a tag of the run says otherwise.
    """
    keys, now = context.partition_keys, platform.clock.now()
    if _CHOOSES_PARTITIONS & context.run.tags.keys():
        return list(keys), {}
    are_due = {window.key for window in due(table, now)}
    left = [key for key in keys if key not in are_due]
    if not left:
        return list(keys), {}
    with platform.postgres.connect(autocommit=True) as connection:
        events = recorded_moves(connection, platform, table, left, now)
    context.log.info(
        f"{table.name}: {len(left)} of {len(keys)} partitions are not due and stay as they are: "
        f"{listed(left)}. To move one now, add the tag {BEFORE_DUE} to the run, or run "
        f"`lakebed move {table.name} --partition {left[-1]}`."
    )
    states = {str(event.partition): event.metadata for event in events}
    return [key for key in keys if key in are_due], states


def heat_map(platform: Platform, table: SourceTable) -> dict[str, Any]:
    """Return the picture of a table's partitions as they are now, and how many are how."""
    with platform.postgres.connect() as connection:
        states = read_states(connection, table, platform.clock.now())
    drawn = heat_picture(states, table.require_partitioning.grain)
    return {"heat_map": picture(drawn, legend(states))}


def _metadata(
    platform: Platform, table: SourceTable, window: Window, done: Moved, phases: Phases
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": done.rows_in_file,
        "rows_moved": done.moved,
        "rows_overridden": done.overridden,
        "deletes_folded": done.deletes,
        "fingerprint": "equal" if done.fingerprint else "nothing to move",
        "query": query_of(table.name, table.require_partitioning.column, window),
        **pace(done.moved, done.bytes, done.seconds, phases),
    }
    with platform.postgres.connect(autocommit=True) as connection:
        # A partition that was cold before has a generation, though this run moved nothing.
        recorded = cold_metadata(connection, platform, table, window.key)
    return {**metadata, **recorded}
