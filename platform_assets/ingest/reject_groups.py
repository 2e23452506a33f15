"""Rejects in groups: by the kind of rule that their rows broke first, the column and the rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable
from lakebed.spec.transforms import sources_of
from lakebed.store.rejects import RejectKind

MOST_GROUPS = 50
REDACTED = "***"
LONGEST_EXAMPLE = 500
"""In characters."""


@dataclass(frozen=True)
class RejectGroup:
    """Rejects that broke one rule in one column.

    Attributes:
        kind: The kind of the rule.
        rule: The rule, as `lakebed.rejected_row` has it.
        column: The column; "" where the rule concerns the whole row.
        count: How many rows broke it.
        example: Where one of them was, and its row, without what the table redacts.
    """

    kind: RejectKind
    rule: str
    column: str
    count: int
    example: str

    def to_row(self) -> dict[str, Any]:
        """Return what a table of failures shows of it."""
        return {
            "column": self.column,
            "kind": str(self.kind),
            "rule": self.rule,
            "count": self.count,
            "example": self.example,
        }


def read_reject_groups(
    connection: Connection, table: SourceTable, load_ids: Sequence[str] | None = None
) -> list[RejectGroup]:
    """Read the rejects of a table that wait in the quarantine, in groups, the largest first.

    At most MOST_GROUPS of each kind. A row that broke several rules counts for the first of them.

    Args:
        connection: Reads the quarantine.
        table: Whose rejects, and what of them must not be shown.
        load_ids: Those of these loads alone; None: of all.
    """
    rows = connection.execute(
        "select kind, rule, at, rows, example from (select kind, rule,"
        " coalesce(column_name, '') as at, count(*) as rows,"
        " min(array[source_file, row_number::text, source_row::text]) as example,"
        " row_number() over (partition by kind order by count(*) desc, rule) as place"
        " from lakebed.rejected_row where table_name = %(table)s and resolved_by is null"
        " and (%(loads)s::text[] is null or load_id = any (%(loads)s))"
        " group by 1, 2, 3) g where place <= %(most)s order by rows desc, kind, rule, at",
        {
            "table": table.name,
            "loads": None if load_ids is None else list(load_ids),
            "most": MOST_GROUPS,
        },
    ).fetchall()
    return [
        RejectGroup(
            RejectKind(kind),
            rule,
            column,
            count,
            f"{file}, row {number}: {redacted(table, json.loads(row))}"[:LONGEST_EXAMPLE],
        )
        for kind, rule, column, count, (file, number, row) in rows
    ]


def redacted(table: SourceTable, row: dict[str, Any]) -> str:
    """Return a rejected row as JSON, without the values of the columns that the table redacts.

    Of a line that was no row nothing is shown where anything is redacted.
    """
    hidden = {
        source
        for name in table.redact
        for source in (name, *sources_of(table.transforms, table.contract_names, name))
    }
    no_row = bool(hidden) and not set(row) & set(table.source_columns)
    shown = {name: REDACTED if no_row or name in hidden else value for name, value in row.items()}
    return json.dumps(shown, ensure_ascii=False)
