"""Checks of moves and of what lies in the lake, as Dagster's asset check results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from lakebed.orchestration.dagster_partitions import check_partitions, partitions_of
from lakebed.orchestration.dagster_private import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from lakebed.orchestration.dagster_tables import metadata_table
from lakebed.spec.table import SourceTable
from lakebed.tiering.report import Moved
from lakebed.tiering.verify import CheckedFile

FINGERPRINT = "fingerprint"
FILES = "files"

SHOWN_FILES = 100


def cold_check_specs(table: SourceTable, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Return the checks of a run of moves; each partition has its own fingerprint."""
    with check_partitions():
        return [
            dg.AssetCheckSpec(
                FINGERPRINT,
                asset=key,
                description="The file holds what PostgreSQL held, by count and fingerprint.",
                partitions_def=partitions_of(table),
                blocking=True,
            ),
            dg.AssetCheckSpec(
                FILES,
                asset=key,
                description="Every live file is there, with its size; `lakebed verify --deep` "
                "reads them whole.",
            ),
        ]


def fingerprint_result(moved: Moved) -> dg.AssetCheckResult:
    """Say what a move compared before it committed."""
    compared = len(moved.fingerprint.columns) if moved.fingerprint else 0
    return dg.AssetCheckResult(
        check_name=FINGERPRINT,
        passed=True,
        description=(
            f"{moved.rows} rows, {compared} columns: PostgreSQL and the re-read file are equal."
            if moved.fingerprint
            else "Nothing to move."
        ),
        metadata={
            "generation": moved.generation,
            "rows": moved.rows,
            "columns_compared": compared,
            "result": "equal" if moved.fingerprint else "nothing to move",
        },
    )


def recorded_fingerprint(
    key: dg.AssetKey, partition: str, metadata: Mapping[str, Any], target: Target
) -> dg.AssetCheckEvaluation:
    """Return the check of a partition that was moved outside Dagster.

    Args:
        key: The cold asset.
        partition: A partition with a live file: its move compared the rows before it committed.
        metadata: What the manifest says of the file.
        target: The partition's newest materialization.
    """
    rows = metadata["dagster/partition_row_count"]
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=FINGERPRINT,
        passed=True,
        description=f"{rows} rows: the move compared PostgreSQL and the re-read file, then "
        "committed.",
        metadata={"generation": metadata["generation"], "rows": rows, "result": "equal"},
        target_materialization_data=target,
        blocking=False,
        partition=partition,
    )


def not_moved(why: str) -> dg.AssetCheckResult:
    """Say that a partition was not moved: it is as it was."""
    return dg.AssetCheckResult(
        check_name=FINGERPRINT, passed=False, description=why, metadata={"result": why}
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
