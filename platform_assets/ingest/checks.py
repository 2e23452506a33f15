"""Checks of a load: what it found, as Dagster's asset check results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.dagster_tables import metadata_table
from platform_assets.ingest.report import LoadReport
from resources.postgres import Connection

CONTRACT = "contract"
RECONCILIATION = "reconciliation"
SOURCE_FILES = "source_files"
FRESHNESS = "freshness"


def hot_check_specs(table: SourceTable, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a load."""
    specs = [
        dg.AssetCheckSpec(
            CONTRACT,
            asset=key,
            description="Every row kept the contract; the others are in quarantine.",
        ),
        dg.AssetCheckSpec(
            RECONCILIATION,
            asset=key,
            description="Rows read = inserted + updated + unchanged + superseded + marked + "
            "rejected.",
        ),
        dg.AssetCheckSpec(
            SOURCE_FILES, asset=key, description="Every source file could be loaded."
        ),
    ]
    if table.freshness is not None and table.cursor is not None:
        specs.append(
            dg.AssetCheckSpec(
                FRESHNESS,
                asset=key,
                description=f"The newest row is at most {table.freshness} old.",
            )
        )
    return specs


def hot_check_results(
    table: SourceTable, report: LoadReport, failures: Sequence[Mapping[str, Any]], lag: float | None
) -> list[dg.AssetCheckResult]:
    """Turn a load's report into check results.

    failures: the load's rejects in groups, with column, reason, rows and example.  lag: seconds
    between the newest row and now, None where there is no row.
    """
    told = report.rows_told
    results = [
        dg.AssetCheckResult(
            check_name=CONTRACT,
            passed=report.rejected == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{report.rejected} of {report.rows_read} rows went to quarantine.",
            metadata={
                "failures": metadata_table(failures, ("column", "reason", "rows", "example"))
            },
        ),
        dg.AssetCheckResult(
            check_name=RECONCILIATION,
            passed=report.balanced,
            metadata={"rows_in_source": "not told" if told is None else told}
            | {
                name: getattr(report, name)
                for name in (
                    "rows_read",
                    "inserted",
                    "updated",
                    "unchanged",
                    "superseded",
                    "marked",
                    "rejected",
                    "deleted",
                )
            },
        ),
        dg.AssetCheckResult(
            check_name=SOURCE_FILES,
            passed=not report.refused,
            description=f"{report.files} files loaded, {len(report.refused)} refused.",
            metadata={
                "refused": metadata_table(
                    [{"file": r.path, "problem": r.problem} for r in report.refused],
                    ("file", "problem"),
                ),
                "columns_added": ", ".join(report.evolved) or "none",
                "columns_left_out": ", ".join(report.discarded) or "none",
            },
        ),
    ]
    if table.freshness is not None and table.cursor is not None:
        limit = table.freshness.total_seconds()
        results.append(
            dg.AssetCheckResult(
                check_name=FRESHNESS,
                passed=lag is not None and lag <= limit,
                severity=dg.AssetCheckSeverity.WARN,
                description="There is no row yet." if lag is None else None,
                metadata={"lag_seconds": lag or 0.0, "limit_seconds": limit},
            )
        )
    return results


def reject_groups(connection: Connection, report: LoadReport) -> list[dict[str, Any]]:
    """Read a load's rejects in groups of column and rule, the largest first, at most 50."""
    if not report.rejected:
        return []
    rows = connection.execute(
        "select coalesce(column_name, ''), regexp_replace(min(reason), ' \\(it is .*\\)$', ''),"
        " count(*), min(source_file || ', row ' || row_number || ': ' || source_row::text)"
        " from lakebed.rejected_row where load_id = any (%s)"
        " group by column_name, regexp_replace(reason, ' \\(it is .*$', '')"
        " order by count(*) desc limit 50",
        [list(report.load_ids)],
    ).fetchall()
    return [
        {"column": column, "reason": reason, "rows": count, "example": example[:500]}
        for column, reason, count, example in rows
    ]
