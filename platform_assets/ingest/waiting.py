"""Show the newest rejects of the quarantine, and export all of them to files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.ingest.quarantine import shown
from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

FORMATS = (".csv", ".jsonl", ".parquet")
ROWS_A_BATCH = 10_000

_COLUMNS = (
    "rejected_row_id, source_file, row_number, kind, rule, column_name, message, source_row,"
    " rejected_at, load_id, resolved_by"
)
_WHERE = """\
table_name = %(table)s and (resolved_by is not null) = %(resolved)s
and (%(load_id)s::text is null or load_id = %(load_id)s)
and (%(column)s::text is null or column_name = %(column)s)"""
_ABOUT = {
    "source_file": "lakebed_file",
    "row_number": "lakebed_row",
    "column_name": "lakebed_column",
    "kind": "lakebed_kind",
    "rule": "lakebed_rule",
    "message": "lakebed_message",
    "rejected_at": "lakebed_rejected_at",
    "load_id": "lakebed_load",
    "resolved_by": "lakebed_resolved_by",
}
"""The columns about a reject, and their names in a file next to the columns of the source."""

# A spreadsheet reads a cell that begins so as a formula, unless it is a plain number.
_FORMULA = re.compile(r"\s*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Selection:
    """A selection of rejects: of a table, a load or a column, resolved or not."""

    table: str
    load_id: str | None = None
    column: str | None = None
    resolved: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """The values for the query."""
        return vars(self)


def newest(
    connection: Connection, chosen: Selection, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """Return the newest rows as JSON values, and the number of all rows."""
    cursor = connection.execute(
        f"select {_COLUMNS}, count(*) over () as of_rows"  # noqa: S608
        f" from lakebed.rejected_row where {_WHERE} order by rejected_row_id desc limit %(limit)s",
        chosen.parameters | {"limit": limit},
    )
    names = [column.name for column in cursor.description or ()]
    rows = [_readable(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
    of_rows = rows[0]["of_rows"] if rows else 0
    for row in rows:
        del row["of_rows"]
    return rows, of_rows


def count_by_reason(
    connection: Connection, chosen: Selection
) -> list[tuple[str, str | None, str | None, int]]:
    """Return kind, rule, column and number of rows for each reason, the most frequent first."""
    return connection.execute(
        "select kind, rule, column_name, count(*) from lakebed.rejected_row"  # noqa: S608
        f" where {_WHERE} group by 1, 2, 3 order by 4 desc, 1, 2, 3",
        chosen.parameters,
    ).fetchall()


def set_values(
    connection: Connection,
    table: SourceTable,
    chosen: Selection,
    values: Mapping[str, str],
    where: Mapping[str, str],
) -> int:
    """Change source columns of waiting rows, in one statement; return the number of rows.

    Args:
        connection: A connection; the caller commits.
        table: The table of the selection.
        chosen: Which rows of the quarantine.
        values: The new text of each source column.
        where: Only rows whose source columns have these texts.
    """
    # A line that could not be parsed has no columns to change.
    unparsed = "$line" if "line" in table.source_columns else "line"
    changed = connection.execute(
        "update lakebed.rejected_row set source_row = source_row || %(values)s::jsonb"  # noqa: S608
        f" where {_WHERE} and not source_row ? %(unparsed)s"
        " and not exists (select from jsonb_each_text(%(where)s::jsonb) w"
        " where source_row ->> w.key is distinct from w.value)",
        chosen.parameters
        | {"values": json.dumps(values), "where": json.dumps(where), "unparsed": unparsed},
    )
    return changed.rowcount


def export(
    connection: Connection,
    table: SourceTable,
    chosen: Selection,
    output: Path,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> int:
    """Write the rows to a file, in the order of their rejection; return their number.

    JSON lines have each row as the quarantine has it. CSV and Parquet have the columns of the
    source and lakebed_* columns about the row. In CSV a ' precedes a text that a spreadsheet would
    read as a formula. A new file is written batch by batch and then renamed.
    """
    form = output.suffix.lower()
    names = [] if form == ".jsonl" else _source_names(connection, table, chosen)
    write = {".csv": _write_csv, ".jsonl": _write_lines, ".parquet": _write_parquet}[form]
    unfinished = output.with_name(f".{output.name}.part")
    try:
        rows = write(unfinished, names, _batches(connection, chosen), on_rows)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    unfinished.replace(output)
    return rows


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    source_row = {name: shown(value) for name, value in row["source_row"].items()}
    return row | {"source_row": source_row, "rejected_at": row["rejected_at"].isoformat()}


def _source_names(connection: Connection, table: SourceTable, chosen: Selection) -> list[str]:
    found = connection.execute(
        "select distinct jsonb_object_keys(source_row) from lakebed.rejected_row"  # noqa: S608
        f" where {_WHERE}",
        chosen.parameters,
    ).fetchall()
    there = {name for (name,) in found}
    first = [name for name in table.source_columns if name in there]
    return first + sorted(there - set(first))


def _batches(connection: Connection, chosen: Selection) -> Iterator[list[dict[str, Any]]]:
    with connection.cursor(name="lakebed_export") as cursor:
        cursor.execute(
            f"select {_COLUMNS} from lakebed.rejected_row where {_WHERE}"  # noqa: S608
            " order by rejected_row_id",
            chosen.parameters,
        )
        names = [column.name for column in cursor.description or ()]
        while rows := cursor.fetchmany(ROWS_A_BATCH):
            yield [dict(zip(names, row, strict=True)) for row in rows]


def _write_lines(
    path: Path,
    names: Sequence[str],
    batches: Iterator[list[dict[str, Any]]],
    on_rows: Callable[[int], None],
) -> int:
    written = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        for batch in batches:
            for row in batch:
                row["rejected_at"] = row["rejected_at"].isoformat()
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            written += len(batch)
            on_rows(len(batch))
    return written


def _write_csv(
    path: Path,
    names: Sequence[str],
    batches: Iterator[list[dict[str, Any]]],
    on_rows: Callable[[int], None],
) -> int:
    written = 0
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([_safe(name) for name in (*names, *_ABOUT.values())])
        for batch in batches:
            for row in batch:
                readable = _readable(row)
                values = [_text(readable["source_row"].get(name)) for name in names]
                values += [_text(readable[name]) for name in _ABOUT]
                writer.writerow([_safe(value) for value in values])
            written += len(batch)
            on_rows(len(batch))
    return written


def _write_parquet(
    path: Path,
    names: Sequence[str],
    batches: Iterator[list[dict[str, Any]]],
    on_rows: Callable[[int], None],
) -> int:
    kinds = {"row_number": pa.int64(), "rejected_at": pa.timestamp("us", "UTC")}
    schema = pa.schema(
        [pa.field(name, pa.string()) for name in names]
        + [pa.field(label, kinds.get(name, pa.string())) for name, label in _ABOUT.items()]
    )
    written = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            sources = [_readable(row)["source_row"] for row in batch]
            arrays = [pa.array([_text(row.get(n)) for row in sources], pa.string()) for n in names]
            arrays += [
                pa.array([row[name] for row in batch], kinds.get(name, pa.string()))
                for name in _ABOUT
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(batch)
            on_rows(len(batch))
    return written


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _safe(text: str | None) -> str | None:
    if text is None or not _FORMULA.match(text) or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"
