"""Checks of a run's moves, as Dagster's asset check results."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from platform_assets.dagster_tables import metadata_table
from platform_assets.tiering.report import Moved

FINGERPRINT = "fingerprint"


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
        metadata={"partitions": metadata_table(rows, names)},
    )
