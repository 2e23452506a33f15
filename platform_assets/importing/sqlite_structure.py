"""Read the structure of a SQLite database: keys, indexes, defaults, CHECKs, and what stays behind.

SQLite's pragmas tell the columns of keys and indexes. Expressions stand only in the text of CREATE
TABLE and CREATE INDEX, which sqlglot parses.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakebed.importing.expressions import (
    UntranslatableError,
    index_parts,
    translate,
    translate_node,
)
from lakebed.importing.structure import (
    DatabaseStructure,
    ImportSourceError,
    LeftOut,
    SourceCheck,
    SourceForeignKey,
    SourceIndex,
    TableStructure,
)

_DIALECT = "sqlite"
_AGAIN = "write it again in SQL of PostgreSQL, or as a model"


def open_sqlite(database: Path) -> sqlite3.Connection:
    """Open a SQLite database for reading alone."""
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True, timeout=10)


def read_sqlite(
    database: Path, columns: Mapping[str, Mapping[str, str]], booleans: Mapping[str, frozenset[str]]
) -> DatabaseStructure:
    """Read the structure of the tables of a SQLite database.

    Args:
        database: The file.
        columns: The tables to read, by name, with the names here of their columns.
        booleans: The boolean columns of each table, by their names here.

    Raises:
        ImportSourceError: SQLite cannot read the file.
    """
    try:
        with closing(open_sqlite(database)) as connection:
            tables = tuple(
                _Table(connection, name, names, booleans.get(name, frozenset())).read()
                for name, names in columns.items()
            )
            return DatabaseStructure(tables, _left_out(connection))
    except sqlite3.Error as error:
        raise ImportSourceError(f"{database}: SQLite cannot read it ({error})") from error


def _left_out(connection: sqlite3.Connection) -> tuple[LeftOut, ...]:
    rows = connection.execute(
        "select type, name, sql from sqlite_master where type in ('view', 'trigger')"
        " or (type = 'table' and sql like 'create virtual table%') order by type desc, name"
    ).fetchall()
    return tuple(
        LeftOut("virtual table" if kind == "table" else kind, name, text, _AGAIN)
        for kind, name, text in rows
    )


class _Table:
    """One table, and what was found of it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        name: str,
        names: Mapping[str, str],
        booleans: frozenset[str],
    ) -> None:
        self._connection = connection
        self._name = name
        self._names = {source.lower(): ours for source, ours in names.items()}
        self._booleans = booleans
        self._left_out: list[LeftOut] = []

    def read(self) -> TableStructure:
        columns = self._ask(
            'select name, type, "notnull", dflt_value, pk from pragma_table_info(?)'
        )
        key = tuple(name for name, *_, place in sorted(columns, key=lambda row: row[4]) if place)
        indexes = tuple(self._indexes())
        return TableStructure(
            name=self._name,
            primary_key=key,
            identity=self._identity(columns, key),
            defaults=self._defaults(columns),
            indexes=indexes,
            foreign_keys=tuple(self._foreign_keys()),
            checks=tuple(self._checks()),
            left_out=tuple(self._left_out),
        )

    def _ask(self, query: str, *more: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, [self._name, *more]).fetchall()

    def _identity(self, columns: list[tuple[Any, ...]], key: tuple[str, ...]) -> str | None:
        """Return the column that is the rowid: INTEGER PRIMARY KEY, in a table that has one.

        A PRIMARY KEY of another type, or of a table WITHOUT ROWID, has an index of its own.
        """
        kinds = {name: kind.upper() for name, kind, *_ in columns}
        if len(key) != 1 or kinds[key[0]] != "INTEGER":
            return None
        own = self._ask("select 1 from pragma_index_list(?) where origin = 'pk'")
        return None if own else key[0]

    def _defaults(self, columns: list[tuple[Any, ...]]) -> dict[str, str]:
        found = {}
        for name, _, _, text, _ in columns:
            if text is None or text.upper() == "NULL":
                continue
            try:
                value = translate(text, _DIALECT, {})
            except UntranslatableError as error:
                self._leave_out("default", name, text, str(error))
                continue
            if self._names.get(name.lower()) in self._booleans and value in ("0", "1"):
                value = "true" if value == "1" else "false"
            found[name] = value
        return found

    def _indexes(self) -> list[SourceIndex]:
        found = []
        for name, unique, origin in self._ask(
            'select name, "unique", origin from pragma_index_list(?) order by seq desc'
        ):
            if origin == "pk":
                continue
            parts = self._connection.execute(
                'select name, "desc" from pragma_index_xinfo(?) where key order by seqno', [name]
            ).fetchall()
            ((text,),) = self._connection.execute(
                "select sql from sqlite_master where type = 'index' and name = ?", [name]
            ).fetchall()
            columns = tuple(part for part, _ in parts if part is not None)
            descending = frozenset(part for part, down in parts if down and part is not None)
            try:
                where, expressions = index_parts(text, _DIALECT, self._names, self._booleans)
            except UntranslatableError as error:
                self._leave_out("index", name, text, str(error))
                continue
            whole = len(columns) == len(parts)
            found.append(
                SourceIndex(
                    # A UNIQUE in CREATE TABLE has a made-up name: one is made of its columns.
                    "" if name.startswith("sqlite_autoindex") else name,
                    columns if whole else (),
                    bool(unique),
                    descending if whole else frozenset(),
                    where,
                    () if whole else expressions,
                )
            )
        return found

    def _foreign_keys(self) -> list[SourceForeignKey]:
        groups: dict[int, list[tuple[Any, ...]]] = {}
        for number, *row in self._ask(
            'select id, "table", "from", "to", on_delete, on_update from pragma_foreign_key_list(?)'
            " order by id, seq"
        ):
            groups.setdefault(number, []).append(tuple(row))
        found = []
        for rows in reversed(groups.values()):
            parent, _, _, on_delete, on_update = rows[0]
            theirs = tuple(row[2] for row in rows)
            if None in theirs:  # REFERENCES parent, without columns: its primary key
                theirs = tuple(
                    name
                    for (name,) in self._connection.execute(
                        "select name from pragma_table_info(?) where pk order by pk", [parent]
                    )
                )
            ours = tuple(row[1] for row in rows)
            found.append(SourceForeignKey(ours, parent, theirs, on_delete, on_update))
        return found

    def _checks(self) -> list[SourceCheck]:
        ((text,),) = self._ask("select sql from sqlite_master where type = 'table' and name = ?")
        if "check" not in text.lower():
            return []
        try:
            parsed = sqlglot.parse_one(text, dialect=_DIALECT)
        except SqlglotError:
            self._leave_out("check", self._name, text, "the statement cannot be parsed")
            return []
        if not isinstance(parsed, exp.Create):
            self._leave_out("check", self._name, text, "the statement cannot be parsed")
            return []
        found = []
        for node in parsed.find_all(exp.CheckColumnConstraint, exp.Check):
            holder = node.find_ancestor(exp.Constraint)
            parent = node.parent
            name = None
            if holder is not None:
                name = holder.name
            elif isinstance(parent, exp.ColumnConstraint) and parent.args.get("kind") is node:
                name = parent.name or None
            try:
                condition = translate_node(node.this, self._names, self._booleans)
            except UntranslatableError as error:
                self._leave_out("check", name or "", node.sql(dialect=_DIALECT), str(error))
                continue
            found.append(SourceCheck(condition, name or None))
        return found

    def _leave_out(self, kind: str, name: str, text: str | None, why: str) -> None:
        place = f"{self._name}.{name}" if name and name != self._name else self._name
        self._left_out.append(LeftOut(kind, place, text or "", why))
