"""Checks of tables at any time, whether a load ran or not.

Freshness is that of the rows: a table that nobody loads any more grows stale without a run.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.dagster_tables import metadata_table
from platform_assets.keys import cold_key, hot_key
from platform_assets.platform import Platform
from platform_assets.quality.watch import (
    drift,
    newest_row,
    read_coverage,
    read_quarantine,
    tells_age,
)
from resources.postgres import Connection

FRESHNESS = "freshness"
DRIFT = "contract_drift"
QUARANTINE = "quarantine_share"
COVERAGE = "coverage"

MINUTES_BETWEEN = 10


def table_checks(platform: Platform, table: SourceTable) -> dg.AssetChecksDefinition:
    """Return the checks of a table; a run may take some of them.

    One definition a table: Dagster makes all that a definition touches a part of each job that
    holds any of it.
    """

    @dg.multi_asset_check(
        name=f"watch_{table.name}",
        specs=list(_specs(table)),
        can_subset=True,
        description="Looks at the table: its newest row, its columns, its gaps.",
    )
    def watch(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        with platform.postgres.connect(autocommit=True) as connection:
            for check in sorted(context.selected_asset_check_keys):
                yield _result(platform, connection, table, check)

    return watch


def watch_schedule(checks: Sequence[dg.AssetChecksDefinition]) -> dg.ScheduleDefinition:
    """Return the schedule that runs the checks of all tables every few minutes."""
    return dg.ScheduleDefinition(
        name="watch_tables",
        job=dg.define_asset_job(
            "watch_tables",
            selection=dg.AssetSelection.checks(*checks),
            description="The checks that need no load: freshness, drift, gaps, quarantine.",
        ),
        cron_schedule=f"*/{MINUTES_BETWEEN} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _specs(table: SourceTable) -> Iterator[dg.AssetCheckSpec]:
    hot, cold = dg.AssetKey(hot_key(table.name)), dg.AssetKey(cold_key(table.name))
    if table.freshness is not None and tells_age(table):
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
    if table.tiering is not None:
        yield dg.AssetCheckSpec(
            COVERAGE,
            asset=cold,
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
