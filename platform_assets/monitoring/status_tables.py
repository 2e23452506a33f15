"""Show the platform's status in a terminal: the heat map, and a table of details."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

from rich.table import Table
from rich.text import Text

from lakebed.monitoring.findings import Finding, Severity
from lakebed.monitoring.status import PlatformStatus, State, TableStatus

CELLS = 90
"""How many partitions of a table the heat map shows: the latest ones. It counts all of them."""

_SHOWN: Mapping[State, tuple[str, str]] = {
    "hot": ("H", "bold white on red3"),
    "due": ("D", "bold black on yellow3"),
    "held": ("R", "bold white on dark_orange3"),
    "cold": ("c", "bold white on deep_sky_blue4"),
    "late": ("L", "bold white on magenta3"),
    "missing": ("M", "bold red"),
    "empty": ("·", "dim"),
}


def heat_map(status: PlatformStatus) -> Table:
    """Return a grid with one row for each table and one letter for each partition."""
    letters = "  ".join(f"{letter} {state}" for state, (letter, _) in _SHOWN.items())
    grid = Table(title=f"{status.now[:10]}   {letters}", title_justify="left", box=None)
    grid.add_column("table", no_wrap=True)
    for name in ("hot rows", "cold rows", "cold MB"):
        grid.add_column(name, justify="right", no_wrap=True)
    grid.add_column("partitions", overflow="fold")
    for table in status.tables:
        about = "~" if table.estimated else ""
        grid.add_row(
            table.name,
            f"{about}{table.hot_rows:,}",
            f"{table.cold_rows:,}" if table.cold_rows else "",
            f"{table.cold_bytes / 1e6:,.1f}" if table.cold_rows else "",
            _cells(table),
        )
    return grid


def _cells(table: TableStatus) -> Text:
    if not table.partitions:
        return Text("not partitioned" if table.exists else "not loaded yet", style="dim")
    text = Text("… " if len(table.partitions) > CELLS else "")
    for partition in table.partitions[-CELLS:]:
        letter, style = _SHOWN[partition.state]
        text.append(f"{letter}", style)
    found = Counter(p.state for p in table.partitions)
    words = ", ".join(f"{n} {state}" for state, n in found.items())
    first, last = table.partitions[0].key, table.partitions[-1].key
    return text.append(f"  {first} to {last}: {words}", "dim")


def details(status: PlatformStatus) -> Table:
    """Return a table of details: loads, freshness, quarantine, requests."""
    columns = ["last load (UTC)", "rows read", "newest row", "lag"]
    columns += ["quarantine", "files waiting", "requests"]
    rows = [_details(found) for found in status.tables]
    # On a narrow terminal a column without a value would cost the others their text.
    kept = [place for place in range(len(columns)) if any(str(row[place]) for row in rows)]
    table = Table(box=None)
    table.add_column("table", no_wrap=True)
    for place in kept:
        right = columns[place] in ("rows read", "quarantine", "files waiting")
        table.add_column(columns[place], justify="right" if right else "left")
    for found, row in zip(status.tables, rows, strict=True):
        table.add_row(found.name, *(row[place] for place in kept))
    return table


def _details(found: TableStatus) -> list[Text]:
    """Return the values of one table, empty where there is nothing to say."""
    lag = "" if found.lag_seconds is None else str(timedelta(seconds=round(found.lag_seconds)))
    return [
        Text((found.loaded_at or "never")[:16].replace("T", " ")),
        Text(f"{found.last_rows:,}"),
        Text((found.newest_row or found.cursor or "")[:16].replace("T", " ")),
        Text(lag, "red" if found.fresh is False else ""),
        Text(f"{found.quarantined:,}" if found.quarantined else ""),
        Text(str(len(found.waiting_files) or "")),
        Text(str(found.requests or "")),
    ]


_COLOURS: Mapping[Severity, str] = {"wrong": "red", "warning": "yellow3", "note": "dim"}


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return a table of findings: the severity of each, its place, the finding and the fix."""
    table = Table(box=None, show_header=False)
    for finding in findings:
        level = Text(finding.level, _COLOURS[finding.level])
        table.add_row(level, finding.where, f"{finding.what}\n{finding.todo}")
    return table
