"""What a query can name: tables and models, and their columns."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
from psycopg import sql
from rich.table import Table

from lakebed.cli.errors import QueryError
from lakebed.resources.session import ReadSession


@dataclass(frozen=True)
class Relation:
    """A table or a model.

    Attributes:
        name: Its name in a query.
        kind: "table" or "model".
        columns: The number of its columns; None for a model that cannot be read.
        key: The columns of the key, empty where there is none.
        partitioned_by: The column that partitions are made by, if there is one.
        problem: Why a query cannot read it, if it cannot.
    """

    name: str
    kind: str
    columns: int | None
    key: tuple[str, ...] = ()
    partitioned_by: str | None = None
    problem: str = ""


@dataclass(frozen=True)
class RelationColumn:
    """A column of a table or a model, with DuckDB's type."""

    name: str
    type: str
    in_key: bool = False


def list_relations(session: ReadSession) -> list[Relation]:
    """Return what a query can name: the tables first, then the models, each in order."""
    found = [
        Relation(name, "table", len(table.columns), tuple(table.key), table.time)
        for name, table in sorted(session.tables.items())
    ]
    for name in sorted(session.models):
        problem = session.unreadable.get(name, "")
        columns = None if problem else len(columns_of(session, name))
        found.append(Relation(name, "model", columns, problem=problem.partition("\n")[0]))
    return found


def columns_of(session: ReadSession, name: str) -> list[RelationColumn]:
    """Return the columns of a table or model.

    Raises:
        QueryError: There is no such table or model, or it cannot be read.
    """
    if name in session.tables:
        table = session.tables[name]
        return [RelationColumn(column, kind, column in table.key) for column, kind in table.columns]
    if name in session.unreadable:
        raise QueryError(
            f"The model {name} cannot be read; build it again (`lakebed build {name}`): "
            f"{session.unreadable[name]}"
        )
    if name not in session.models:
        known = ", ".join([*sorted(session.tables), *sorted(session.models)]) or "none"
        raise QueryError(f"There is no table or model {name!r}. There are: {known}")
    describe = sql.SQL("describe {}").format(sql.Identifier(name)).as_string()
    try:
        rows = session.bare.execute(describe).fetchall()
    except duckdb.Error as error:
        raise session.explain(error) or error from error
    return [RelationColumn(row[0], row[1]) for row in rows]


def relations_table(session: ReadSession) -> Table:
    """Return the list of tables and models for a terminal."""
    shown = Table("name", "kind", "columns", "key", "partitioned by", box=None)
    shown.columns[2].justify = "right"
    for one in list_relations(session):
        count = "" if one.columns is None else str(one.columns)
        key = ", ".join(one.key) or one.problem
        shown.add_row(one.name, one.kind, count, key, one.partitioned_by or "")
    return shown


def columns_table(session: ReadSession, name: str) -> Table:
    """Return the columns of a table or model for a terminal."""
    shown = Table("column", "type", "", box=None)
    for column in columns_of(session, name):
        shown.add_row(column.name, column.type, "key" if column.in_key else "")
    return shown
