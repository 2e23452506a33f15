"""The parts of a plan: a table as PostgreSQL has it, and the changes that it needs.

Pure. Each change is one of
    instant   changes the catalog only, under a lock that is held for milliseconds
    checked   needs a check of the rows, which does not block the table
    blocking  reads or writes every row while the table is locked: done only on request
    refused   could lose a value, or is not Lakebed's to decide: shown, never done
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from psycopg import sql

from lakebed.spec.partitions import Window

Safety = Literal["instant", "checked", "blocking", "refused"]

SMALL_BYTES = 64 * 2**20
"""A table up to this size is gone through in less than a second: no reason to ask."""

Statements = tuple[sql.Composed, ...]


@dataclass(frozen=True)
class FoundColumn:
    """A column as pg_attribute has it. kind: as format_type() spells it."""

    name: str
    kind: str
    not_null: bool = False
    comment: str | None = None
    default: bool = False

    @property
    def needed(self) -> bool:
        """Whether a row must bring a value for it."""
        return self.not_null and not self.default


@dataclass(frozen=True)
class Found:
    """A table as PostgreSQL's catalog has it, with its partition tables.

    unique: the columns of each unique index. references: single-column foreign keys, each with the
    table that it refers to; None if they were not read. time_indexed: an index begins with the
    partitioning column. filled: it has rows, hot or cold. rows: an estimate. bytes: without
    indexes.
    """

    columns: tuple[FoundColumn, ...]
    comment: str | None = None
    primary_key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    references: frozenset[tuple[str, str]] | None = None
    require_partitioning: bool = False
    time_indexed: bool = False
    partition_tables: frozenset[str] = frozenset()
    filled: bool = False
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Change:
    """One difference, and the SQL that removes it.

    columns: the columns concerned. steps: transactions, in order; for a refused change the SQL that
    the user may run. rows, bytes: how much is read or written. lock: what the lock blocks. why: the
    reason of a refusal, and the fix. partition_tables: the windows whose tables are missing.
    """

    what: str
    safety: Safety
    steps: tuple[Statements, ...]
    columns: tuple[str, ...] = ()
    rows: int = 0
    bytes: int = 0
    lock: str = ""
    why: str = ""
    partition_tables: tuple[Window, ...] = ()

    @property
    def sql(self) -> list[str]:
        """The statements as text."""
        return [statement.as_string() for step in self.steps for statement in step]

    def to_json(self) -> dict[str, Any]:
        """Return the change for a machine."""
        return {
            "what": self.what,
            "safety": self.safety,
            "columns": list(self.columns),
            "sql": self.sql,
            "rows": self.rows,
            "bytes": self.bytes,
            "lock": self.lock,
            "why": self.why,
        }


@dataclass(frozen=True)
class Plan:
    """What would be changed in one table, in order.

    fields: lines for the pandera model, of columns that the table has and the model does not.
    """

    table: str
    changes: tuple[Change, ...]
    fields: tuple[str, ...] = ()

    def doable(self, *, blocking: bool) -> list[Change]:
        """Return the changes that are done, with the blocking ones or without."""
        kinds = {"instant", "checked"} | ({"blocking"} if blocking else set())
        return [change for change in self.changes if change.safety in kinds]

    def to_json(self) -> dict[str, Any]:
        """Return the plan for a machine."""
        changes = [change.to_json() for change in self.changes]
        return {"table": self.table, "changes": changes, "fields": list(self.fields)}
