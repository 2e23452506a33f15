"""cold/<table>: the move of each partition, as a partitioned Dagster asset."""

import warnings
from collections.abc import Iterator
from typing import Any

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.dagster_metadata import owners, pace, picture, query_of, table_link
from platform_assets.dagster_partitions import partitions_of
from platform_assets.dagster_tables import table_schema
from platform_assets.heat_picture import heat_picture, legend
from platform_assets.keys import cold_key, hot_key
from platform_assets.partitions import Window, window_for_key
from platform_assets.phases import MOVE_PHASES, Phases
from platform_assets.platform import Platform
from platform_assets.status import read_states
from platform_assets.tiering.catalog_file import write_catalog
from platform_assets.tiering.checks import (
    FILES,
    FINGERPRINT,
    files_result,
    fingerprint_result,
)
from platform_assets.tiering.partition import TieringError
from platform_assets.tiering.report import Moved
from platform_assets.tiering.several import move_all
from platform_assets.tiering.verify import verify

JOBS = "lakebed/jobs"
"""The tag of a run that says how many partitions it moves at once; 1 where it does not."""


def cold_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    """Return the asset whose partitions are moved, or folded, when they are materialized.

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
            f"{table.settles.hot_for.days} days ago, as Parquet in the lake."
        ),
        group_name="cold",
        kinds={"duckdb", "parquet"},
        owners=owners(table.owner),
        tags={
            "grain": table.partitioned.grain.value,
            "hot_for_days": str(table.settles.hot_for.days),
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
        check_specs=[
            dg.AssetCheckSpec(
                FINGERPRINT,
                asset=key,
                description="Each file holds what PostgreSQL held, by count and fingerprint.",
            ),
            dg.AssetCheckSpec(
                FILES,
                asset=key,
                description="Each live file is in the lake as the manifest says; the job `verify` "
                "reads them whole.",
            ),
        ],
    )
    def settle(context: dg.AssetExecutionContext) -> Iterator[Any]:
        moved: list[Moved] = []
        failed: list[tuple[str, str]] = []
        windows = [window_for_key(table.partitioned.grain, key) for key in context.partition_keys]
        phases: dict[Window, Phases] = {}

        def begin(window: Window) -> Phases:
            return phases.setdefault(window, Phases(MOVE_PHASES))

        jobs = max(1, int(context.run.tags.get(JOBS, "1")))
        for window, done in move_all(platform.lake, table, windows, jobs, begin):
            if isinstance(done, TieringError):
                failed.append((window.key, str(done)))
                continue
            if isinstance(done, Exception):
                raise done
            moved.append(done)
            metadata = _metadata(platform, table, window, done, phases[window])
            if len(moved) + len(failed) == len(windows):
                metadata |= heat_map(platform, table)
            context.log_event(
                dg.AssetMaterialization(asset_key=key, partition=window.key, metadata=metadata)
            )
        yield fingerprint_result(moved, failed)
        yield files_result(verify(platform, table))
        write_catalog(platform)
        if failed:
            raise dg.Failure(
                f"{len(failed)} of {len(failed) + len(moved)} partitions failed: "
                + " | ".join(f"{partition}: {why}" for partition, why in failed[:5]),
                allow_retries=False,
            )

    return settle


def heat_map(platform: Platform, table: SourceTable) -> dict[str, Any]:
    """Return the picture of a table's partitions as they are now, and how many are how."""
    with platform.postgres.connect() as connection:
        states = read_states(connection, table, platform.clock.now())
    drawn = heat_picture(states, table.partitioned.grain)
    return {"heat_map": picture(drawn, legend(states))}


def _metadata(
    platform: Platform, table: SourceTable, window: Window, done: Moved, phases: Phases
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": done.rows,
        "rows_moved": done.moved,
        "rows_overridden": done.overridden,
        "deletes_folded": done.deletes,
        "generation": done.generation,
        "fingerprint": "equal" if done.fingerprint else "nothing to move",
        "query": query_of(table.name, table.partitioned.column, window),
        **pace(done.moved, done.bytes, done.seconds, phases),
    }
    if done.path:
        metadata["file"] = dg.MetadataValue.path(platform.lake.files.address(done.path))
    return metadata
