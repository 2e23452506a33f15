-- What is needed to undo loads: which rows a load wrote is told by the transaction id they carry,
-- what it changed or deleted is kept in lakebed_undo."<load_id>"; and backups.

alter table lakebed.load add column rolled_back_at timestamptz;
comment on column lakebed.load.rolled_back_at is 'When the load was undone; null where it stands.';

create table lakebed.load_write (
    load_write_id bigint generated always as identity primary key,
    load_id       text not null references lakebed.load,
    xact          xid8 not null default pg_current_xact_id(),
    xid           text,
    written       bigint not null,
    changed       bigint not null
);
create index load_write_by_load on lakebed.load_write (load_id);
create index load_write_by_xid on lakebed.load_write (xid);
comment on table lakebed.load_write is 'Writes of loads; a row here carries the same xmin as the rows that were written.';
comment on column lakebed.load_write.xid is 'The xmin of this very row: where it differs, the database was copied row by row and xmin tells nothing any more.';
comment on column lakebed.load_write.written is 'Rows inserted, and new versions of rows updated.';
comment on column lakebed.load_write.changed is 'Rows updated or deleted, whose old versions are kept.';

create table lakebed.load_superseded (
    load_id       text not null references lakebed.load,
    table_name    text not null,
    partition_key text not null,
    generation    integer not null,
    primary key (load_id, partition_key),
    foreign key (table_name, partition_key, generation) references lakebed.cold_file
);
comment on table lakebed.load_superseded is 'The cold generation that was live before a load by window replaced its partition.';

create table lakebed.backup (
    backup_id   text primary key,
    table_name  text not null,
    taken_at    timestamptz not null default clock_timestamp(),
    path        text not null unique,
    rows        bigint not null,
    bytes       bigint not null,
    sha256      text not null,
    fingerprint jsonb not null,
    columns     jsonb not null
);
comment on table lakebed.backup is 'Backups: the hot rows of a table in a Parquet file, and the cold generations that were live.';
comment on column lakebed.backup.path is 'relative to the home';

create table lakebed.backup_cold (
    backup_id     text not null references lakebed.backup on delete cascade,
    table_name    text not null,
    partition_key text not null,
    generation    integer not null,
    primary key (backup_id, partition_key),
    foreign key (table_name, partition_key, generation) references lakebed.cold_file
);
comment on table lakebed.backup_cold is 'The cold generations that were live when a backup was taken.';
