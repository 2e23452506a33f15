"""Rejects in groups: by the kind of rule that their rows broke, the column and the rule itself.

A reject tells in words why it was rejected; the words are those of `contract`, `constraints` and
the lookups, and are read here alone.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lakebed.resources.postgres import Connection
from lakebed.spec.shape import sources_of
from lakebed.spec.table import SourceTable

Kind = Literal["types", "required", "values", "constraints"]
"""types: no value of its column's type, or no row at all; required: null where none may be;
values: a rule of the model, or outside the table's time; constraints: PostgreSQL's own, lookups."""

KINDS: tuple[Kind, ...] = get_args(Kind)
MOST_GROUPS = 50
REDACTED = "***"

_RULE = re.compile(r"breaks the rule (.+)$")
_OTHER: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"breaks the constraint ([^:]+)"), "constraints"),
    (re.compile(r"violates .*constraint \"([^\"]+)\""), "constraints"),
    (re.compile(r"(no row of \S+ has it)"), "constraints"),
    (re.compile(r"((?:before the table's start|at or after the table's end).*)"), "values"),
    (re.compile(r"(after the last year that has an end.*)"), "values"),
)


_VALUES = r" \((it is |'|a constant|Key |Failing row ).*$"
"""The values of the row stand in parentheses at the end, and would tear the groups apart."""


@dataclass(frozen=True)
class RejectGroup:
    """Rejects that broke one rule in one column.

    check: the rule, by pandera's name, the constraint's, or in words.  example: where one of them
    was, and its row, without what the table redacts.
    """

    kind: Kind
    column: str
    check: str
    count: int
    example: str

    def to_row(self) -> dict[str, Any]:
        """Return what a table of failures shows of it."""
        return {
            "column": self.column,
            "check": self.check,
            "count": self.count,
            "example": self.example,
        }


def read_reject_groups(
    connection: Connection, table: SourceTable, load_ids: Sequence[str]
) -> list[RejectGroup]:
    """Read the rejects of loads in groups, the largest first, at most MOST_GROUPS.

    A row that broke several rules counts for the first of them.
    """
    rows = connection.execute(
        "select coalesce(column_name, ''), why, count(*), min(array[source_file,"
        " row_number::text, source_row::text]) from (select *, regexp_replace(reason, %s, '')"
        " as why from lakebed.rejected_row where load_id = any (%s)) r group by 1, 2"
        " order by count(*) desc, 1, 2 limit %s",
        [_VALUES, list(load_ids), MOST_GROUPS],
    ).fetchall()
    counts: dict[tuple[Kind, str, str], int] = defaultdict(int)
    examples: dict[tuple[Kind, str, str], str] = {}
    for column, why, count, (file, number, row) in rows:
        kind, check = rule_of(why)
        group = (kind, column, check)
        counts[group] += count
        shown = redacted(table, json.loads(row))
        examples.setdefault(group, f"{file}, row {number}: {shown}"[:500])
    return [RejectGroup(*group, count, examples[group]) for group, count in counts.items()]


def without_values(reason: str) -> str:
    """Return why a row was rejected without what it held, alike for all of a group."""
    return re.sub(_VALUES, "", reason, flags=re.DOTALL)


def rule_of(why: str) -> tuple[Kind, str]:
    """Return the kind of the rule that a reject's first reason names, and the rule."""
    first = why.split("; ")[0]
    rule = _RULE.search(first)
    if rule is not None:
        return ("required" if rule[1] == "not_nullable" else "values"), rule[1]
    for pattern, kind in _OTHER:
        found = pattern.search(first)
        if found is not None:
            return kind, found[1]
    return "types", first.split(": ", 1)[-1]


def redacted(table: SourceTable, row: dict[str, Any]) -> str:
    """Return a rejected row as JSON, without the values of the columns that the table redacts.

    Of a line that was no row nothing is shown where anything is redacted.
    """
    hidden = {
        source
        for name in table.redact
        for source in (name, *sources_of(table.shape, table.contract_names, name))
    }
    no_row = bool(hidden) and not set(row) & set(table.source_columns)
    shown = {name: REDACTED if no_row or name in hidden else value for name, value in row.items()}
    return json.dumps(shown, ensure_ascii=False)
