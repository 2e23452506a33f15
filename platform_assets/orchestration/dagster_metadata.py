"""What assets and materializations say of themselves in Dagster's UI, in one way everywhere."""

from __future__ import annotations

import inspect
import warnings
from base64 import b64encode
from pathlib import Path
from typing import Any

import dagster as dg
from psycopg import sql

from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.reader import listed
from lakebed.orchestration.phases import Phases
from lakebed.spec.partitions import Window
from lakebed.spec.table import SourceTable


def code_link(file: Path | str, label: str, line: int = 1) -> dict[str, Any]:
    """Return the metadata by which the UI opens the file that an asset is declared in."""
    with warnings.catch_warnings():
        # Code references are in beta; that they may change is ours to know, not the user's.
        warnings.simplefilter("ignore", dg.BetaWarning)
        link = dg.LocalFileCodeReference(file_path=str(file), line_number=line, label=label)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[link])}


def table_link(table: SourceTable) -> dict[str, Any]:
    """Return the link to the table file, at its contract; nothing for one that is in no file."""
    try:
        file = inspect.getsourcefile(table.model)
        _, line = inspect.getsourcelines(table.model)
    except (OSError, TypeError):  # made in a shell, or by a function
        return {}
    return code_link(file, f"{table.name}, the table file", line) if file else {}


def owners(owner: str | None) -> list[str] | None:
    """Return an owner as Dagster takes it."""
    return [owner] if owner else None


def pace(
    rows: int | None, size: int | None, seconds: float, phases: Phases | None = None
) -> dict[str, Any]:
    """Return bytes, seconds, those of each phase, and rows a second; what is None is left out."""
    found: dict[str, Any] = {} if size is None else {"bytes": size}
    found["seconds"] = round(seconds, 3)
    if rows is not None:
        found["rows_per_second"] = round(rows / seconds) if seconds else 0
    for phase, spent in phases.seconds.items() if phases else ():
        found[f"seconds_{phase}"] = round(spent, 3)
    return found


def query_of(
    name: str, column: str | None = None, window: Window | None = None
) -> dg.MetadataValue[Any]:
    """Return the query that shows the rows of a table or model, or those of a window of it."""
    where = ""
    if column is not None and window is not None:
        column = sql.Identifier(column).as_string()
        where = (
            f"\nwhere {column} >= '{window.lower.isoformat()}'"
            f"\n  and {column} < '{window.upper.isoformat()}'"
        )
    return dg.MetadataValue.md(f"```sql\nselect * from {name}{where}\nlimit 100\n```")


def picture(svg: bytes, text: str) -> dg.MetadataValue[Any]:
    """Return a picture within Markdown, and the text below it."""
    return dg.MetadataValue.md(f"{inline(svg)}\n\n{text}")


def inline(svg: bytes) -> str:
    """Return a picture as Markdown that holds all of it."""
    return f"![partitions](data:image/svg+xml;base64,{b64encode(svg).decode()})"


def load_summary(report: LoadReport) -> str:
    """Return what a load did, in a line."""
    if report.load_id is None:
        return f"{report.table}: nothing new"
    return (
        f"{report.table}: {report.rows_read} rows read from {report.files} files, "
        f"{report.inserted} inserted, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.rejected} rejected, {report.deleted} deleted, in {report.seconds:.1f} s"
    )


def load_metadata(report: LoadReport, phases: Phases | None = None) -> dict[str, Any]:
    """Return what a load did, as metadata of a materialization."""
    return {
        "rows_read": report.rows_read,
        "rows_inserted": report.inserted,
        "rows_updated": report.updated,
        "rows_unchanged": report.unchanged,
        "rows_rejected": report.rejected,
        "rows_deleted": report.deleted,
        "files": report.files,
        **pace(report.rows_read, report.bytes, report.seconds, phases),
        "cursor_from": report.cursor_from or "none",
        "cursor_to": report.cursor_to or "none",
        "load_id": report.load_id or "nothing new",
        "columns_added": ", ".join(report.evolved) or "none",
        "columns_left_out": listed(report.discarded) or "none",
    }
