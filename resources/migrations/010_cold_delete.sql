-- Deletes of settled rows: tombstones, which hide a cold row until a fold takes it out of its file.

create table lakebed.tiered_table (
    table_name  text primary key,
    key_columns text[] not null,
    time_column text not null,
    noted_at    timestamptz not null default clock_timestamp()
);
comment on table lakebed.tiered_table is 'What the table files say of the tables that settle and have a key: noted when a table is made, loaded or moved.';

create table lakebed.cold_delete (
    cold_delete_id bigint generated always as identity primary key,
    table_name     text not null,
    key            jsonb not null,
    moment         timestamptz not null,
    load_id        text references lakebed.load,
    deleted_by     text not null default session_user,
    deleted_at     timestamptz not null default clock_timestamp()
);
create index cold_delete_by_moment on lakebed.cold_delete (table_name, moment);
create index cold_delete_by_load on lakebed.cold_delete (load_id) where load_id is not null;
comment on table lakebed.cold_delete is 'Tombstones: keys of settled rows that are deleted. A fold takes the rows out of the file and the tombstones out of here.';
comment on column lakebed.cold_delete.key is 'The columns of the row''s key, as jsonb_populate_record reads them.';
comment on column lakebed.cold_delete.moment is 'The row''s time, which tells its partition.';
comment on column lakebed.cold_delete.load_id is 'The load that deleted the row; null where a person did.';

alter table lakebed.load add column cold_deletes bigint not null default 0;
comment on column lakebed.load.cold_deletes is 'Tombstones that the load entered.';

-- Tombstones that are set aside with the cold generation that they are for.
create table lakebed.load_cold_delete (
    replaced_by text not null references lakebed.load,
    like lakebed.cold_delete
);
create index load_cold_delete_by_load on lakebed.load_cold_delete (replaced_by);
comment on table lakebed.load_cold_delete is 'The tombstones of partitions that a load by window replaced.';

create table lakebed.backup_cold_delete (
    backup_id text not null references lakebed.backup on delete cascade,
    like lakebed.cold_delete
);
create index backup_cold_delete_by_backup on lakebed.backup_cold_delete (backup_id);
comment on table lakebed.backup_cold_delete is 'The tombstones that there were when a backup was taken.';

-- The tombstone is entered before the hot row is deleted: a restore that brings the row back to hot
-- lets no tombstone in while it ends, and what it brought is seen by the statement that comes then.
create function lakebed.delete_row(table_name text, key jsonb)
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
        ' from jsonb_populate_record(null::public.%I, $1) k',
        columns, known.time_column, known.table_name) into typed, moment using key;
    insert into lakebed.cold_delete (table_name, key, moment) values (known.table_name, typed, moment);
    execute format(
        'delete from public.%1$I hot using jsonb_populate_record(null::public.%1$I, $1) k where %2$s',
        known.table_name, same) using typed;
    get diagnostics hot = row_count;
    return hot > 0;
end
$$;
comment on function lakebed.delete_row is 'Delete the row of a key, hot or settled. Returns whether it was hot; a settled one is hidden at once and leaves its file with the next move of its partition.';
