-- An incremental model is a list of files: a run adds one, and takes the place of those whose rows
-- it changes. The files of a model that are live are its rows, all of them together.
create table lakebed.model_file (
    model          text not null,
    number         integer not null check (number > 0),
    path           text not null unique,
    rows           bigint not null,
    bytes          bigint not null,
    columns        jsonb not null,
    lower_bound    timestamptz,
    upper_bound    timestamptz,
    written_at     timestamptz not null default clock_timestamp(),
    superseded_at  timestamptz,
    removed_at     timestamptz,
    primary key (model, number),
    check (removed_at is null or superseded_at is not null),
    check ((lower_bound is null) = (upper_bound is null) and lower_bound < upper_bound)
);
create index model_file_live on lakebed.model_file (model) where superseded_at is null;
comment on table lakebed.model_file is 'The files of incremental models; superseded_at is null for those that are live.';
comment on column lakebed.model_file.path is 'relative to the lake folder';
comment on column lakebed.model_file.columns is 'name and DuckDB type of each column, in order';
comment on column lakebed.model_file.lower_bound is 'of the window that the file holds, where the model is built by windows';

alter table lakebed.model_version drop constraint model_version_check;
alter table lakebed.model_version add constraint model_version_check
    check ((materialized in ('table', 'seed')) = (path is not null));
alter table lakebed.model_version add column built_until timestamptz;
comment on column lakebed.model_version.built_until is 'end of the last window that was built, where the model is built by windows';
