"""How findings become the verdict of an asset check: one severity each, as everywhere else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

import dagster as dg

from lakebed.monitoring.findings import Finding


class Verdict(TypedDict):
    """What an asset check says: whether it passed, and how severe it is where it did not."""

    passed: bool
    severity: dg.AssetCheckSeverity


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict on findings: red where anything is wrong, yellow for a warning."""
    levels = {finding.level for finding in findings}
    warned = levels - {"note"} == {"warning"}
    return {
        "passed": levels <= {"note"},
        "severity": dg.AssetCheckSeverity.WARN if warned else dg.AssetCheckSeverity.ERROR,
    }
