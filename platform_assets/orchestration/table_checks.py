"""Checks of tables at any time, whether a load ran or not.

Freshness is that of the rows: a table that nobody loads any more grows stale without a run. The
checks are parts of the runs of their assets, and a job looks at all tables every few minutes.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Literal

import dagster as dg

from lakebed.monitoring.watch import drift, has_age, newest_row, read_coverage, read_quarantine
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.resources.postgres import Connection
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform

FRESHNESS = "freshness"
DRIFT = "contract_drift"
QUARANTINE = "quarantine_share"
COVERAGE = "coverage"

MINUTES_BETWEEN = 10


Tier = Literal["hot", "cold"]


def watched_specs(table: SourceTable, tier: Tier) -> list[dg.AssetCheckSpec]:
    """Return the checks of a tier of a table that need no load."""
    return list(_hot_specs(table) if tier == "hot" else _cold_specs(table))


def watched_results(
    platform: Platform, table: SourceTable, tier: Tier
) -> list[dg.AssetCheckResult]:
    """Look at a tier of a table now."""
    with platform.postgres.connect(autocommit=True) as connection:
        return [
            _result(platform, connection, table, spec.key) for spec in watched_specs(table, tier)
        ]


def checks_of_unloaded_tables(platform: Platform, table: SourceTable) -> dg.AssetChecksDefinition:
    """Return the checks of a hot table that others write: no run of ours could hold them."""

    @dg.multi_asset_check(
        name=f"watch_{table.name}",
        specs=watched_specs(table, "hot"),
        description="Looks at the table: its newest row, its columns.",
    )
    def watch() -> Iterator[dg.AssetCheckResult]:
        yield from watched_results(platform, table, "hot")

    return watch


def watch_job(platform: Platform) -> tuple[dg.JobDefinition, dg.ScheduleDefinition]:
    """Return the job that looks at all tables, and its schedule."""

    @dg.op(description="Tell each check that needs no load how the table is now.")
    def check_every_table(context: dg.OpExecutionContext) -> None:
        for table in platform.tables:
            tiers: list[Tier] = ["hot", "cold"] if table.tiering is not None else ["hot"]
            for tier in tiers:
                for result in watched_results(platform, table, tier):
                    context.instance.report_runless_asset_event(_evaluation(result))

    @dg.job(
        name="watch_tables",
        description="The checks that need no load: freshness, drift, gaps, quarantine.",
    )
    def watch_tables() -> None:
        check_every_table()

    schedule = dg.ScheduleDefinition(
        name="watch_tables",
        job=watch_tables,
        cron_schedule=f"*/{MINUTES_BETWEEN} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return watch_tables, schedule


def _evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def _hot_specs(table: SourceTable) -> Iterator[dg.AssetCheckSpec]:
    hot = dg.AssetKey(hot_key(table.name))
    if table.freshness is not None and has_age(table):
        yield dg.AssetCheckSpec(
            FRESHNESS, asset=hot, description=f"The newest row is at most {table.freshness} old."
        )
    yield dg.AssetCheckSpec(
        DRIFT, asset=hot, description="The table in PostgreSQL has the columns of its contract."
    )
    if table.source is not None:
        yield dg.AssetCheckSpec(
            QUARANTINE,
            asset=hot,
            description=f"At most {table.reject_share:.2%} of the rows of the last loads are bad.",
        )


def _cold_specs(table: SourceTable) -> Iterator[dg.AssetCheckSpec]:
    yield dg.AssetCheckSpec(
        COVERAGE,
        asset=dg.AssetKey(cold_key(table.name)),
        description="No partition is missing between others, and none holds another's time.",
    )


def _result(
    platform: Platform, connection: Connection, table: SourceTable, check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    make = {
        FRESHNESS: _freshness,
        DRIFT: _drift,
        QUARANTINE: _quarantine,
        COVERAGE: _coverage,
    }[check.name]
    return make(platform, connection, table, check)


def _freshness(
    platform: Platform, connection: Connection, table: SourceTable, check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    now, limit = platform.clock.now(), table.freshness
    assert limit is not None
    newest = newest_row(connection, table, now)
    lag = None if newest is None else max(timedelta(0), now - newest)
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=lag is not None and lag <= limit,
        severity=dg.AssetCheckSeverity.WARN,
        description="There is no row yet." if newest is None else f"The newest row is of {newest}.",
        metadata={
            "lag_seconds": 0.0 if lag is None else lag.total_seconds(),
            "limit_seconds": limit.total_seconds(),
        },
    )


def _drift(
    platform: Platform, connection: Connection, table: SourceTable, check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    wrong = drift(connection, table)
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not wrong,
        description=f"{len(wrong)} differences; `lakebed plan {table.name}` shows what mends them."
        if wrong
        else "No difference.",
        metadata={"differences": metadata_table([{"what": w} for w in wrong], ("what",))},
    )


def _quarantine(
    platform: Platform, connection: Connection, table: SourceTable, check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    found = read_quarantine(connection, table)
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=found.share <= table.reject_share,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{found.rejected} of {found.read} rows of the last loads were rejected; "
        f"{found.waiting} rows wait in the quarantine.",
        metadata={
            "share": found.share,
            "limit": table.reject_share,
            "rows_waiting": found.waiting,
        },
    )


def _coverage(
    platform: Platform, connection: Connection, table: SourceTable, check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    found = read_coverage(connection, table, platform.clock.now())
    gaps = [{"from": g.first, "to": g.last, "partitions": g.partitions} for g in found.gaps]
    severity = dg.AssetCheckSeverity.ERROR if found.overlaps else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=not found.gaps and not found.overlaps,
        severity=severity,
        description=f"{found.partitions} partitions, {len(gaps)} gaps between them, "
        f"{len(found.overlaps)} overlaps.",
        metadata={
            "gaps": metadata_table(gaps, ("from", "to", "partitions")),
            "overlaps": metadata_table([{"what": o} for o in found.overlaps], ("what",)),
        },
    )
