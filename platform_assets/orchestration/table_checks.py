"""Checks of tables at any time, whether a load ran or not.

Freshness is that of the rows: a table that is not loaded any more grows stale without a run. The
checks are parts of the runs of their assets, and a job looks at all tables every few minutes.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any, Literal

import dagster as dg

from lakebed.ingest.report import LoadReport
from lakebed.monitoring.findings import Code, Finding, of_codes
from lakebed.monitoring.table_findings import findings_of
from lakebed.monitoring.table_state import TableState, read_table_state
from lakebed.monitoring.watch import has_age
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.orchestration.load_checks import state_results
from lakebed.orchestration.verdicts import verdict
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
    platform: Platform, table: SourceTable, tier: Tier, report: LoadReport | None = None
) -> list[dg.AssetCheckResult]:
    """Evaluate every check of a tier of a table that has no partitions.

    report: of the load that has just ended, for the metadata of its checks.
    """
    with platform.postgres.connect(autocommit=True) as connection:
        state = read_table_state(connection, platform.settings, table, platform.clock.now())
    findings = tuple(findings_of(table, state))
    results = [_result(table, state, findings, spec.key) for spec in watched_specs(table, tier)]
    if tier == "hot" and table.source is not None and table.load_by == "cursor":
        results += state_results(table, state, findings, report)
    return results


def checks_of_unloaded_tables(platform: Platform, table: SourceTable) -> dg.AssetChecksDefinition:
    """Return the checks of a hot table without a source, which no run loads."""

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

    @dg.op(description="Evaluate each check that needs no load.")
    def check_every_table(context: dg.OpExecutionContext) -> None:
        for table in platform.tables:
            tiers: list[Tier] = ["hot", "cold"] if table.tiering is not None else ["hot"]
            for tier in tiers:
                for result in watched_results(platform, table, tier):
                    context.instance.report_runless_asset_event(evaluation_of(result))

    @dg.job(
        name="watch_tables",
        description="Evaluates the checks of every table as it is now: freshness, contract, "
        "quarantine, refused items, gaps between partitions.",
    )
    def watch_tables() -> None:
        check_every_table()

    schedule = dg.ScheduleDefinition(
        name="watch_tables",
        description=f"Every {MINUTES_BETWEEN} minutes: the checks of each table that need no load, "
        "such as freshness, contract and quarantine.",
        job=watch_tables,
        cron_schedule=f"*/{MINUTES_BETWEEN} * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return watch_tables, schedule


def evaluation_of(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Return the result of a check as an event that belongs to no run."""
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
            description=f"At most {table.reject_share:.2%} of the rows of the last loads wait in "
            "the quarantine.",
        )


def _cold_specs(table: SourceTable) -> Iterator[dg.AssetCheckSpec]:
    yield dg.AssetCheckSpec(
        COVERAGE,
        asset=dg.AssetKey(cold_key(table.name)),
        description="There is no gap between partitions, and no partition holds rows of another.",
    )


def _result(
    table: SourceTable, state: TableState, findings: Sequence[Finding], check: dg.AssetCheckKey
) -> dg.AssetCheckResult:
    codes, describe = _CHECKS[check.name]
    found = of_codes(findings, codes)
    description, metadata = describe(table, state)
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        description="; ".join(finding.what for finding in found) or description,
        metadata=metadata,
        **verdict(found),
    )


Described = tuple[str, dict[str, Any]]
"""What a check says where nothing is wrong, and what it shows."""


def _freshness(table: SourceTable, state: TableState) -> Described:
    lag = timedelta(0) if state.newest is None else max(timedelta(0), state.now - state.newest)
    limit = table.freshness
    assert limit is not None
    return (
        f"The newest row is of {state.newest}.",
        {"lag_seconds": lag.total_seconds(), "limit_seconds": limit.total_seconds()},
    )


def _drift(table: SourceTable, state: TableState) -> Described:
    rows = [{"what": what} for what in state.drift]
    return "No difference.", {"differences": metadata_table(rows, ("what",))}


def _quarantine(table: SourceTable, state: TableState) -> Described:
    found = state.quarantine
    return (
        f"{found.rejected} of {found.read} rows of the last loads wait in the quarantine, "
        f"{found.waiting} rows of all loads.",
        {"share": found.share, "limit": table.reject_share, "rows_waiting": found.waiting},
    )


def _coverage(table: SourceTable, state: TableState) -> Described:
    found = state.coverage
    assert found is not None
    gaps = [{"from": g.first, "to": g.last, "partitions": g.partitions} for g in found.gaps]
    return (
        f"{found.partitions} partitions, without gaps between them, without overlaps.",
        {
            "gaps": metadata_table(gaps, ("from", "to", "partitions")),
            "overlaps": metadata_table([{"what": o} for o in found.overlaps], ("what",)),
        },
    )


_CHECKS: dict[str, tuple[set[Code], Callable[[SourceTable, TableState], Described]]] = {
    FRESHNESS: ({Code.ROWS_STALE, Code.NO_ROWS}, _freshness),
    DRIFT: ({Code.CONTRACT_DRIFT}, _drift),
    QUARANTINE: ({Code.REJECT_SHARE}, _quarantine),
    COVERAGE: ({Code.COVERAGE_GAP, Code.COVERAGE_OVERLAP}, _coverage),
}
"""Of each check the findings that turn it red or yellow, and what it shows."""
