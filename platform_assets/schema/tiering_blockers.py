"""Find what prevents an adopted table's rows from being moved, with the fix for each.

A table that Lakebed created has no such blocker. An adopted one may have one, or get one later: the
check runs when it is adopted, in a plan, and in the transaction of each move.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lakebed.resources.postgres import Connection
from lakebed.schema.registry import key_blocker_query
from lakebed.spec.table import SourceTable

TIERING_BLOCKERS_QUERY = """\
with t as (
  select c.*, n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.oid = to_regclass({})
),
parts as (
  select c.oid, c.relkind, c.relpersistence, c.oid::regclass::text as name
  from t, lateral (select t.oid union select relid from pg_partition_tree(t.oid)) p (oid)
  join pg_class c on c.oid = p.oid
)
select 'kind' as what, relkind::text as which from t where relkind not in ('r', 'p')
union all
select 'partition', i.inhparent::regclass::text
from t join pg_inherits i on i.inhrelid = t.oid where t.relispartition
union all
select 'inherits', i.inhparent::regclass::text
from t join pg_inherits i on i.inhrelid = t.oid where not t.relispartition
union all
(select 'inherited', i.inhrelid::regclass::text
from t join pg_inherits i on i.inhparent = t.oid where t.relkind = 'r' limit 1)
union all
(select 'foreign', name from parts, t where parts.relkind = 'f' and t.relkind = 'p' limit 1)
union all
(select case relpersistence when 't' then 'temporary' else 'unlogged' end, name
from parts where relpersistence <> 'p' and relkind = 'r' limit 1)
union all
select 'referenced', f.conname || ' of ' || f.conrelid::regclass
from pg_constraint f
where f.contype = 'f' and f.confrelid in (select oid from parts)
  and f.conparentid = 0
  and coalesce((to_jsonb(f) ->> 'conenforced')::boolean, true)
union all
select 'rule', r.rulename
from t join pg_rewrite r on r.ev_class = t.oid where r.ev_type in ('2', '3', '4')
  and r.rulename <> '_RETURN'
union all
select 'secured', current_user::text from t where row_security_active(t.oid)
union all
select 'privilege', p || ' on ' || t.oid::regclass || ' to ' || quote_ident(current_user)
from t, unnest(array['select', 'delete']) p where not has_table_privilege(t.oid, p)
union all
select 'privilege', 'usage on schema ' || quote_ident(t.nspname) || ' to '
  || quote_ident(current_user)
from t where not has_schema_privilege(t.relnamespace, 'usage')"""
"""The kind of each blocker, and its object; `SourceTable.oid` goes into the braces."""

_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence"}

_WORDS = {
    "partition": "it is a partition of {0}; adopt {0}",
    "inherits": "it inherits from {0} (old style), whose readers see its rows; ALTER TABLE ... NO "
    "INHERIT first",
    "inherited": "it has inheritance children (old style), such as {0}; make it a natively "
    "partitioned table, or adopt each child after ALTER TABLE ... NO INHERIT",
    "foreign": "its partition {0} is a foreign table, whose rows no transaction of this server "
    "deletes; DETACH it",
    "temporary": "{0} is temporary: it is dropped when its session ends",
    "unlogged": "{0} is unlogged, and PostgreSQL empties it after a crash; ALTER TABLE ... SET "
    "LOGGED",
    "referenced": "the foreign key {0} refers to it: PostgreSQL would refuse to delete a moved "
    "row, or delete rows of the other table too; drop the constraint, or keep the table hot",
    "rule": "the rule {0} rewrites what is written to it; make it a trigger",
    "secured": "row level security applies to the role {0}, which would move only the rows that it "
    "sees; ALTER ROLE ... BYPASSRLS, or let the table's owner run Lakebed. The lake has "
    "no row level security",
    "privilege": "GRANT {0}",
}


def tiering_blockers(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Say the rows of HINDRANCES_QUERY in words, each with what to do."""
    found = []
    for what, which in rows:
        if what == "kind":
            kind = _KINDS.get(which, "no table")
            found.append(f"it is {kind}, which holds no rows of its own here; adopt a table")
        else:
            found.append(_WORDS[what].format(which))
    return found


def read_tiering_blockers(connection: Connection, table: SourceTable) -> list[str]:
    """Return what prevents the rows of a tiered table from being moved."""
    if table.tiering is None and not table.adopted:
        return []
    query = TIERING_BLOCKERS_QUERY.replace("{}", "%s")
    place = [table.relation.as_string()]
    found = tiering_blockers(connection.execute(query.encode(), place)) if table.adopted else []
    ((why,),) = connection.execute(key_blocker_query(table)).fetchall()
    return found if why is None else [*found, why]
