"""Record loads that wait for rows of other tables, and whether such a table was loaded since.

The records are in `lakebed.unfinished_load`. They compare loads by id, not by time, so that a load
that commits while this one runs counts as new afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lakebed.resources.postgres import Connection
from lakebed.store.rejects import RejectKind

Seen = Mapping[str, str | None]
"""Tables, each with its last load; None where no load writes it."""

_LAST = """\
(select load_id from lakebed.load l where l.table_name = names.name and rolled_back_at is null
 order by committed_at desc limit 1)"""


@dataclass(frozen=True)
class Unfinished:
    """A table whose load waits."""

    table: str
    seen: Seen
    """The last loads of related tables when the load was last tried."""
    now: Seen
    """The last loads of the same tables now."""

    @property
    def waits_for(self) -> tuple[str, ...]:
        """The tables whose rows may let it finish."""
        return tuple(sorted(self.seen))

    @property
    def ready(self) -> bool:
        """Whether a table that it waits for has been loaded since."""
        return dict(self.seen) != dict(self.now)


def last_loads(connection: Connection, tables: Collection[str]) -> Seen:
    """Return the last load of each table that was not rolled back."""
    rows = connection.execute(
        f"select name, {_LAST} from unnest(%s::text[]) names (name)",  # noqa: S608
        [list(tables)],
    ).fetchall()
    return dict(rows)


def note_unfinished(connection: Connection, table: str, seen: Seen) -> None:
    """Record that the load of a table waits, with the loads of related tables when it began."""
    connection.execute(
        "insert into lakebed.unfinished_load (table_name, seen) values (%s, %s)"
        " on conflict (table_name) do update set seen = excluded.seen",
        [table, json.dumps(dict(seen))],
    )


def forget_unfinished(connection: Connection, table: str) -> None:
    """Record that the load of a table no longer waits."""
    connection.execute("delete from lakebed.unfinished_load where table_name = %s", [table])


def unfinished_loads(connection: Connection) -> list[Unfinished]:
    """Return the tables whose loads wait, by name."""
    rows = connection.execute(
        "select table_name, seen, (select jsonb_object_agg(names.name,"  # noqa: S608
        f" {_LAST}) from jsonb_object_keys(seen) names (name)) from lakebed.unfinished_load"
        " order by 1"
    ).fetchall()
    return [Unfinished(table, seen, now or {}) for table, seen, now in rows]


def is_unfinished(connection: Connection, table: str) -> bool:
    """Whether the load of a table waits for other tables."""
    row = connection.execute(
        "select from lakebed.unfinished_load where table_name = %s", [table]
    ).fetchone()
    return row is not None


def waits_for(connection: Connection, table: str) -> tuple[str, ...]:
    """Return the tables that the load of a table waits for."""
    rows = connection.execute(
        "select jsonb_object_keys(seen) from lakebed.unfinished_load where table_name = %s"
        " order by 1",
        [table],
    ).fetchall()
    return tuple(name for (name,) in rows)


def waits_for_parents(connection: Connection, table: str) -> int:
    """Return how many rows of a table wait in the quarantine for their parents."""
    query = (
        "select count(*) from lakebed.rejected_row"
        " where table_name = %s and resolved_by is null and kind = %s"
    )
    found = connection.execute(query, [table, RejectKind.MISSING_PARENT]).fetchall()
    return int(found[0][0])
