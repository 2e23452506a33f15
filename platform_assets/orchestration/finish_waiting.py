"""Loads that waited for the table of a run, finished in that run and shown as what they are."""

import dagster as dg

from lakebed.ingest.finish import Finished, finish_loads
from lakebed.ingest.incremental import last_load_of
from lakebed.orchestration.dagster_metadata import load_metadata, load_summary
from lakebed.spec.names import hot_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform


def finish_waiting(
    context: dg.AssetExecutionContext, platform: Platform, table: SourceTable
) -> list[SourceTable]:
    """Finish the loads that wait for a table which has just been loaded; return the tables.

    Each of another table is a materialization of that one. One that fails again stays as it was:
    it is not this run that failed.
    """
    changed = []
    for finished in finish_loads(
        platform.settings, platform.postgres, platform.clock, platform.tables, asked=[table.name]
    ):
        name = finished.table.name
        if finished.error is not None:
            why = platform.postgres.redact(str(finished.error))
            context.log.warning(f"{name} waited for this load and still cannot be loaded: {why}")
            continue
        for report in finished.reports:
            context.log.info(f"{name} had waited for this load: {load_summary(report)}")
        if finished.reports:
            changed.append(finished.table)
        if finished.reports and name != table.name and finished.table.load_by == "cursor":
            context.log_event(_materialization(platform, finished))
    return changed


def _materialization(platform: Platform, finished: Finished) -> dg.AssetMaterialization:
    with platform.postgres.connect() as connection:
        last_load = last_load_of(connection, finished.table)
    return dg.AssetMaterialization(
        asset_key=dg.AssetKey(hot_key(finished.table.name)),
        description="finished by the load of a table that it waited for",
        metadata=load_metadata(finished.reports[-1]),
        tags={"dagster/data_version": last_load or "empty"},
    )
