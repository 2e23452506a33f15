"""source/<table> and hot/<table>: where rows come from, and their load, as Dagster assets."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import duckdb
import psycopg

from lakebed.doors.write import refresh_catalog
from lakebed.errors import LakebedError, TieringError
from lakebed.ingest.incremental import last_load_of
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.relatives import lookup_parents
from lakebed.monitoring.status import hot_row_count
from lakebed.orchestration.dagster_metadata import (
    load_metadata,
    load_summary,
    owners,
    query_of,
    table_link,
)
from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.dagster_runs import (
    PartitionLog,
    RetryQueue,
    expected_refusals,
    partitions_failed,
    retried,
)
from lakebed.orchestration.dagster_tables import source_schema, table_schema
from lakebed.orchestration.finish_waiting import finish_waiting
from lakebed.orchestration.load_checks import hot_check_specs, refused_result, window_results
from lakebed.orchestration.phases import LOAD_PHASES, Phases
from lakebed.orchestration.table_checks import watched_results, watched_specs
from lakebed.resources.lake_files import LakeFileError
from lakebed.schema.evolved import effective
from lakebed.spec.names import hot_key, source_key
from lakebed.spec.partitions import window_for_key
from lakebed.spec.sources import RejectedRows, Source
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.lake_copies import LakeCopy, write_due_copies

Decorator = Callable[[Callable[..., Iterator[Any]]], dg.AssetsDefinition]


def source_spec(platform: Platform, table: SourceTable) -> dg.AssetSpec:
    """Return the external asset of a table's source files."""
    return dg.AssetSpec(
        source_key(table.name),
        description=f"{table.require_source.title}, as the source delivers them.".capitalize(),
        group_name="source",
        kinds={table.require_source.kind}
        if table.require_source.resumes == "query"
        else {table.require_source.kind, "file"},
        owners=owners(table.owner),
        tags={"read_by": table.require_source.resumes},
        metadata={
            "dagster/column_schema": source_schema(table),
            **_where(platform, table.require_source),
            **table_link(table),
        },
    )


def _where(platform: Platform, source: Source) -> dict[str, Any]:
    if isinstance(source, RejectedRows) or source.resumes == "query":
        return {}
    # A URL stays one; joined to a folder it would not.
    url = "://" in source.glob
    return {"glob": source.glob if url else str(platform.settings.data / source.glob)}


def hot_spec(table: SourceTable) -> dg.AssetSpec:
    """Return the external asset of a table without a source: Lakebed only moves its partitions."""
    return dg.AssetSpec(
        hot_key(table.name),
        description=table.description,
        group_name="hot",
        kinds={"postgres"},
        owners=owners(table.owner),
        tags={"written_by": "others"},
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/table_name": table.place,
            **table_link(table),
        },
    )


def hot_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    """Return the asset that loads a table by cursor: each run takes what is new."""
    key = dg.AssetKey(hot_key(table.name))

    asset: Decorator = dg.asset(key=key, **_described(platform, table, key))

    @asset
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        phases = Phases(LOAD_PHASES)
        with expected_refusals(platform), retried(context):
            report = load_table(
                platform.settings, platform.postgres, platform.clock, table, on_step=phases
            )
        context.log.info(load_summary(report))
        others = finish_waiting(context, platform, table)
        taken, problem = _lake_copies(context, platform, table, *others)
        with platform.postgres.connect() as connection:
            last_load = last_load_of(connection, table)
            loaded = effective(connection, table)
            rows, estimated = hot_row_count(connection, table)
        yield dg.MaterializeResult(
            # What depends on the table is out of date after a load, not after a look.
            data_version=dg.DataVersion(last_load or "empty"),
            metadata={
                "dagster/row_count": rows,
                "row_count": "of PostgreSQL's statistics" if estimated else "counted",
                **load_metadata(report, phases),
                "query": query_of(table.name),
                "dagster/column_schema": table_schema(loaded),
                **_lake_copy_metadata(platform, table, taken),
            },
            check_results=watched_results(platform, table, "hot", report),
        )
        if report.refused:
            raise dg.Failure(
                f"{len(report.refused)} files were refused. All other files were loaded. "
                + " | ".join(f"{r.path}: {r.problem}" for r in report.refused[:5]),
                allow_retries=False,
            )
        _fail_without(problem)

    return load


def window_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    """Return the asset whose partitions are replaced by what the source has of them.

    A range of partitions is one run; a partition that fails leaves the others green.
    """
    with warnings.catch_warnings():
        # Backfill policies are in beta; that they may change is ours to know, not the user's.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _window_asset(platform, table)


