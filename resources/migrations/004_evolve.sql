-- Columns that a source brought and a model does not have (new_columns="evolve"). Written in the
-- transaction that adds the column. Readers of the lake learn of them here, in their snapshot.
create table lakebed.evolved_column (
    table_name    text not null,
    column_name   text not null,
    postgres_type text not null,
    duckdb_type   text not null,
    source        text not null,
    added_at      timestamptz not null,
    widened_at    timestamptz,
    position      bigint generated always as identity,
    primary key (table_name, column_name)
);
comment on table lakebed.evolved_column is 'Columns that a source brought and a model does not have.';
comment on column lakebed.evolved_column.postgres_type is 'as format_type() spells it';
comment on column lakebed.evolved_column.source is 'the file that had the column first';
