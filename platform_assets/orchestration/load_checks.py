"""Checks of loads: the state that they left, as Dagster's asset check results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakebed.ingest.reject_groups import RejectGroup, read_reject_groups
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import listed
from lakebed.monitoring.findings import Code, Finding, of_codes
from lakebed.monitoring.table_state import TableState
from lakebed.orchestration.dagster_partitions import check_partitions, partitions_of
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.orchestration.verdicts import verdict
from lakebed.resources.postgres import Connection
from lakebed.spec.names import hot_key
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
COUNTS = ("rows_read", "inserted", "updated", "unchanged", "superseded", "marked", "rejected")
SOURCE_CODES = {
    Code.SOURCE_MISSING,
    Code.SOURCE_UNREADABLE,
    Code.LOAD_FAILED,
    Code.ITEM_REFUSED,
}
"""The findings that the check of the source's items speaks of."""
_SEVERITY_OF_REJECTS = verdict([Finding(Code.REJECTS_WAITING, "", "", "")])["severity"]


def hot_check_specs(table: SourceTable, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a load; of a load by window each partition has its own results."""
    partitions = partitions_of(table) if table.load_by == "window" else None
    texts = {
        **{
            name: f"{what} Rows that do not wait in the quarantine."
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


def window_results(
    connection: Connection, table: SourceTable, report: LoadReport
) -> list[dg.AssetCheckResult]:
    """Turn the load of one window, and its rejects that wait, into results of its partition."""
    groups = read_reject_groups(connection, table, report.load_ids) if report.rejected else []
    kinds = Counter[RejectKind]()
    for group in groups:
        kinds[group.kind] += group.count
    unbalanced = () if report.balanced else report.load_ids
    return [
        *(_contract(name, groups, kinds) for name in _CONTRACT),
        _reconciliation(report, {name: getattr(report, name) for name in COUNTS}, unbalanced),
        refused_result([(refused.path, refused.problem) for refused in report.refused], report),
    ]


def state_results(
    table: SourceTable,
    state: TableState,
    findings: Sequence[Finding],
    report: LoadReport | None = None,
) -> list[dg.AssetCheckResult]:
    """Turn the state of a table that is loaded by cursor into check results.

    They are of now, whatever the last run found: what waits in the quarantine keeps its check
    yellow until it is resolved. report: of the load that has just ended, for its metadata.
    """
    kinds = state.quarantine.kinds
    source = of_codes(findings, SOURCE_CODES)
    key = dg.AssetKey(hot_key(table.name))
    return [
        *(_contract(name, state.groups, kinds, key) for name in _CONTRACT),
        _reconciliation(report, state.last.rows, state.last.unbalanced, key),
        dg.AssetCheckResult(
            asset_key=key,
            check_name=SOURCE_FILES,
            description="; ".join(finding.what for finding in source) or "No item is refused.",
            metadata=_source_metadata(state.source.refused, report),
            **verdict(source),
        ),
    ]


def refused_result(
    refused: Sequence[tuple[str, str]], report: LoadReport | None = None
) -> dg.AssetCheckResult:
    """Say which items of a window were refused, as (path, problem); report: of its load."""
    named = " | ".join(f"{path}: {problem}" for path, problem in refused[:SHOWN])
    loaded = "" if report is None else f"{report.files} items loaded, "
    return dg.AssetCheckResult(
        check_name=SOURCE_FILES,
        passed=not refused,
        description=f"{loaded}{len(refused)} refused" + (f": {named}" if named else "."),
        metadata=_source_metadata(refused, report),
    )


def _source_metadata(
    refused: Sequence[tuple[str, str]], report: LoadReport | None
) -> dict[str, Any]:
    rows = [{"item": path, "problem": problem} for path, problem in refused]
    found: dict[str, Any] = {"refused": metadata_table(rows, ("item", "problem"))}
    if report is not None:
        found["columns_added"] = ", ".join(report.evolved) or "none"
        found["columns_left_out"] = listed(report.discarded) or "none"
    return found


def _contract(
    name: str,
    groups: Sequence[RejectGroup],
    waiting: Mapping[RejectKind, int],
    key: dg.AssetKey | None = None,
) -> dg.AssetCheckResult:
    kinds, _ = _CONTRACT[name]
    rows = sum(count for kind, count in waiting.items() if kind in kinds)
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not rows,
        severity=_SEVERITY_OF_REJECTS,
        description=f"Rows that wait in the quarantine: {rows:,}.",
        metadata={
            "failures": metadata_table(
                [group.to_row() for group in groups if group.kind in kinds],
                ("column", "kind", "rule", "count", "example"),
            )
        },
    )


def _reconciliation(
    report: LoadReport | None,
    counts: Mapping[str, int],
    unbalanced: Sequence[str],
    key: dg.AssetKey | None = None,
) -> dg.AssetCheckResult:
    told = None if report is None else report.rows_expected
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=RECONCILIATION,
        passed=not unbalanced,
        description="Every row that was read is accounted for."
        if not unbalanced
        else f"The counts of these loads do not add up: {', '.join(unbalanced)}.",
        metadata={"rows_in_source": "unknown" if told is None else told} | dict(counts),
    )
