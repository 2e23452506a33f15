"""Restore a backup from before its table was altered: map its columns to the table's columns now.

As in cold files that are older than a column, the column is null in their rows, or its default
where it is NOT NULL. A type may be wider now, never narrower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from lakebed.recovery.backup import BackupError, kinds
from lakebed.resources.postgres import Connection
from lakebed.spec.postgres_types import widening
from lakebed.spec.table import SourceTable


@dataclass(frozen=True)
class Columns:
    """The columns of a table to which a backup is restored, in the order of the table.

    kept: the backup's columns, with their types then. now: the types of all. added: columns that
    are not in the backup, with PostgreSQL's expression of their value, None for null.
    """

    kept: Mapping[str, str]
    now: Mapping[str, str]
    added: Mapping[str, str | None]

    @property
    def widened(self) -> dict[str, str]:
        """The types that columns had which are wider now."""
        return {name: kind for name, kind in self.kept.items() if kind != self.now[name]}

    def values(self) -> dict[str, sql.Composable]:
        """Return each column's value of a row `old` of the backup, whose values are texts."""
        found: dict[str, sql.Composable] = {}
        for name, kind in self.now.items():
            if name in self.kept:
                value: sql.Composable = sql.SQL("old.{}::{}").format(
                    sql.Identifier(name), sql.SQL(self.kept[name])
                )
                is_wider = self.kept[name] != kind
            else:
                value = sql.SQL("({})").format(sql.SQL(self.added[name] or "null"))
                is_wider = True
            found[name] = sql.SQL("{}::{}").format(value, sql.SQL(kind)) if is_wider else value
        return found


def columns_for(connection: Connection, table: SourceTable, then: Mapping[str, str]) -> Columns:
    """Map a backup's columns to those that a table has now.

    then: the backup's, with their types. Raises BackupError if some have no place.
    """
    now = kinds(connection, table)
    defaults = {
        name: (default, not_null)
        for name, default, not_null in connection.execute(
            "select attname::text, pg_get_expr(adbin, adrelid), attnotnull from pg_attribute"
            " left join pg_attrdef on adrelid = attrelid and adnum = attnum"
            " where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped",
            [table.relation.as_string()],
        ).fetchall()
    }
    added = {name: _stands_in(*defaults[name]) for name in now if name not in then}
    wrong = [
        f"{name} was {then[name]} and is {kind}: {_alter(table, 'alter column', name)} TYPE "
        f"{then[name]}"
        for name, kind in now.items()
        if name in then and then[name] != kind and widening(then[name], kind) is None
    ]
    wrong += [
        f"{name} {now[name]} is new, NOT NULL and without a default: "
        f"{_alter(table, 'alter column', name)} SET DEFAULT ..., or DROP NOT NULL"
        for name in added
        if defaults[name] == (None, True)
    ]
    wrong += [
        f"{name} {kind} is gone: {_alter(table, 'add column', name)} {kind}"
        for name, kind in sorted(then.items())
        if name not in now
    ]
    if wrong:
        raise BackupError(
            f"{table.name}: the table has other columns than when the backup was taken; nothing "
            f"was changed. {'; '.join(wrong)}. Then put the backup back"
        )
    return Columns({name: then[name] for name in now if name in then}, now, added)


def _stands_in(default: str | None, not_null: bool) -> str | None:
    return default if not_null else None


def _alter(table: SourceTable, how: str, name: str) -> str:
    return (
        sql.SQL("ALTER TABLE {} {} {}")
        .format(table.relation, sql.SQL(how.upper()), sql.Identifier(name))
        .as_string()
    )
