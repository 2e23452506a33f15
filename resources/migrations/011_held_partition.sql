-- Partitions that a restore brought back to hot stay there for a time.
create table lakebed.held_partition (
    table_name    text not null,
    partition_key text not null,
    held_until    timestamptz not null,
    held_at       timestamptz not null default clock_timestamp(),
    held_by       text not null default session_user,
    primary key (table_name, partition_key)
);
comment on table lakebed.held_partition is 'Partitions that were restored: no policy and no request moves them before held_until, a move of the partition by name does.';
