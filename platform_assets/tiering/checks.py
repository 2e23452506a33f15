"""Checks of moves and of what lies in the lake, as Dagster's asset check results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from platform_assets.dagster_tables import metadata_table
from platform_assets.tiering.report import Moved
from platform_assets.tiering.verify import CheckedFile

FINGERPRINT = "fingerprint"
FILES = "files"

SHOWN_FILES = 100


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


def files_evaluation(
    key: dg.AssetKey, found: Sequence[CheckedFile], *, deep: bool
) -> dg.AssetCheckEvaluation:
    """Turn what was found of a table's live files into a check of its cold asset."""
    values = _files(found, deep)
    return dg.AssetCheckEvaluation(asset_key=key, check_name=FILES, **values)


def files_result(found: Sequence[CheckedFile]) -> dg.AssetCheckResult:
    """Turn what was found of a table's live files into the result of a run's check."""
    return dg.AssetCheckResult(check_name=FILES, **_files(found, deep=False))


def _files(found: Sequence[CheckedFile], deep: bool) -> dict[str, Any]:
    wrong = [file for file in found if file.problem]
    how = "read whole: SHA-256, count and fingerprint" if deep else "there, with their sizes"
    rows = [
        {"partition": f.partition_key, "file": f.path, "problem": f.problem or ""}
        for f in wrong[:SHOWN_FILES]
    ]
    return {
        "passed": not wrong,
        "description": f"{len(found)} live files, {how}; {len(wrong)} are wrong.",
        "metadata": {
            "files": len(found),
            "bytes": sum(file.bytes for file in found),
            "wrong": metadata_table(rows, ("partition", "file", "problem")),
        },
    }
