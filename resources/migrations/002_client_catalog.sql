-- What DuckLake clients see of the tables. The views of the schema lakebed_ducklake read it, so a
-- client's snapshot shows one whole catalog, and writing it anew waits for no reader.

create table lakebed.client_catalog (
    only_row       boolean primary key default true check (only_row),
    schema_version bigint not null,
    digest         text not null,
    document       jsonb not null,
    written_at     timestamptz not null default clock_timestamp()
);
comment on table lakebed.client_catalog is 'The tables that DuckLake clients see: one row, once `lakebed attach` was run.';
comment on column lakebed.client_catalog.schema_version is 'Grows with each change. Clients keep a schema by this number, so none is ever used twice.';
comment on column lakebed.client_catalog.digest is 'Of what is exposed; empty where the views of a table were withdrawn.';
comment on column lakebed.client_catalog.document is 'Tables, columns, views and files by name, each with the table that it belongs to as "of".';

create table lakebed.client_view (
    view_name  text primary key,
    table_name text not null,
    retired_at timestamptz
);
comment on table lakebed.client_view is 'The views of hot rows in the schema lakebed_ducklake.';
comment on column lakebed.client_view.retired_at is 'When the catalog stopped naming the view; clients with an older snapshot may still read it.';

-- A view keeps its table from being altered. The change takes the views away in its transaction, and
-- whoever made it writes the catalog anew.
create function lakebed.withdraw_client_views(withdrawn text) returns bigint
language plpgsql as $$
declare
    client_view text;
    dropped bigint := 0;
begin
    for client_view in
        select view_name from lakebed.client_view where table_name = withdrawn
    loop
        execute format('drop view if exists lakebed_ducklake.%I', client_view);
        dropped := dropped + 1;
    end loop;
    if dropped = 0 then
        return 0;
    end if;
    delete from lakebed.client_view where table_name = withdrawn;
    update lakebed.client_catalog set
        schema_version = schema_version + 1,
        digest = '',
        written_at = clock_timestamp(),
        document = (
            select jsonb_object_agg(kind, case when jsonb_typeof(entries) <> 'array' then entries else (
                select coalesce(jsonb_agg(entry), '[]') from jsonb_array_elements(entries) as e (entry)
                where entry ->> 'of' is distinct from withdrawn
            ) end)
            from jsonb_each(document) as d (kind, entries)
        );
    return dropped;
end
$$;
comment on function lakebed.withdraw_client_views is 'Hides a table from DuckLake clients until the catalog is written again; returns how many views were dropped.';
