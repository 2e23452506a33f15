"""Judge the loads and the rows of a table from its gathered state. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from lakebed.monitoring.findings import Code, Finding
from lakebed.monitoring.table_state import TableState
from lakebed.monitoring.watch import has_age
from lakebed.spec.table import SourceTable

NAMED = 3
"""How many items of a kind a finding names. It counts the rest."""


def findings_of(table: SourceTable, state: TableState) -> Iterator[Finding]:
    """Judge the source, the loads, the rows and the columns of a table by its state."""
    yield from _of_source(table, state)
    yield from _of_quarantine(table, state)
    yield from _of_rows(table, state)
    if state.drift:
        yield Finding(
            Code.CONTRACT_DRIFT,
            table.name,
            f"the table differs from its contract: {_named(state.drift)}",
            f"lakebed plan {table.name} shows the changes that fix it",
        )


def _of_source(table: SourceTable, state: TableState) -> Iterator[Finding]:
    name, source = table.name, state.source
    if source.missing is not None:
        yield Finding(
            Code.SOURCE_MISSING,
            name,
            f"its source is empty, and no load has ever read anything from it: {source.missing}",
            "correct the table file, deliver the first file, or set optional=True",
        )
    if source.problem is not None:
        yield Finding(
            Code.SOURCE_UNREADABLE,
            name,
            f"its source cannot be read: {source.problem}",
            f"fix the source or the table file, then lakebed load {name}",
        )
    if source.failure is not None:
        yield Finding(
            Code.LOAD_FAILED,
            name,
            f"the last load failed and loaded no row: {source.failure}",
            f"fix that, then lakebed load {name}",
        )
    if source.refused:
        problems = [f"{path}: {problem}" for path, problem in source.refused]
        yield Finding(
            Code.ITEM_REFUSED,
            name,
            f"{len(problems)} items of its source are refused: {_named(problems)}",
            f"fix them or the table file, then lakebed load {name}",
        )
    if state.last.unbalanced:
        yield Finding(
            Code.LOAD_UNBALANCED,
            name,
            f"the counts of {len(state.last.unbalanced)} loads do not add up: "
            f"{_named(state.last.unbalanced)}",
            f"lakebed rollback {name} undoes them; please report this fault of Lakebed",
        )


def _of_quarantine(table: SourceTable, state: TableState) -> Iterator[Finding]:
    found = state.quarantine
    if found.waiting:
        rules = [f"{group.column or 'row'}: {group.kind} {group.rule} ({group.count:,})"
                 for group in state.groups]  # fmt: skip
        yield Finding(
            Code.REJECTS_WAITING,
            table.name,
            f"{found.waiting:,} rows wait in the quarantine: {_named(rules)}",
            f"lakebed rejects {table.name}; after a fix, "
            + (
                f"lakebed load {table.name} --again"
                if table.loads_whole
                else f"lakebed rejects {table.name} --retry"
            ),
        )
    if state.waits_for:
        parents = " or ".join(state.waits_for)
        yield Finding(
            Code.LOAD_WAITS,
            table.name,
            f"its load is not complete: rows wait for changes in {parents}",
            f"lakebed load {' '.join(state.waits_for)} completes it",
        )
    if found.share > table.reject_share:
        yield Finding(
            Code.REJECT_SHARE,
            table.name,
            f"{found.rejected:,} of {found.read:,} rows of the last loads wait in the quarantine, "
            f"more than the {table.reject_share:.2%} that reject_share allows",
            f"lakebed rejects {table.name}; fix the rows or the table file, then --retry",
        )


def _of_rows(table: SourceTable, state: TableState) -> Iterator[Finding]:
    if table.freshness is not None and has_age(table):
        if state.newest is None:
            yield Finding(
                Code.NO_ROWS,
                table.name,
                f"the table is empty; its newest row must be at most {table.freshness} old",
                f"lakebed load {table.name}",
            )
        elif (lag := state.now - state.newest) > table.freshness:
            yield Finding(
                Code.ROWS_STALE,
                table.name,
                f"the newest row is {timedelta(seconds=round(lag.total_seconds()))} old, "
                f"freshness allows {table.freshness}",
                f"check whether its source delivers; lakebed load {table.name}",
            )
    if state.coverage is not None and state.coverage.overlaps:
        yield Finding(
            Code.COVERAGE_OVERLAP,
            table.name,
            f"partitions overlap: {_named(state.coverage.overlaps)}",
            f"lakebed verify {table.name} --deep, then restore the partition and check its rows",
        )
    if state.coverage is not None and state.coverage.gaps:
        gaps = [
            gap.first if gap.partitions == 1 else f"{gap.first} to {gap.last}"
            for gap in state.coverage.gaps
        ]
        yield Finding(
            Code.COVERAGE_GAP,
            table.name,
            f"partitions without rows lie between partitions with rows: {_named(gaps)}",
            "check whether the source has rows of that time, and load them",
        )


def _named(things: tuple[str, ...] | list[str]) -> str:
    more = len(things) - NAMED
    shown = "; ".join(things[:NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
