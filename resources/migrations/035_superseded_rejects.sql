-- Rejects whose row was read again: they wait no more, and a retry would load an old text of it.
alter table lakebed.rejected_row
    add column superseded boolean not null default false,
    add check (resolved_by is not null or not superseded);
create index rejected_row_superseded on lakebed.rejected_row (table_name, rejected_row_id)
    where superseded;
comment on column lakebed.rejected_row.resolved_by is 'The load that resolved the row: the retry that loaded it, one that read it again (superseded), or its own when that was rolled back; null while it waits.';
comment on column lakebed.rejected_row.superseded is 'Whether a later load read again what the row was read from: it was rejected anew by that load, or is no more.';
