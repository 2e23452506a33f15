"""Order tables that refer to each other, and find the rows that a delete must spare.

References are PostgreSQL's foreign keys and the lookups of the table files.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from psycopg import sql

from lakebed.resources.postgres import Connection
from lakebed.spec.table import SourceTable

_REFERENCES = """\
select cn.nspname::text, c.relname::text, pn.nspname::text, p.relname::text
from pg_constraint f
join pg_class c on c.oid = f.conrelid join pg_namespace cn on cn.oid = c.relnamespace
join pg_class p on p.oid = f.confrelid join pg_namespace pn on pn.oid = p.relnamespace
where f.contype = 'f' and f.conparentid = 0 and f.conrelid <> f.confrelid"""

_REFERRING = """\
select n.nspname::text, c.relname::text,
       array(select a.attname::text from unnest(f.conkey) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = f.conrelid and a.attnum = k.number order by place),
       array(select a.attname::text from unnest(f.confkey) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = f.confrelid and a.attnum = k.number order by place)
from pg_constraint f
join pg_class c on c.oid = f.conrelid join pg_namespace n on n.oid = c.relnamespace
where f.contype = 'f' and f.conparentid = 0 and f.confrelid = to_regclass({})
  and f.conrelid <> f.confrelid and f.confdeltype in ('a', 'r')
order by 1, 2, f.conname"""


def load_order(connection: Connection, tables: Sequence[SourceTable]) -> list[SourceTable]:
    """Return tables in the order in which they are loaded: parents before children.

    Where tables refer to each other in a cycle, one reference of the cycle is ignored.
    """
    by_name = {table.name: table for table in tables}
    by_place = {(table.schema, table.name): table.name for table in tables}
    pairs = lookup_references(tables)
    for child_schema, child, parent_schema, parent in connection.execute(_REFERENCES).fetchall():
        found = by_place.get((child_schema, child)), by_place.get((parent_schema, parent))
        if None not in found:
            pairs.add((child, parent))
    return [by_name[name] for name in sort_parents_first(list(by_name), pairs)]


def lookup_references(tables: Sequence[SourceTable]) -> set[tuple[str, str]]:
    """Return the references between the tables by lookups, as pairs (child, parent)."""
    known = {table.name for table in tables}
    return {
        (table.name, lookup.table)
        for table in tables
        for lookup in table.lookups
        if lookup.table in known and lookup.table != table.name
    }


def lookup_parents(tables: Sequence[SourceTable], table: SourceTable) -> list[str]:
    """Return the tables that a table looks up and that are loaded before it, by name.

    A table that is in a cycle with it and loads later is not included.
    """
    pairs = lookup_references(tables)
    order = sort_parents_first([each.name for each in tables], pairs)
    before = order[: order.index(table.name)]
    return [name for name in before if (table.name, name) in pairs]


def sort_parents_first(names: Sequence[str], pairs: set[tuple[str, str]]) -> list[str]:
    """Sort names with parents before children, otherwise in the given order.

    Args:
        names: The names.
        pairs: The references, as (child, parent). In a cycle the closing reference is ignored.
    """
    place = {name: number for number, name in enumerate(names)}
    left = set(pairs)
    while True:
        parents: dict[str, set[str]] = {name: set() for name in names}
        for child, parent in left:
            parents[child].add(parent)
        sorter = TopologicalSorter(parents)
        try:
            sorter.prepare()
        except CycleError as error:
            cycle = error.args[1]  # each name precedes a name that depends on it
            closing = {(after, before) for before, after in pairwise(cycle)}
            left.discard(max(closing & left, key=lambda pair: (place[pair[1]], place[pair[0]])))
            continue
        found: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=place.__getitem__)
            found += ready
            sorter.done(*ready)
        return found


def relatives(connection: Connection, table: SourceTable) -> list[str]:
    """Return the names of the tables that a table refers to, and of those that refer to it."""
    oid = table.relation.as_string()
    rows = connection.execute(
        "select p.relname::text from pg_constraint f join pg_class p on p.oid = case"
        " when f.conrelid = to_regclass(%(oid)s) then f.confrelid else f.conrelid end"
        " where f.contype = 'f' and f.conparentid = 0 and f.conrelid <> f.confrelid"
        " and to_regclass(%(oid)s) in (f.conrelid, f.confrelid)",
        {"oid": oid},
    ).fetchall()
    return sorted({name for (name,) in rows} | {lookup.table for lookup in table.lookups})


def still_referenced(
    connection: Connection, table: SourceTable, relation: str
) -> sql.Composable | None:
    """Return the condition that a child refers to a row of the table, named relation in SQL.

    Return None where no foreign key to the table forbids deletes.
    """
    query = sql.SQL(_REFERRING).format(table.oid)
    conditions = [
        sql.SQL("exists (select from {} as child where {})").format(
            sql.Identifier(schema, child),
            sql.SQL(" and ").join(
                sql.SQL("{} = {}").format(
                    sql.Identifier("child", own), sql.Identifier(relation, other)
                )
                for own, other in zip(ours, theirs, strict=True)
            ),
        )
        for schema, child, ours, theirs in connection.execute(query).fetchall()
    ]
    return sql.SQL("({})").format(sql.SQL(" or ").join(conditions)) if conditions else None


def child_of_constraint(
    connection: Connection, table: SourceTable, constraint: str | None
) -> str | None:
    """Return the table that refers to this one by a constraint, or None."""
    rows = connection.execute(
        "select c.relname::text from pg_constraint f join pg_class c on c.oid = f.conrelid"
        " where f.contype = 'f' and f.conname = %s and f.conrelid <> f.confrelid"
        " and f.confrelid = to_regclass(%s) order by f.conparentid, 1",
        [constraint, table.relation.as_string()],
    ).fetchall()
    return rows[0][0] if rows else None
