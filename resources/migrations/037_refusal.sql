-- What the last attempt to load a table could not load: items, or the load as a whole. The ledger has
-- only what was committed; without this, what was refused is known to whoever saw the command end.
create table lakebed.refusal (
    refusal_id    bigint generated always as identity primary key,
    table_name    text not null,
    partition_key text not null default '',
    item          text,
    problem       text not null,
    refused_at    timestamptz not null default clock_timestamp()
);
create index refusal_by_table on lakebed.refusal (table_name, partition_key);
comment on table lakebed.refusal is 'Items of a source that the last load of a table refused; the next load of it replaces them.';
comment on column lakebed.refusal.partition_key is 'Of a load by window: the window; empty for a load by cursor.';
comment on column lakebed.refusal.item is 'The path of the item; null where the load failed as a whole.';
