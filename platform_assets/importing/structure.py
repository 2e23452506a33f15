"""What a source database has besides rows, in words that every kind of database shares.

Names of tables and columns are the source's own. Expressions are SQL of PostgreSQL already, or
they are listed in `left_out` with their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lakebed.errors import WRONG_USAGE, LakebedError


class ImportSourceError(LakebedError, ValueError):
    """A source database that cannot be imported as it was named; nothing was changed."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class SourceIndex:
    """A secondary index or unique key of a source table."""

    name: str
    columns: tuple[str, ...]
    """Columns of the source, in order. Empty where the index has an expression."""
    unique: bool = False
    descending: frozenset[str] = frozenset()
    """Columns whose order is descending."""
    where: str | None = None
    """The condition of a partial index, as SQL of PostgreSQL."""
    expressions: tuple[str, ...] = ()
    """The parts of an index with an expression, as SQL of PostgreSQL; instead of `columns`."""


@dataclass(frozen=True)
class SourceForeignKey:
    """A foreign key of a source table."""

    columns: tuple[str, ...]
    parent: str
    """The source's name of the table that is referred to."""
    parent_columns: tuple[str, ...]
    on_delete: str = "NO ACTION"
    on_update: str = "NO ACTION"


@dataclass(frozen=True)
class SourceCheck:
    """A CHECK of a source table. expression: SQL of PostgreSQL."""

    expression: str
    name: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """An object of the source that is not carried over, with its text and the reason."""

    kind: str
    name: str
    text: str
    why: str


@dataclass(frozen=True)
class TableStructure:
    """The structure of one source table."""

    name: str
    primary_key: tuple[str, ...] = ()
    identity: str | None = None
    """The column whose numbers the source hands out."""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """Default expressions by column, as SQL of PostgreSQL."""
    indexes: tuple[SourceIndex, ...] = ()
    foreign_keys: tuple[SourceForeignKey, ...] = ()
    checks: tuple[SourceCheck, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True)
class DatabaseStructure:
    """The structure of a source database."""

    tables: tuple[TableStructure, ...]
    left_out: tuple[LeftOut, ...] = ()
    """Views, triggers and virtual tables."""
