"""Contracts in Dagster: column schemas, and what loads and moves found as asset check results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.ingest.report import LoadReport
from platform_assets.tiering.move import Moved
from resources.postgres import Connection

CONTRACT = "contract"
RECONCILIATION = "reconciliation"
SOURCE_FILES = "source_files"
FRESHNESS = "freshness"
FINGERPRINT = "fingerprint"


def table_schema(table: SourceTable) -> dg.TableSchema:
    """Return the contract's columns as Dagster shows them: types, rules, descriptions."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.postgres,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable,
                    unique=column.unique or table.key == (column.name,),
                    other=list(column.checks),
                ),
            )
            for column in table.columns
        ]
    )


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
            description="Rows read = inserted + updated + unchanged + superseded + rejected.",
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
    results = [
        dg.AssetCheckResult(
            check_name=CONTRACT,
            passed=report.rejected == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{report.rejected} of {report.rows_read} rows went to quarantine.",
            metadata={"failures": _table(failures, ("column", "reason", "rows", "example"))},
        ),
        dg.AssetCheckResult(
            check_name=RECONCILIATION,
            passed=report.balanced,
            metadata={
                name: getattr(report, name)
                for name in (
                    "rows_read",
                    "inserted",
                    "updated",
                    "unchanged",
                    "superseded",
                    "rejected",
                )
            },
        ),
        dg.AssetCheckResult(
            check_name=SOURCE_FILES,
            passed=not report.refused,
            description=f"{report.files} files loaded, {len(report.refused)} refused.",
            metadata={
                "refused": _table(
                    [{"file": r.path, "problem": r.problem} for r in report.refused],
                    ("file", "problem"),
                )
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


def fingerprint_result(
    moved: Sequence[Moved], failed: Sequence[tuple[str, str]]
) -> dg.AssetCheckResult:
    """Turn a run's moves, and those that failed as (partition, why), into one check result."""
    rows = [
        {
            "partition": m.partition_key,
            "generation": m.generation,
            "rows": m.rows,
            "columns_compared": len(m.fingerprint.columns) if m.fingerprint else 0,
            "result": "equal" if m.fingerprint else "nothing to move",
        }
        for m in moved
    ]
    rows += [
        {"partition": key, "generation": 0, "rows": 0, "columns_compared": 0, "result": why}
        for key, why in failed
    ]
    names = ("partition", "generation", "rows", "columns_compared", "result")
    return dg.AssetCheckResult(
        check_name=FINGERPRINT,
        passed=not failed,
        description=(
            f"{len(moved)} partitions verified: count and fingerprint of every column, PostgreSQL "
            f"against the re-read file; {len(failed)} failed."
        ),
        metadata={"partitions": _table(rows, names)},
    )


def _table(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dg.TableMetadataValue:
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(name, "int" if rows and isinstance(rows[0][name], int) else "string")
            for name in names
        ]
    )
    return dg.MetadataValue.table([dg.TableRecord(dict(row)) for row in rows], schema=schema)
