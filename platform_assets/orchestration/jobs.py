"""Jobs that no data starts: the daily upkeep, the deep verification of the lake, a restore."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from lakebed.errors import TieringError
from lakebed.orchestration.move_checks import files_evaluation
from lakebed.orchestration.run_retention import forget_runs
from lakebed.spec.names import cold_key
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.housekeep import housekeep
from lakebed.tiering.restorable import chosen, hold_of
from lakebed.tiering.restore import restore
from lakebed.tiering.verify import verify


def upkeep(platform: Platform) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Return the job that keeps house in both tiers, and its schedule."""

    @dg.op(
        name="housekeep",
        description="Leaves of the near future are made, emptied ones tidied, retention kept, "
        "files that nobody needs removed, the catalog file written anew.",
    )
    def keep_house(context: dg.OpExecutionContext) -> None:
        done = housekeep(platform)
        context.log.info(
            f"{done.made} leaves made, {len(done.expired)} partitions expired, "
            f"{len(done.swept)} files removed, {len(done.spared)} superseded files wait"
        )
        context.add_output_metadata({"housekept": dg.MetadataValue.json(done.to_json())})
        if done.failed:
            raise dg.Failure(" | ".join(done.failed), allow_retries=False)

    @dg.op(description="Old runs that say nothing any more go, with their events and logs.")
    def forget_old_runs(context: dg.OpExecutionContext) -> None:
        keep = platform.settings.keep_runs
        # By the system's clock, as Dagster dates its runs.
        gone = forget_runs(context.instance, datetime.now(UTC), keep)
        context.log.info(f"{gone} runs that ended more than {keep} ago are forgotten")

    @dg.job(
        name="upkeep",
        description="Housekeeping in both tiers, a fresh catalog file, and no run that is too old.",
    )
    def upkeep_job() -> None:
        keep_house()
        forget_old_runs()

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
            if table.tiering is None and not table.kept_lake_copies:
                continue
            found = verify(platform, table, deep=True)
            if table.tiering is not None:
                key = dg.AssetKey(cold_key(table.name))
                evaluation = files_evaluation(key, found, deep=True)
                context.instance.report_runless_asset_event(evaluation)
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


class RestoreConfig(dg.Config):
    """Which partitions come back: some by their keys, or all that have settled in a stretch.

    since, until: ISO 8601 with a zone, half-open.  hold: 12h, 30d, 4w.
    """

    table: str
    partitions: list[str] = Field(default_factory=list)
    since: str | None = None
    until: str | None = None
    hold: str = "7d"


def restore_job(platform: Platform) -> dg.JobDefinition:
    """Return the job that brings settled partitions back to hot."""

    @dg.op(description="Bring partitions back to hot, each in a transaction of its own.")
    def bring_back(context: dg.OpExecutionContext, config: RestoreConfig) -> None:
        table, hold = platform.table(config.table), hold_of(config.hold)
        with platform.postgres.connect() as connection:
            windows = chosen(connection, table, config.partitions, config.since, config.until)
        failed: list[str] = []
        for window in windows:
            try:
                done = restore(
                    platform.postgres, platform.lake, table, window, platform.clock.now(), hold=hold
                )
                context.log.info(done.line)
            except TieringError as error:
                failed.append(str(error))
        write_catalog(platform)
        if failed:
            raise dg.Failure(
                f"{len(failed)} of {len(windows)} partitions were not restored: "
                + " | ".join(failed[:5]),
                allow_retries=False,
            )

    @dg.job(name="restore", description="Brings settled partitions back to PostgreSQL.")
    def restore_partitions() -> None:
        bring_back()

    return restore_partitions
