"""Jobs that no data starts: the daily upkeep, the deep verification of the lake, a restore."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from lakebed.errors import TieringError
from lakebed.orchestration.dagster_runs import expected_refusals
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
        description="Create upcoming partition tables, drop emptied ones, apply retention, delete "
        "files that no reader needs, and write the catalog file.",
    )
    def keep_house(context: dg.OpExecutionContext) -> None:
        done = housekeep(platform)
        context.log.info(
            f"Created {done.made} partition tables, expired {len(done.expired)} partitions, "
            f"deleted {len(done.swept)} files. {len(done.spared)} superseded files wait for "
            "their readers."
        )
        context.add_output_metadata({"housekept": dg.MetadataValue.json(done.to_json())})
        if done.failed:
            raise dg.Failure(" | ".join(done.failed), allow_retries=False)

    @dg.op(description="Delete old runs with their events and logs.")
    def forget_old_runs(context: dg.OpExecutionContext) -> None:
        keep = platform.settings.keep_runs
        # By the system's clock, as Dagster dates its runs.
        gone = forget_runs(context.instance, datetime.now(UTC), keep)
        context.log.info(f"Deleted {gone} runs that ended more than {keep} ago.")

    @dg.job(
        name="upkeep",
        description="Keeps both tiers in order: partition tables, retention, superseded files, the "
        "catalog file, and old runs.",
    )
    def upkeep_job() -> None:
        keep_house()
        forget_old_runs()

    schedule = dg.ScheduleDefinition(
        name="daily_upkeep",
        description="Each night at 3:00 UTC: creates upcoming partition tables, applies retention, "
        "deletes files that no reader needs, and forgets old runs.",
        job=upkeep_job,
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return upkeep_job, schedule


def verify_job(platform: Platform) -> dg.JobDefinition:
    """Return the job that reads every live file and reports to the check `files` of cold assets."""

    @dg.op(description="Compare SHA-256, count and fingerprint of each file with the manifest.")
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
                f"{len(wrong)} files differ from the manifest: " + " | ".join(wrong[:5]),
                allow_retries=False,
            )

    @dg.job(
        name="verify",
        description="Reads every file of the lake and compares it with the manifest. The result "
        "is the check `files` of each cold asset.",
    )
    def verify_everything() -> None:
        read_every_file()

    return verify_everything


class RestoreConfig(dg.Config):
    """Which partitions to restore: some by their keys, or all moved ones in a window."""

    table: str = Field(description="The table's name, such as flights.")
    partitions: list[str] = Field(default_factory=list, description="Keys such as 2013-03.")
    since: str | None = Field(default=None, description="Start of a window, ISO 8601 with a zone.")
    until: str | None = Field(default=None, description="End of the window; it is not included.")
    hold: str = Field(default="7d", description="How long no policy moves them: 12h, 30d, 4w.")


def restore_job(platform: Platform) -> dg.JobDefinition:
    """Return the job that restores moved partitions to the hot tier."""

    @dg.op(description="Restore partitions to PostgreSQL, each in a transaction of its own.")
    def bring_back(context: dg.OpExecutionContext, config: RestoreConfig) -> None:
        with expected_refusals(platform), platform.postgres.connect() as connection:
            table, hold = platform.table(config.table), hold_of(config.hold)
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

    @dg.job(
        name="restore",
        description="Restores moved partitions to PostgreSQL: `table`, and `partitions` or "
        "`since` and `until`, in the launchpad.",
    )
    def restore_partitions() -> None:
        bring_back()

    return restore_partitions