def _window_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    key = dg.AssetKey(hot_key(table.name))

    asset: Decorator = dg.asset(
        key=key,
        partitions_def=partitions_of(table),
        backfill_policy=dg.BackfillPolicy.single_run(),
        output_required=False,
        **_described(platform, table, key),
    )

    @asset
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        log = PartitionLog(context, key)
        failed: list[tuple[str, str]] = []
        retry_queue = RetryQueue(context.partition_keys)
        for partition in retry_queue:
            window = window_for_key(table.require_partitioning.grain, partition)
            phases = Phases(LOAD_PHASES)
            try:
                report = load_window(
                    platform.settings,
                    platform.postgres,
                    platform.clock,
                    table,
                    window,
                    on_step=phases,
                )
            except (LakebedError, psycopg.OperationalError) as error:
                if retry_queue.requeue(partition, error):
                    continue
                failed.append((partition, str(error)))
                yield from log.add(partition, None, [refused_result([(partition, str(error))])])
                continue
            context.log.info(f"{partition}: {load_summary(report)}")
            if report.refused:
                refused = [(item.path, item.problem) for item in report.refused]
                failed.append((partition, ": ".join(refused[0])))
                # Nothing was loaded: the results of the other checks still hold.
                yield from log.add(partition, None, [refused_result(refused, report)])
                continue
            with platform.postgres.connect() as connection:
                checks = window_results(connection, table, report)
            metadata = load_metadata(report, phases) | {
                "dagster/partition_row_count": report.inserted,
                "query": query_of(table.name, table.require_partitioning.column, window),
            }
            yield from log.add(partition, metadata, checks, report.load_id)
        others = finish_waiting(context, platform, table)
        _, problem = _lake_copies(context, platform, table, *others)
        yield from log.finish()
        yield from watched_results(platform, table, "hot")
        if failed:
            raise partitions_failed(failed, len(context.partition_keys))
        _fail_without(problem)

    return load


def _lake_copies(
    context: dg.AssetExecutionContext, platform: Platform, *tables: SourceTable
) -> tuple[list[LakeCopy], str | None]:
    """Take the snapshots of tables that are due after a load; let the catalog file show them.

    The load is committed, whatever comes of them. Returns what was taken, and what went wrong.
    """
    taken: list[LakeCopy] = []
    try:
        for table in tables:
            taken += write_due_copies(platform, table)
        if taken:
            write_catalog(platform)
        for table in tables:
            for problem in refresh_catalog(platform, table):
                context.log.error(problem)
    except (TieringError, LakeFileError, duckdb.Error) as error:
        problem = platform.lake.redact(str(error))
        context.log.error(f"snapshot: {problem}")
        return taken, problem
    return taken, None


def _fail_without(problem: str | None) -> None:
    """Turn the run red where the lake does not show what was loaded."""
    if problem is not None:
        raise dg.Failure(
            f"the load is committed, the lake does not show it yet: {problem}. The next load takes "
            "a snapshot that is missing, `lakebed housekeep` writes the catalog file"
        )


def _lake_copy_metadata(
    platform: Platform, table: SourceTable, taken: list[LakeCopy]
) -> dict[str, Any]:
    for copy in taken:
        if copy.table == table.name:
            return {
                "snapshot_rows": copy.rows,
                "snapshot_bytes": copy.bytes,
                "lake_copy": dg.MetadataValue.path(platform.lake.files.address(copy.path)),
            }
    return {}


def _described(platform: Platform, table: SourceTable, key: dg.AssetKey) -> dict[str, Any]:
    """Return what both kinds of load say of themselves."""
    parents = [dg.AssetKey(hot_key(name)) for name in lookup_parents(platform.tables, table)]
    return {
        "deps": [dg.AssetKey(source_key(table.name)), *parents],
        "description": table.description,
        "group_name": "hot",
        "kinds": {"dlt", "postgres", "pandera"},
        "owners": owners(table.owner),
        "tags": {"write_mode": table.write_mode, "load_by": table.load_by},
        "metadata": {
            "dagster/column_schema": table_schema(table),
            "dagster/table_name": table.place,
            "key": ", ".join(table.key) or "none",
            "cursor": table.cursor or "none",
            **table_link(table),
        },
        "pool": f"hot_{table.name}",
        "check_specs": [*hot_check_specs(table, key), *watched_specs(table, "hot")],
    }
