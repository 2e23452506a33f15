"""Checks of a load: what it found, as Dagster's asset check results."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from lakebed.ingest.reject_groups import RejectGroup, read_reject_groups
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import listed
from lakebed.orchestration.dagster_partitions import check_partitions, partitions_of
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import RejectKind

RECONCILIATION = "reconciliation"
SOURCE_FILES = "source_files"
SHOWN = 3

_CONTRACT: dict[str, tuple[frozenset[RejectKind], str]] = {
    "contract_types": (
        frozenset({RejectKind.MALFORMED, RejectKind.TYPE}),
        "Every value can become its column's type without loss.",
    ),
    "contract_required": (
        frozenset({RejectKind.REQUIRED}),
        "No value is missing where the model wants one.",
    ),
    "contract_values": (
        frozenset({RejectKind.RULE}),
        "Every row keeps the model's rules and the table's time.",
    ),
    "contract_constraints": (
        frozenset({RejectKind.CONSTRAINT, RejectKind.MISSING_PARENT}),
        "PostgreSQL takes every row: constraints, lookups.",
    ),
}
"""Of each check the kinds of rejects that it speaks of, and what it says."""
_COUNTS = ("rows_read", "inserted", "updated", "unchanged", "superseded", "marked", "rejected")


def hot_check_specs(table: SourceTable, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a load; of a load by window each partition has its own results."""
    partitions = partitions_of(table) if table.load_by == "window" else None
    texts = {
        **{
            name: f"{what} Those that do not are in quarantine."
            for name, (_, what) in _CONTRACT.items()
        },
        RECONCILIATION: "Rows read = inserted + updated + unchanged + superseded + marked + "
        "rejected.",
        SOURCE_FILES: "Every source file could be loaded.",
    }
    with check_partitions():
        return [
            dg.AssetCheckSpec(
                name,
                asset=key,
                description=text,
                partitions_def=partitions,
                blocking=name == RECONCILIATION,
            )
            for name, text in texts.items()
        ]


def hot_check_results(
    connection: Connection, table: SourceTable, report: LoadReport
) -> list[dg.AssetCheckResult]:
    """Turn a load's report, and its rejects in the quarantine, into check results."""
    groups = read_reject_groups(connection, table, report.load_ids) if report.rejected else []
    return [
        *(
            _contract(name, [group for group in groups if group.kind in kinds], report)
            for name, (kinds, _) in _CONTRACT.items()
        ),
        _reconciliation(report),
        files_result([(refused.path, refused.problem) for refused in report.refused], report),
    ]


def files_result(
    refused: Sequence[tuple[str, str]], report: LoadReport | None = None
) -> dg.AssetCheckResult:
    """Say which files were refused, as (path, problem); report: of the load, if there was one."""
    if report is None:
        return dg.AssetCheckResult(
            check_name=SOURCE_FILES,
            passed=not refused,
            description="; ".join(problem for _, problem in refused),
        )
    named = " | ".join(f"{path}: {problem}" for path, problem in refused[:SHOWN])
    return dg.AssetCheckResult(
        check_name=SOURCE_FILES,
        passed=not refused,
        description=f"{report.files} files loaded, {len(refused)} refused"
        + (f": {named}" if named else "."),
        metadata={
            "refused": metadata_table(
                [{"file": path, "problem": problem} for path, problem in refused],
                ("file", "problem"),
            ),
            "columns_added": ", ".join(report.evolved) or "none",
            "columns_left_out": listed(report.discarded) or "none",
        },
    )


def _contract(name: str, groups: Sequence[RejectGroup], report: LoadReport) -> dg.AssetCheckResult:
    rows = sum(group.count for group in groups)
    return dg.AssetCheckResult(
        check_name=name,
        passed=not groups,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{rows} of {report.rows_read} rows went to quarantine.",
        metadata={
            "failures": metadata_table(
                [group.to_row() for group in groups],
                ("column", "kind", "rule", "count", "example"),
            )
        },
    )


def _reconciliation(report: LoadReport) -> dg.AssetCheckResult:
    told = report.rows_expected
    return dg.AssetCheckResult(
        check_name=RECONCILIATION,
        passed=report.balanced,
        metadata={"rows_in_source": "not told" if told is None else told}
        | {name: getattr(report, name) for name in (*_COUNTS, "deleted")},
    )
