"""Findings: what can be wrong with the platform, each with a code and with one severity.

`lakebed doctor`, platform/health, the metrics, `lakebed status` and the asset checks all speak of
these findings, so that none of them can call good what another one calls wrong. diagnosis.py judges
the server, the tiers and the lake; table_findings.py judges the loads of a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

Severity = Literal["wrong", "warning", "note"]
"""How severe a finding is.

wrong: data are missing, wrong or at risk until you act; `lakebed doctor` exits with 1.
warning: rows or partitions wait for your decision.
note: for information; it needs no action.
"""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)


class Code(StrEnum):
    """The kind of a finding. A code keeps its meaning: metrics and the doctor's JSON carry it."""

    # The server
    HORIZON_HELD = "horizon_held"
    SESSIONS_HIDDEN = "sessions_hidden"
    LOCK_WAIT = "lock_wait"
    UNSAFE_SETTING = "unsafe_setting"
    NO_DISCONNECT_CHECK = "no_disconnect_check"
    # The tiers of a table
    OTHER_GRAIN = "other_grain"
    MOVE_OVERDUE = "move_overdue"
    LATE_ROWS = "late_rows"
    ROWS_TOO_LATE = "rows_too_late"
    PARTITION_NOT_DROPPED = "partition_not_dropped"
    PARTITION_MISSING = "partition_missing"
    DEFAULT_PARTITION = "default_partition"
    PARTITION_HALF_DETACHED = "partition_half_detached"
    PARTITION_DETACHED = "partition_detached"
    COLUMN_YOUNGER_THAN_ROWS = "column_younger_than_rows"
    LAKE_FILE_WRONG = "lake_file_wrong"
    COLD_BUT_UNDECLARED = "cold_but_undeclared"
    ERASURE_OPEN = "erasure_open"
    COVERAGE_GAP = "coverage_gap"
    COVERAGE_OVERLAP = "coverage_overlap"
    # The lake
    LAKE_FOREIGN = "lake_foreign"
    FILES_UNNEEDED = "files_unneeded"
    FILES_HELD = "files_held"
    # The files of the project
    DECLARATION_BROKEN = "declaration_broken"
    # The loads of a table
    SOURCE_MISSING = "source_missing"
    SOURCE_UNREADABLE = "source_unreadable"
    LOAD_FAILED = "load_failed"
    ITEM_REFUSED = "item_refused"
    LOAD_UNBALANCED = "load_unbalanced"
    REJECTS_WAITING = "rejects_waiting"
    LOAD_WAITS = "load_waits"
    REJECT_SHARE = "reject_share"
    ROWS_STALE = "rows_stale"
    NO_ROWS = "no_rows"
    CONTRACT_DRIFT = "contract_drift"


_WARNINGS = {Code.COVERAGE_GAP, Code.REJECTS_WAITING, Code.LOAD_WAITS, Code.NO_ROWS}
_NOTES = {
    Code.LOCK_WAIT,
    Code.NO_DISCONNECT_CHECK,
    Code.LATE_ROWS,
    Code.PARTITION_MISSING,
    Code.COLUMN_YOUNGER_THAN_ROWS,
    Code.FILES_UNNEEDED,
    Code.FILES_HELD,
}


def severity_of(code: Code) -> Severity:
    """Return how severe a finding of this code is, everywhere and always."""
    return "warning" if code in _WARNINGS else "note" if code in _NOTES else "wrong"


@dataclass(frozen=True)
class Finding:
    """One fault, warning or note.

    Attributes:
        code: Its kind.
        level: Its severity, which follows from the code.
        where: A table, "server" or "lake".
        what: The finding in words.
        todo: How to fix it.
    """

    code: Code
    level: Severity = field(init=False)
    where: str
    what: str
    todo: str

    def __post_init__(self) -> None:
        """Set the severity that the code has."""
        object.__setattr__(self, "level", severity_of(self.code))


def most_severe_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings with the severe ones first, otherwise in their order."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.level)))


def is_well(findings: Iterable[Finding]) -> bool:
    """Whether nothing is wrong; warnings and notes do not count."""
    return all(finding.level != "wrong" for finding in findings)


def of_codes(findings: Iterable[Finding], codes: Collection[Code]) -> list[Finding]:
    """Return the findings that have one of these codes, in their order."""
    return [finding for finding in findings if finding.code in codes]


def counted(findings: Collection[Finding]) -> str:
    """Return how many findings there are of each severity, as a sentence without a full stop."""
    count = {level: sum(found.level == level for found in findings) for level in SEVERITIES}
    names = {"wrong": "wrong", "warning": "warnings", "note": "notes"}
    words = ", ".join(f"{n} {names[level]}" for level, n in count.items() if n)
    return words or "nothing is wrong"
