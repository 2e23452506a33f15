"""What a database holds in Lakebed's schemas, as lines that can be compared."""

from __future__ import annotations

from typing import Any

import psycopg

_LINES = """
with ours as (select oid, nspname from pg_namespace where nspname in ('lakebed', 'lakebed_undo')),
relations as (
    select c.oid, c.relkind, format('%I.%I', nspname, relname) as name
    from pg_class c join ours on ours.oid = relnamespace where relkind in ('r', 'v', 'S')
)
select 'schema ' || nspname || coalesce(': ' || obj_description(oid, 'pg_namespace'), '') from ours
union all
select case relkind when 'r' then 'table ' when 'v' then 'view ' else 'sequence ' end || name
    || coalesce(': ' || obj_description(oid, 'pg_class'), '')
    || case when relkind = 'v' then ' ' || pg_get_viewdef(oid) else '' end
from relations
union all
select format('column %s.%I %s%s %s%s %s: %s', name, attname, format_type(atttypid, atttypmod),
    case when attnotnull then ' not null' else '' end, attidentity, attgenerated,
    pg_get_expr(adbin, adrelid), col_description(r.oid, attnum))
from relations r join pg_attribute a on attrelid = r.oid
left join pg_attrdef d on adrelid = r.oid and adnum = attnum
where relkind in ('r', 'v') and attnum > 0 and not attisdropped
union all
select format('constraint on %s %s', name, pg_get_constraintdef(c.oid))
from relations r join pg_constraint c on conrelid = r.oid
union all
select pg_get_indexdef(indexrelid) from relations r join pg_index on indrelid = r.oid
union all
select pg_get_functiondef(p.oid) || coalesce(': ' || obj_description(p.oid, 'pg_proc'), '')
from pg_proc p join ours on ours.oid = pronamespace
union all
select pg_get_triggerdef(t.oid) from relations r join pg_trigger t on tgrelid = r.oid
where not tgisinternal
"""


def catalog_of(connection: psycopg.Connection[Any]) -> list[str]:
    """Return the schemas' relations, columns, constraints, indexes, functions, triggers, comments.

    The order of the columns of a table does not count.
    """
    return sorted(line for (line,) in connection.execute(_LINES))
