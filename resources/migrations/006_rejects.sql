-- Rejected rows can be loaded again: what their values were, and which load took them in the end.
alter table lakebed.rejected_row
    add column source_types jsonb,
    add column resolved_by text references lakebed.load,
    add column resolved_at timestamptz,
    add check ((resolved_by is null) = (resolved_at is null));
create index rejected_row_open on lakebed.rejected_row (table_name, rejected_row_id)
    where resolved_by is null;
comment on column lakebed.rejected_row.source_row is 'The row as it was read; bytes that are no text as {"$base64": ...}, what has no text as {"$arrow": ...}. It may be mended here before a retry.';
comment on column lakebed.rejected_row.source_types is 'The types of its columns in the source, but for those of text: name -> [polars type, arguments ...].';
comment on column lakebed.rejected_row.resolved_by is 'The retry that loaded the row; null while it waits.';
