"""Create in PostgreSQL the structure of imported tables, after their rows are loaded.

Each object is one short transaction with a lock_timeout:

    look at the catalogue -> exists: nothing to do
    identity, default:     ALTER TABLE
    index, unique key:     CREATE INDEX; CONCURRENTLY where the table existed before this import
    CHECK, foreign key:    ADD ... NOT VALID, then VALIDATE in a transaction of its own

An object that fails is named with its SQL and left out; the others are created. A constraint whose
rows do not agree is dropped again, so that it does not stop later loads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psycopg

from lakebed.errors import LakebedError
from lakebed.importing.catalogue import look_up, relation_names
from lakebed.importing.statements import ImportedTable, StatementMaker, Step
from lakebed.importing.structure import DatabaseStructure, SourceForeignKey, TableStructure
from lakebed.resources.postgres import Connection, change_schema
from lakebed.spec.table import SourceTable


@dataclass(frozen=True)
class StructureOutcome:
    """What became of one object of the structure."""

    table: str
    kind: str
    name: str
    state: str
    """`created`, `exists`, `failed` or `left out`."""
    sql: str = ""
    why: str = ""
    seconds: float = 0.0


def create_structure(
    connection: Connection,
    structure: DatabaseStructure,
    tables: Sequence[ImportedTable],
    on_outcome: Callable[[StructureOutcome], None] = lambda outcome: None,
) -> list[StructureOutcome]:
    """Create what the imported tables lack of their structure; return what became of each object.

    Args:
        connection: A connection in autocommit mode.
        structure: What the source has.
        tables: The imported tables.
        on_outcome: Called with each object when it is done.
    """
    by_source = {one.source.lower(): one for one in tables}
    known = [
        (one, by_source[one.name.lower()])
        for one in structure.tables
        if one.name.lower() in by_source
    ]
    outcomes: list[StructureOutcome] = []

    def note(outcome: StructureOutcome) -> None:
        outcomes.append(outcome)
        on_outcome(outcome)

    for source, imported in known:
        for step in _own_steps(connection, source, imported):
            note(_do(connection, imported.table, step))
    for source, imported in known:  # every unique key that a foreign key may need is there now
        for key in source.foreign_keys:
            step = _foreign_key(connection, imported, key, by_source.get(key.parent.lower()))
            note(_do(connection, imported.table, step))
    return outcomes


def _own_steps(
    connection: Connection, source: TableStructure, imported: ImportedTable
) -> list[Step]:
    """Return the objects of a table that need no other table."""
    present = look_up(connection, imported.table)
    if present is None:
        return [Step("table", imported.table.name, why="its rows were not loaded")]
    taken = relation_names(connection, imported.table.schema)
    maker = StatementMaker(imported, present, taken)
    steps = [maker.primary_key(source.primary_key)] if source.primary_key else []
    if source.identity is not None:
        steps.append(maker.identity(source.identity))
    steps += [maker.default(column, text) for column, text in source.defaults.items()]
    steps += [maker.index(index) for index in source.indexes]
    steps += [maker.check(check) for check in source.checks]
    return steps


def _do(connection: Connection, table: SourceTable, step: Step) -> StructureOutcome:
    """Create one object, unless it exists or cannot be."""
    outcome = StructureOutcome(table.name, step.kind, step.name, "created")
    text = "; ".join(statement.as_string(connection) for statement in step.statements)
    if step.why:
        return replace(outcome, state="left out", sql=text, why=step.why)
    if step.exists and not step.statements:
        return replace(outcome, state="exists")
    begin = time.perf_counter()
    try:
        if step.concurrent:
            for statement in step.statements:
                connection.execute(statement)
        else:
            for statement in step.statements:
                change_schema(connection, [statement])
    except (psycopg.Error, LakebedError) as error:
        message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        why = message or str(error)
        if isinstance(error, psycopg.Error) and error.diag.message_detail:
            why = f"{why}. {error.diag.message_detail}"
        if step.undo is not None and not connection.broken:
            change_schema(connection, [step.undo])
        return replace(outcome, state="failed", sql=text, why=why)
    state = "exists" if step.exists else "created"
    return replace(outcome, state=state, sql=text, seconds=time.perf_counter() - begin)


def _foreign_key(
    connection: Connection,
    imported: ImportedTable,
    key: SourceForeignKey,
    parent: ImportedTable | None,
) -> Step:
    name = f"({', '.join(key.columns)}) references {key.parent}"
    if parent is None:
        return Step("foreign key", name, why=f"table {key.parent} was not imported")
    present = look_up(connection, imported.table)
    there = look_up(connection, parent.table)
    if present is None or there is None:
        return Step("foreign key", name, why="the rows of one of the tables were not loaded")
    return StatementMaker(imported, present, frozenset()).foreign_key(key, parent, there.oid)
