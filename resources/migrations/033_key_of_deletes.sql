-- A tombstone names the columns of the key that the table had. By another key it hides nothing, and
-- its row would be seen again: so no key changes while tombstones of the old one are open, and none
-- comes back, with a rollback or a backup, to a table that has another key.

create function lakebed.names_key(key jsonb, key_columns text[]) returns boolean
language sql immutable as $$
    select key ?& key_columns and (select count(*) from jsonb_object_keys(key)) = cardinality(key_columns)
$$;
comment on function lakebed.names_key is 'Whether a tombstone names these columns and no others.';

-- Tombstones are of the key that is known: where that does not change, none is looked at.
create function lakebed.key_hindrance(of_table text, new_key text[]) returns text
language sql stable as $$
    select format(
        '%s deletes of settled rows are open by the key (%s), and by (%s) the rows would be seen'
        ' again; put the old key back into the table file, fold with `lakebed move %s`, then change it',
        count(*), array_to_string(max(t.key_columns), ', '), array_to_string(new_key, ', '), of_table)
    from lakebed.tiered_table t
    join lakebed.cold_delete d on d.table_name = t.table_name
    where t.table_name = of_table
      and not (t.key_columns <@ new_key and new_key <@ t.key_columns)
      and not lakebed.names_key(d.key, new_key)
    having count(*) > 0
$$;
comment on function lakebed.key_hindrance is 'Why a table cannot get a key yet; null where it can.';

create function lakebed.refuse_key() returns trigger language plpgsql as $$
declare
    hindrance text;
begin
    perform pg_advisory_xact_lock(hashtextextended('lakebed key ' || new.table_name, 0));
    hindrance := lakebed.key_hindrance(new.table_name, new.key_columns);
    if hindrance is not null then
        raise exception 'table %: %', new.table_name, hindrance
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end
$$;
create trigger refuse_key before update of key_columns on lakebed.tiered_table
    for each row when (old.key_columns is distinct from new.key_columns)
    execute function lakebed.refuse_key();

create function lakebed.refuse_other_keys() returns trigger language plpgsql as $$
declare
    known lakebed.tiered_table;
begin
    select t.* into known from added a join lakebed.tiered_table t on t.table_name = a.table_name
        where not lakebed.names_key(a.key, t.key_columns) limit 1;
    if found then
        raise exception 'deletes of settled rows of % are by another key than (%), which it has now',
            known.table_name, array_to_string(known.key_columns, ', ')
            using errcode = 'object_not_in_prerequisite_state',
            hint = 'Put the key that they are by back into the table file and run `lakebed plan`.';
    end if;
    return null;
end
$$;
create trigger refuse_other_keys after insert on lakebed.cold_delete
    referencing new table as added for each statement execute function lakebed.refuse_other_keys();

-- No key changes while the lock is held, so that the tombstone is of the key that is known. It is
-- the table's where PostgreSQL vouches for it.
--
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
    perform pg_advisory_xact_lock_shared(hashtextextended('lakebed key ' || delete_row.table_name, 0));
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
    if not exists (
        select from pg_index i
        where i.indrelid = format('%I.%I', known.schema_name, known.table_name)::regclass
          and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
          and (select array_agg(a.attname::text) from pg_attribute a where a.attrelid = i.indrelid
               and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])) <@ known.key_columns
    ) then
        raise exception 'lakebed.delete_row: the known key of %, (%), is its key no more',
            known.table_name, array_to_string(known.key_columns, ', ')
            using errcode = 'object_not_in_prerequisite_state',
            hint = format('No unique index of the table is on these columns. Run "lakebed plan %s"; '
                'its key is known anew from the next load or move on.', known.table_name);
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
