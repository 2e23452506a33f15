-- Loads that left something out because of rows of other tables: rows whose parent is not there,
-- deletes of rows that others still refer to, files that were refused for either. They are tried
-- again when one of those tables has been loaded.
create table lakebed.unfinished_load (
    table_name text primary key,
    seen       jsonb not null check (jsonb_typeof(seen) = 'object'),
    since      timestamptz not null default clock_timestamp()
);
comment on table lakebed.unfinished_load is 'Tables whose last load waits for rows of other tables; it is tried again when one of them has been loaded.';
comment on column lakebed.unfinished_load.seen is 'The tables that it may wait for, each with its last load when this table was last tried; null for a table that no load writes.';
