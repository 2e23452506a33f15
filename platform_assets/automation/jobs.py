"""Jobs that no data starts: the daily upkeep, and the deep verification of the lake."""

import dagster as dg

from platform_assets.keys import cold_key
from platform_assets.platform import Platform
from platform_assets.quality.ddl import ensure_leaves_ahead, relation_exists
from platform_assets.tiering.catalog_file import write_catalog
from platform_assets.tiering.checks import files_evaluation
from platform_assets.tiering.verify import verify


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


def verify_job(platform: Platform) -> dg.JobDefinition:
    """Return the job that reads every live file of the lake; it tells each cold asset's check."""

    @dg.op(description="Hold SHA-256, count and fingerprint of each file against the manifest.")
    def read_every_file(context: dg.OpExecutionContext) -> None:
        wrong: list[str] = []
        for table in platform.tables:
            if table.tiering is None:
                continue
            found = verify(platform, table, deep=True)
            key = dg.AssetKey(cold_key(table.name))
            context.instance.report_runless_asset_event(files_evaluation(key, found, deep=True))
            context.log.info(f"{table.name}: {len(found)} files read")
            wrong += [f"{file.path}: {file.problem}" for file in found if file.problem]
        if wrong:
            raise dg.Failure(
                f"{len(wrong)} files are not what the manifest says: " + " | ".join(wrong[:5]),
                allow_retries=False,
            )

    @dg.job(name="verify", description="Reads every file of the lake and checks it.")
    def verify_everything() -> None:
        read_every_file()

    return verify_everything
