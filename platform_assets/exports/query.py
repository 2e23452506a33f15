"""Build the query of an export: columns and rows of a table or model, always in the same order.

With a key the order is unique. Without a key the query orders by all written columns, so that rows
which could change places are equal to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from lakebed.resources.stored_form import (
    StoredColumn,
    UnstorableError,
    stored_kind,
    stored_value,
)
from lakebed.spec.export import Export, ExportError, unknown

if TYPE_CHECKING:
    from lakebed.resources.session import ReadSession

_ORDER = re.compile(
    r"(?P<name>.+?)(?:\s+(?P<way>asc|desc))?(?:\s+nulls\s+(?P<nulls>first|last))?", re.I | re.S
)
FLOATS = ("DOUBLE", "FLOAT")
_NESTED = re.compile(r".*\]|(STRUCT|MAP|UNION)\(.*", re.S)


@dataclass(frozen=True)
class Selection:
    """A query of one table or model. columns: name and DuckDB type of each column in the file."""

    name: str
    columns: tuple[tuple[str, str], ...]
    query: sql.Composable


def selection(session: ReadSession, export: Export, name: str) -> Selection:
    """Return the query for one of the export's tables or models.

    Args:
        session: The session that will run it.
        export: The export.
        name: The table or model.

    Raises:
        ExportError: The table, model or a column does not exist.
        duckdb.Error: DuckDB refuses the condition.
    """
    kinds = _columns_of(session, export, name)
    written = export.columns or tuple(kinds)
    for column in written:
        if column not in kinds:
            export.refuse("columns", unknown(column, kinds, f"column of {name}"))
    values = _values(session, export, name, kinds)
    query = sql.SQL("select {} from {}").format(
        sql.SQL(", ").join(
            sql.SQL("{} as {}").format(values[column], _name(column)) for column in written
        ),
        sql.SQL("(from {}{}) as lakebed_rows").format(_name(name), _condition(export)),
    )
    if export.ordered:
        by = [*_asked(export, kinds), *_default(session, name, written, kinds)]
        query = sql.SQL("{} order by {}").format(query, sql.SQL(", ").join(by))
    described = session.bare.execute(f"describe {query.as_string()}").fetchall()
    return Selection(name, tuple((row[0], row[1]) for row in described), query)


def known_names(session: ReadSession) -> list[str]:
    """Return the names of the tables and models that can be read, in order."""
    return sorted({*session.tables, *session.models} - set(session.unreadable))


def _columns_of(session: ReadSession, export: Export, name: str) -> dict[str, str]:
    if name in session.unreadable:
        raise ExportError(
            f"{name} cannot be read: {session.unreadable[name]}. "
            f"Build it again: lakebed build {name}"
        )
    if name not in session.tables and name not in session.models:
        why = unknown(name, known_names(session), "table or built model")
        export.refuse("of", f"{why} If it is a model, build it first: lakebed build {name}")
    described = session.bare.execute(sql.SQL("describe {}").format(_name(name)).as_string())
    return {row[0]: row[1] for row in described.fetchall()}


def _condition(export: Export) -> sql.Composable:
    if export.where is None:
        return sql.SQL("")
    # On lines of its own, so that a comment at its end does not hide the bracket.
    return sql.SQL(" where (\n{}\n)").format(sql.SQL(export.where))


def _values(
    session: ReadSession, export: Export, name: str, kinds: Mapping[str, str]
) -> dict[str, sql.Composable]:
    """Return each column in the form that the file format holds without loss.

    Raises:
        ExportError: The format cannot hold a column.
    """
    if export.kind == "duckdb":
        return {column: _name(column) for column in kinds}
    if export.kind != "parquet":
        return {column: _text(column, kind) for column, kind in kinds.items()}
    relation = session.bare.sql(sql.SQL("from {}").format(_name(name)).as_string())
    found = {}
    for column, kind in zip(relation.columns, relation.types, strict=True):
        if export.columns and column not in export.columns:
            continue
        try:
            stored = StoredColumn(column, str(kind), stored_kind(column, kind, "portable"))
        except UnstorableError as error:
            advice = "Leave it out with columns, cast it in a model, or write a DuckDB file"
            export.refuse("columns", f"{error}. {advice}")
        found[column] = stored_value(stored, read_back=False)
    return found


def _text(column: str, kind: str) -> sql.Composable:
    """Return a column as CSV holds it without loss."""
    name = _name(column)
    if kind == "TIMESTAMP WITH TIME ZONE":
        return sql.SQL("strftime({}, '%Y-%m-%dT%H:%M:%S.%fZ')").format(name)
    if kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS"):
        return sql.SQL("strftime({}::timestamp, '%Y-%m-%dT%H:%M:%S.%f')").format(name)
    if kind == "TIMESTAMP_NS":
        return sql.SQL("strftime({}, '%Y-%m-%dT%H:%M:%S.%n')").format(name)
    if kind == "BLOB":
        return sql.SQL("'\\x' || lower(hex({}))").format(name)
    if kind == "BLOB[]":
        name = sql.SQL(
            "list_transform({}, lambda lakebed_e: '\\x' || lower(hex(lakebed_e)))"
        ).format(name)
    if _NESTED.fullmatch(kind):
        return sql.SQL("to_json({})::varchar").format(name)
    return name


def _asked(export: Export, kinds: Mapping[str, str]) -> Iterator[sql.Composable]:
    for text in export.order_by:
        if text in kinds:
            yield _ordered(text, kinds[text])
            continue
        found = _ORDER.fullmatch(text.strip())
        if found is None or found["name"] not in kinds:
            name = found["name"] if found else text
            export.refuse("order_by", unknown(name, kinds, f"column of {export.names[0]}"))
        name = found["name"]
        yield _ordered(name, kinds[name], found["way"] or "asc", found["nulls"] or "last")


def _default(
    session: ReadSession, name: str, written: tuple[str, ...], kinds: Mapping[str, str]
) -> Iterator[sql.Composable]:
    table = session.tables.get(name)
    time = table.time if table else None
    if table is not None and table.key:
        columns = dict.fromkeys([*([time] if time else []), *table.key])
    else:
        columns = dict.fromkeys([*([time] if time in written else []), *written])
    for column in columns:
        assert column is not None
        yield _ordered(column, kinds[column])
        if kinds[column] in FLOATS and not (table and table.key):
            yield sql.SQL("signbit({})").format(_of_table(column))  # 0.0 and -0.0 are equal


def _ordered(column: str, kind: str, way: str = "asc", nulls: str = "last") -> sql.Composable:
    words = sql.SQL(f"{way.lower()} nulls {nulls.lower()}")
    there = _of_table(column)
    if any(word in kind for word in FLOATS):
        # DuckDB writes a sort column from the sort key, in which -0.0 is 0.0.
        there = sql.SQL("coalesce({0}, {0})").format(there)
    return sql.SQL("{} {}").format(there, words)


def _of_table(column: str) -> sql.Composable:
    """Return the column of the table, before its conversion for the file."""
    return sql.Identifier("lakebed_rows", column)


def _name(name: str) -> sql.Composable:
    return sql.Identifier(name)
