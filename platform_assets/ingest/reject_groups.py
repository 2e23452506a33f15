"""Group rejects by the kind of rule that their rows broke first, the column and the rule."""

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
        rule: The rule, as in `lakebed.rejected_row`.
        column: The column; "" where the rule concerns the whole row.
        count: How many rows broke it.
        example: The place and the row of one of them, without redacted values.
    """

    kind: RejectKind
    rule: str
    column: str
    count: int
    example: str

    def to_row(self) -> dict[str, Any]:
        """Return the row of the group in a table of failures."""
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
        table: The table of the rejects, which also names the columns to redact.
        load_ids: Only rejects of these loads; None for all.
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

    If the table redacts any column, a line that was not a row is redacted as a whole.
    """
    hidden = {
        source
        for name in table.redact
        for source in (name, *sources_of(table.transforms, table.contract_names, name))
    }
    no_row = bool(hidden) and not set(row) & set(table.source_columns)
    shown = {name: REDACTED if no_row or name in hidden else value for name, value in row.items()}
    return json.dumps(shown, ensure_ascii=False)
