-- A version of a file is told by a digest: paths of objects and of members of archives may be longer
-- than an index entry can be.
alter table lakebed.loaded_file
    add column digest bytea not null generated always as (
        sha256(decode(replace(length(path)::text || ':' || path || version, '\', '\\'), 'escape'))
    ) stored,
    drop constraint loaded_file_pkey,
    add primary key (table_name, digest);
create index loaded_file_by_path on lakebed.loaded_file using hash (path);
comment on column lakebed.loaded_file.digest is 'SHA-256 of path and version: with the table what a version of a file is known by.';
