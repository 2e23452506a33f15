-- Tables that others made, in whatever schema, cut into whatever leaves or not at all.

alter table lakebed.tiered_table add column schema_name text not null default 'public';
alter table lakebed.tier_policy add column schema_name text not null default 'public';
comment on column lakebed.tiered_table.schema_name is 'Where the table is; its name is unique among the table files whatever its schema.';

-- The tombstone is entered before the hot row is deleted: a restore that brings the row back to hot
-- lets no tombstone in while it ends, and what it brought is seen by the statement that comes then.
create or replace function lakebed.delete_row(table_name text, key jsonb)
returns boolean language plpgsql as $$
declare
    known   lakebed.tiered_table;
    missing text;
    other   text;
    columns text;
    same    text;
    typed   jsonb;
    moment  timestamptz;
    hot     bigint;
begin
    select * into known from lakebed.tiered_table t where t.table_name = delete_row.table_name;
    if not found then
        raise exception 'lakebed.delete_row: no table % that settles and has a key is known',
            coalesce(quote_ident(delete_row.table_name), 'null')
            using errcode = 'undefined_table',
            hint = 'select table_name from lakebed.tiered_table; a table is known from its first load or move on.';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'lakebed.delete_row: the transaction is %, and could miss a row that comes back to hot',
            current_setting('transaction_isolation')
            using errcode = 'active_sql_transaction', hint = 'Call it in READ COMMITTED.';
    end if;
    if jsonb_typeof(key) is distinct from 'object' then
        raise exception 'lakebed.delete_row: the key of % is no JSON object', known.table_name
            using errcode = 'invalid_parameter_value',
            hint = format('Name its columns: %s.', array_to_string(known.key_columns, ', '));
    end if;
    select c into missing from unnest(known.key_columns) c where key ->> c is null limit 1;
    if found then
        raise exception 'lakebed.delete_row: the key of % lacks %, or it is null', known.table_name, missing
            using errcode = 'invalid_parameter_value',
            hint = format('The key is %s.', array_to_string(known.key_columns, ', '));
    end if;
    select k into other from jsonb_object_keys(key) k where k <> all (known.key_columns) limit 1;
    if found then
        raise exception 'lakebed.delete_row: % is not in the key of %', other, known.table_name
            using errcode = 'invalid_parameter_value',
            hint = format('The key is %s.', array_to_string(known.key_columns, ', '));
    end if;
    select string_agg(format('k.%I', c), ', '), string_agg(format('hot.%1$I = k.%1$I', c), ' and ')
        into columns, same from unnest(known.key_columns) c;
    execute format(
        'select (select to_jsonb(typed) from (select %s) typed), k.%I'
        ' from jsonb_populate_record(null::%I.%I, $1) k',
        columns, known.time_column, known.schema_name, known.table_name) into typed, moment using key;
    insert into lakebed.cold_delete (table_name, key, moment) values (known.table_name, typed, moment);
    execute format(
        'delete from %1$I.%2$I hot using jsonb_populate_record(null::%1$I.%2$I, $1) k where %3$s',
        known.schema_name, known.table_name, same) using typed;
    get diagnostics hot = row_count;
    return hot > 0;
end
$$;

-- Rows are looked for in the table: who may read it need not be let into each leaf, and a cold
-- partition is not always one leaf.
create or replace view lakebed.tier_status as
with settling as (
    select p.*, to_regclass(format('%I.%I', p.schema_name, p.table_name)) as relation
    from lakebed.tier_policy p
),
leaf as (
    select
        s.table_name,
        c.oid::regclass as leaf,
        bounds[1]::timestamptz as lower_bound,
        bounds[2]::timestamptz as upper_bound,
        pg_stat_get_live_tuples(c.oid) as hot_rows,
        pg_total_relation_size(c.oid) as hot_bytes
    from settling s
    join pg_inherits i on i.inhparent = s.relation
    join pg_class c on c.oid = i.inhrelid
    cross join regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
),
cold as (
    select * from lakebed.cold_file where superseded_at is null
),
part as (
    select
        coalesce(l.table_name, c.table_name) as table_name,
        coalesce(l.lower_bound, c.lower_bound) as lower_bound,
        coalesce(l.upper_bound, c.upper_bound) as upper_bound,
        l.leaf, l.hot_rows, l.hot_bytes,
        c.rows as cold_rows, c.bytes as cold_bytes, c.generation, c.moved_at, c.path
    from leaf l
    full join cold c
        on c.table_name = l.table_name and c.lower_bound = l.lower_bound and c.upper_bound = l.upper_bound
),
known as (
    select
        p.*, s.grain, s.hot_for,
        (select count(*) from lakebed.cold_delete d where d.table_name = p.table_name
            and d.moment >= p.lower_bound and d.moment < p.upper_bound) as deletes,
        case
            when s.relation is not null then lakebed.holds_rows(s.relation, s.time_column, p.lower_bound, p.upper_bound)
            else false
        end as is_hot
    from part p
    left join settling s on s.table_name = p.table_name
)
select
    table_name,
    to_char(lower_bound at time zone 'UTC', case grain
        when 'hour' then 'YYYY-MM-DD-HH24' when 'month' then 'YYYY-MM' when 'year' then 'YYYY'
        else 'YYYY-MM-DD' end) as partition_key,
    case
        when cold_rows is not null and (is_hot or deletes > 0) then 'late'
        when cold_rows is not null then 'cold'
        when is_hot and upper_bound <= clock_timestamp() - hot_for then 'due'
        when is_hot then 'hot'
        else 'empty'
    end as state,
    case when is_hot then greatest(hot_rows, 1) else 0 end as hot_rows,
    hot_bytes, cold_rows, cold_bytes, deletes, generation, moved_at, lower_bound, upper_bound,
    leaf::text as leaf, path
from known;
