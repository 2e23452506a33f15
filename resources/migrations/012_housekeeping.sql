-- Files that were superseded are taken away in the end. The transaction says so first: a file that a
-- row without removed_at names is there, whoever was killed when.
alter table lakebed.cold_file
    add column removed_at timestamptz,
    add check (removed_at is null or superseded_at is not null);
comment on column lakebed.cold_file.removed_at is 'When the file was given up; it may still be there for a moment, nobody may read it.';

alter table lakebed.model_version
    add column removed_at timestamptz,
    add check (removed_at is null or superseded_at is not null);
comment on column lakebed.model_version.removed_at is 'When the file was given up; it may still be there for a moment, nobody may read it.';
