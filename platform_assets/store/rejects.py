"""A reject: what is wrong with a row, as data, and the row's way into the quarantine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from lakebed.resources.postgres import Connection

NOT_NULLABLE = "not_nullable"
"""The rule that a required value breaks; pandera's name for it."""


class RejectKind(StrEnum):
    """What kind of rule a row broke. `lakebed.rejected_row.kind` holds the values."""

    MALFORMED = "malformed"
    """A line that is not a row: too many values, an open quote, not a JSON object."""
    TYPE = "type"
    """A value that cannot become its column's type without loss."""
    REQUIRED = "required"
    """A null where the contract wants a value."""
    RULE = "rule"
    """A rule of the model, or a time outside the table's partitions."""
    CONSTRAINT = "constraint"
    """A constraint, an index or a trigger of PostgreSQL."""
    MISSING_PARENT = "missing_parent"
    """A lookup or a foreign key whose parent row is not there."""


class Malformed(NamedTuple):
    """Why a line is not a row. A reader returns it; the kind is RejectKind.MALFORMED."""

    rule: str
    message: str


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row.

    Attributes:
        kind: The kind of the first rule that the row broke.
        rule: That rule: pandera's name for it, the constraint's name, the PostgreSQL type that the
            value does not have, or a word of Lakebed's own.
        column: The column of the table that broke it; None where it concerns the whole row.
        message: Everything that is wrong with the row, in words, with its values.
    """

    kind: RejectKind
    rule: str
    column: str | None
    message: str

    @property
    def summary(self) -> str:
        """The column, the kind and the rule in one line: alike for all rows of a group."""
        return f"{self.column or 'row'}: {self.kind} {self.rule}"


@dataclass(frozen=True)
class Reject:
    """A row that broke the contract.

    Attributes:
        source_file: The path of the item that the row is from.
        row_number: The row in it, from 1, without a header.
        fault: What is wrong with the row.
        row: The row as it was read, as JSON for jsonb (`quarantine` says how).
        types: The types of its columns in the source, as JSON; None where all are text.
    """

    source_file: str
    row_number: int
    fault: Fault
    row: str
    types: str | None = None

    @property
    def kind(self) -> RejectKind:
        """The kind of the first rule that the row broke."""
        return self.fault.kind

    @property
    def rule(self) -> str:
        """The first rule that the row broke."""
        return self.fault.rule

    @property
    def column(self) -> str | None:
        """The column that broke it."""
        return self.fault.column

    @property
    def message(self) -> str:
        """Everything that is wrong with the row, in words."""
        return self.fault.message


def line_key(columns: Collection[str]) -> str:
    """Return the name under which the quarantine keeps a line that could not be read as a row.

    columns: the source's; the name differs from each of them.
    """
    key = "line"
    while key in columns:
        key = f"${key}"
    return key


def write_rejects(
    connection: Connection, table: str, load_id: str, rejects: Sequence[Reject]
) -> None:
    """Put rejects into the quarantine, in the load's transaction."""
    if not rejects:
        return
    statement = (
        "copy lakebed.rejected_row (table_name, load_id, source_file, row_number, kind, rule,"
        " column_name, message, source_row, source_types) from stdin"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for r in rejects:
            where = (table, load_id, r.source_file, r.row_number)
            copy.write_row((*where, r.kind, r.rule, r.column, r.message, r.row, r.types))
