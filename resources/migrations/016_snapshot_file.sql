-- Snapshots of tables that are not partitioned: the whole table as a file, after each load that
-- changed it, so that the lake alone can answer a join.
create table lakebed.lake_copy (
    table_name    text not null,
    generation    integer not null check (generation > 0),
    path          text not null unique,
    rows          bigint not null,
    bytes         bigint not null,
    sha256        text not null,
    fingerprint   jsonb not null,
    columns       jsonb not null,
    ledger        text not null,
    load_id       text,
    taken_at      timestamptz not null default clock_timestamp(),
    superseded_at timestamptz,
    expired_at    timestamptz,
    removed_at    timestamptz,
    primary key (table_name, generation),
    check (expired_at is null or superseded_at is not null),
    check (removed_at is null or expired_at is not null)
);
-- The fence against two snapshots at once: only one is live.
create unique index snapshot_file_live on lakebed.lake_copy (table_name)
    where superseded_at is null;
comment on table lakebed.lake_copy is 'Snapshots of whole tables in the lake; superseded_at is null for the live one.';
comment on column lakebed.lake_copy.path is 'relative to the lake folder';
comment on column lakebed.lake_copy.ledger is 'What the loads that had changed the table came to; where it is another now, a snapshot is due.';
comment on column lakebed.lake_copy.load_id is 'The last load that it shows.';
comment on column lakebed.lake_copy.expired_at is 'When it was no more among the last ones that the table keeps; housekeeping takes the file away.';
comment on column lakebed.lake_copy.removed_at is 'When the file was given up; it may still be there for a moment, nobody may read it.';
