"""platform/health: how everything is, looked at each hour, so that the UI shows it over time."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg

from lakebed.monitoring.findings import counted
from lakebed.monitoring.health import Health, TableHealth, read_health
from lakebed.monitoring.heat_picture import heat_picture, legend
from lakebed.orchestration.dagster_metadata import code_link, inline
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.orchestration.verdicts import verdict
from lakebed.spec.names import health_key
from lakebed.store.platform import Platform

KEY = dg.AssetKey(health_key())
CHECK = "nothing_is_wrong"
SHOWN_RUNS = 20
SIZES = ("hot_rows", "hot_bytes", "cold_rows", "cold_bytes")


def health_asset(platform: Platform) -> dg.AssetsDefinition:
    """Return the asset whose materialization is a look at the whole platform."""

    @dg.asset(
        key=KEY,
        description="How the platform is: lag against policy, due and overdue moves, what "
        "holds the snapshot horizon, size and growth by tier, quarantine, the last runs.",
        group_name="platform",
        kinds={"postgres", "parquet"},
        tags={"watches": "everything"},
        metadata=code_link(__file__, "what is looked at"),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset=KEY,
                description="Nothing that `lakebed doctor` looks for is wrong. Warnings turn it "
                "yellow, such as rows that wait in the quarantine.",
            )
        ],
    )
    def look(context: dg.AssetExecutionContext) -> Iterator[Any]:
        health = read_health(platform)
        sizes = {name: sum(getattr(t.status, name) for t in health.tables) for name in SIZES}
        yield dg.MaterializeResult(
            metadata={
                **sizes,
                **_growth(context.instance, sizes),
                "quarantined_rows": sum(table.status.quarantined for table in health.tables),
                "due_partitions": sum(table.states["due"] for table in health.tables),
                "overdue_partitions": sum(len(table.overdue) for table in health.tables),
                "horizon_seconds": round(health.horizon_seconds, 1),
                "horizon_holders": "; ".join(map(str, health.holders)) or "none",
                "tables": metadata_table([_row(t) for t in health.tables], _COLUMNS),
                "heat_map": _heat_maps(platform, health),
                "last_runs": metadata_table(_runs(context.instance), _RUN_COLUMNS),
            },
            check_results=[_result(health)],
        )

    return look


def health_job() -> tuple[Any, dg.ScheduleDefinition]:
    """Return the job that looks, and the schedule that does it each hour."""
    job = dg.define_asset_job(
        "health",
        selection=dg.AssetSelection.assets(KEY),
        description="Materializes platform/health: lag, moves, sizes, quarantine, runs.",
    )
    schedule = dg.ScheduleDefinition(
        name="hourly_health",
        description="Each hour: materializes platform/health, which shows lag, overdue moves, "
        "sizes and the last runs over time.",
        job=job,
        cron_schedule="10 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return job, schedule


def _growth(instance: dg.DagsterInstance, sizes: dict[str, int]) -> dict[str, Any]:
    """Return by how much each size has grown since the look before, and when that was."""
    last = instance.get_latest_materialization_event(KEY)
    if last is None or last.asset_materialization is None:
        return {"grown_since": "the first look"}
    before = last.asset_materialization.metadata
    grown = {
        f"{name}_grown": size - int(value)
        for name, size in sizes.items()
        if name in before and isinstance(value := before[name].value, int)
    }
    return {"grown_since": dg.MetadataValue.timestamp(last.timestamp), **grown}


_COLUMNS = (
    "table",
    "newest_row",
    "lag",
    "allowed",
    "due",
    "overdue",
    "late",
    "quarantined",
    "waiting",
    "hot_rows",
    "cold_rows",
    "hot_bytes",
    "cold_bytes",
    "last_load",
)


def _row(table: TableHealth) -> dict[str, Any]:
    status = table.status
    return {
        "table": table.name,
        "newest_row": (status.newest_row or status.cursor or "")[:19],
        "lag": _words(status.lag_seconds),
        "allowed": _words(table.limit_seconds),
        "due": table.states["due"],
        "overdue": len(table.overdue),
        "late": table.states["late"],
        "quarantined": status.quarantined,
        "waiting": len(status.waiting_files),
        "hot_rows": status.hot_rows,
        "cold_rows": status.cold_rows,
        "hot_bytes": status.hot_bytes,
        "cold_bytes": status.cold_bytes,
        "last_load": (status.loaded_at or "never")[:19],
    }


def _words(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))


_RUN_COLUMNS = ("started", "job", "what", "status", "seconds", "run")


def _runs(instance: dg.DagsterInstance) -> list[dict[str, Any]]:
    records = instance.get_run_records(limit=SHOWN_RUNS)
    return [
        {
            "started": f"{record.create_timestamp:%Y-%m-%d %H:%M:%S}",
            "job": record.dagster_run.job_name,
            "what": ", ".join(
                sorted(key.to_user_string() for key in record.dagster_run.asset_selection or ())
            ),
            "status": record.dagster_run.status.value,
            "seconds": round(record.end_time - record.start_time, 1)
            if record.start_time and record.end_time
            else 0.0,
            "run": record.dagster_run.run_id,
        }
        for record in records
    ]


def _heat_maps(platform: Platform, health: Health) -> dg.MetadataValue[Any]:
    """Return a picture of each table's partitions."""
    parts = []
    for table in health.tables:
        if table.status.partitions:
            states = {partition.key: partition.state for partition in table.status.partitions}
            drawn = heat_picture(states, platform.table(table.name).require_partitioning.grain)
            parts.append(f"**{table.name}**\n\n{inline(drawn)}\n\n{legend(states)}")
    return dg.MetadataValue.md("\n\n".join(parts) or "No table has partitions.")


def _result(health: Health) -> dg.AssetCheckResult:
    rows = [
        {"level": f.level, "code": str(f.code), "where": f.where, "what": f.what, "todo": f.todo}
        for f in health.findings
    ]
    return dg.AssetCheckResult(
        check_name=CHECK,
        description=f"{counted(health.findings)}.",
        metadata={"findings": metadata_table(rows, ("level", "code", "where", "what", "todo"))},
        **verdict(health.findings),
    )
