"""Read the structure of PostgreSQL, MySQL and MariaDB databases by SQLAlchemy's reflection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lakebed.importing.expressions import UntranslatableError, translate
from lakebed.importing.structure import (
    DatabaseStructure,
    LeftOut,
    SourceCheck,
    SourceForeignKey,
    SourceIndex,
    TableStructure,
)

_DIALECTS = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}
_AGAIN = "write it again in SQL of PostgreSQL, or as a model"


def read_server(
    inspector: Any,
    schema: str | None,
    columns: Mapping[str, Mapping[str, str]],
    booleans: Mapping[str, frozenset[str]],
) -> DatabaseStructure:
    """Read the structure of tables of a database server.

    Args:
        inspector: SQLAlchemy's inspector.
        schema: The schema of the tables; None for the database's own.
        columns: The tables to read, by name, with the names here of their columns.
        booleans: The boolean columns of each table, by their names here.
    """
    tables = tuple(
        _Table(inspector, schema, name, names, booleans.get(name, frozenset())).read()
        for name, names in columns.items()
    )
    views = tuple(
        LeftOut("view", name, str(inspector.get_view_definition(name, schema)), _AGAIN)
        for name in sorted(inspector.get_view_names(schema))
    )
    return DatabaseStructure(tables, views)


class _Table:
    """One table, and what was found of it."""

    def __init__(
        self,
        inspector: Any,
        schema: str | None,
        name: str,
        names: Mapping[str, str],
        booleans: frozenset[str],
    ) -> None:
        self._inspector = inspector
        self._place = (name, schema)
        self._dialect = _DIALECTS.get(inspector.dialect.name, inspector.dialect.name)
        self._names = {source.lower(): ours for source, ours in names.items()}
        self._booleans = booleans
        self._left_out: list[LeftOut] = []

    def read(self) -> TableStructure:
        inspector, place = self._inspector, self._place
        key = tuple(inspector.get_pk_constraint(*place)["constrained_columns"])
        identity, defaults = self._made(inspector.get_columns(*place))
        unique = [
            SourceIndex(one["name"] or "", tuple(one["column_names"]), unique=True)
            for one in inspector.get_unique_constraints(*place)
        ]
        return TableStructure(
            name=place[0],
            primary_key=key,
            identity=identity,
            defaults=defaults,
            indexes=(*unique, *self._indexes(inspector.get_indexes(*place), unique)),
            foreign_keys=tuple(
                self._foreign_key(one) for one in inspector.get_foreign_keys(*place)
            ),
            checks=tuple(self._checks(inspector.get_check_constraints(*place))),
            left_out=tuple(self._left_out),
        )

    def _made(self, columns: list[Any]) -> tuple[str | None, dict[str, str]]:
        """Return the column whose numbers the server hands out, and the defaults."""
        identity, defaults = None, {}
        for column in columns:
            name, text = column["name"], column.get("default")
            if column.get("computed"):
                text = column["computed"]["sqltext"]
                self._leave_out("generated column", name, text, "a load brings its values")
            elif column.get("identity") or column.get("autoincrement") is True:
                identity = name
            elif text is None or text.upper() == "NULL":
                continue
            elif re.match(r"nextval\(", text):
                identity = name
            elif (value := self._translated("default", name, text)) is not None:
                ours = self._names.get(name.lower())
                if ours in self._booleans and value.strip("'") in ("0", "1"):
                    value = "true" if value.strip("'") == "1" else "false"
                defaults[name] = value
        return identity, defaults

    def _indexes(self, found: list[Any], unique: list[SourceIndex]) -> list[SourceIndex]:
        """Return the indexes; MySQL lists its unique keys among them again."""
        indexes = []
        known = {one.name for one in unique}
        for one in found:
            if one.get("duplicates_constraint") or one["name"] in known:
                continue
            where, texts = one.get("dialect_options", {}).get("postgresql_where"), []
            if None in one["column_names"]:
                texts = [
                    self._translated("index", one["name"], text, self._names)
                    for text in one.get("expressions", [])
                ]
            condition = None
            if where is not None:
                condition = self._translated("index", one["name"], where, self._names)
            expressions = tuple(f"({text})" for text in texts if text is not None)
            if (where is not None and condition is None) or len(expressions) != len(texts):
                continue
            columns = () if texts else tuple(one["column_names"])
            indexes.append(
                SourceIndex(
                    one["name"],
                    columns,
                    bool(one["unique"]),
                    where=condition,
                    expressions=expressions,
                )
            )
        return indexes

    def _foreign_key(self, one: Any) -> SourceForeignKey:
        options = one.get("options", {})
        return SourceForeignKey(
            tuple(one["constrained_columns"]),
            one["referred_table"],
            tuple(one["referred_columns"]),
            options.get("ondelete", "NO ACTION"),
            options.get("onupdate", "NO ACTION"),
        )

    def _checks(self, found: list[Any]) -> list[SourceCheck]:
        texts = [
            (one, self._translated("check", one["name"], one["sqltext"], self._names))
            for one in found
        ]
        return [SourceCheck(text, one["name"]) for one, text in texts if text is not None]

    def _translated(
        self, kind: str, name: str, text: str, names: Mapping[str, str] | None = None
    ) -> str | None:
        try:
            return translate(text, self._dialect, names or {}, self._booleans)
        except UntranslatableError as error:
            self._leave_out(kind, name, text, str(error))
            return None

    def _leave_out(self, kind: str, name: str, text: str, why: str) -> None:
        self._left_out.append(LeftOut(kind, f"{self._place[0]}.{name}", text, why))
