"""Schedules, where the time itself is the reason to run: the daily upkeep of the hot tier."""

import dagster as dg

from platform_assets.platform import Platform
from platform_assets.quality.ddl import ensure_leaves_ahead, relation_exists
from platform_assets.tiering.catalog_file import write_catalog


def upkeep(platform: Platform) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Return the job that makes the leaves of the near future, and its schedule."""

    @dg.op(description="Make the leaves of the near future, so that anybody can write there.")
    def make_leaves_ahead(context: dg.OpExecutionContext) -> None:
        with platform.postgres.connect(autocommit=True) as connection:
            for table in platform.tables:
                if relation_exists(connection, table.name):
                    made = ensure_leaves_ahead(connection, table, platform.clock.now())
                    context.log.info(f"{table.name}: {made} leaves made")

    @dg.op(description="Write lake/catalog.duckdb anew.")
    def refresh_catalog(context: dg.OpExecutionContext) -> None:
        context.log.info(f"wrote {write_catalog(platform)}")

    @dg.job(name="upkeep", description="Leaves ahead and a fresh catalog file.")
    def upkeep_job() -> None:
        make_leaves_ahead()
        refresh_catalog()

    schedule = dg.ScheduleDefinition(
        name="daily_upkeep",
        job=upkeep_job,
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return upkeep_job, schedule
