-- The state of Lakebed: ledger, quarantine, manifest, requests. Every change of state is one
-- transaction that touches these tables and the rows they speak of together.

-- The ledger: one row a committed load.
create table lakebed.load (
    load_id       text primary key,
    table_name    text not null,
    started_at    timestamptz not null,
    committed_at  timestamptz not null default clock_timestamp(),
    cursor_from   text,
    cursor_to     text,
    files         integer not null default 0,
    bytes         bigint not null default 0,
    rows_read     bigint not null default 0,
    inserted      bigint not null default 0,
    updated       bigint not null default 0,
    unchanged     bigint not null default 0,
    superseded    bigint not null default 0,
    rejected      bigint not null default 0
);
create index load_by_table on lakebed.load (table_name, committed_at desc);
comment on table lakebed.load is 'Ledger: one row for each load that was committed.';
comment on column lakebed.load.superseded is 'Rows of the load that a newer row of the same key in the same load replaced.';

-- Which version of which file is in the table. A version is loaded once.
create table lakebed.loaded_file (
    table_name  text not null,
    path        text not null,
    version     text not null,
    load_id     text not null references lakebed.load,
    rows_read   bigint not null,
    cursor_max  text,
    cursor_ties bigint not null default 0,
    sha256      text,
    primary key (table_name, path, version)
);
comment on column lakebed.loaded_file.path is 'relative to LAKEBED_DATA where it lies there';
comment on column lakebed.loaded_file.sha256 is 'of the whole file, where it may grow';
comment on column lakebed.loaded_file.version is 'size in bytes and modification time in ns, as size-mtime';
comment on column lakebed.loaded_file.cursor_ties is 'how many rows of the file had cursor_max';

-- Quarantine: rows that broke the contract, as they were read.
create table lakebed.rejected_row (
    rejected_row_id bigint generated always as identity primary key,
    table_name      text not null,
    load_id         text not null references lakebed.load,
    source_file     text not null,
    row_number      bigint not null,
    column_name     text,
    reason          text not null,
    source_row      jsonb not null,
    rejected_at     timestamptz not null default clock_timestamp()
);
create index rejected_row_by_table on lakebed.rejected_row (table_name, load_id);

-- The manifest: every file of the cold tier. A file that is not named here exists for nobody.
create table lakebed.cold_file (
    table_name     text not null,
    partition_key  text not null,
    generation     integer not null check (generation > 0),
    path           text not null unique,
    rows           bigint not null,
    bytes          bigint not null,
    sha256         text not null,
    lower_bound    timestamptz not null,
    upper_bound    timestamptz not null,
    time_min       timestamptz,
    time_max       timestamptz,
    fingerprint    jsonb not null,
    columns        jsonb not null,
    moved_at       timestamptz not null default clock_timestamp(),
    moved_by_xid   xid8 not null default pg_current_xact_id(),
    superseded_at  timestamptz,
    primary key (table_name, partition_key, generation),
    check (lower_bound < upper_bound)
);
-- The fence against two movers of one partition: only one generation is live.
create unique index cold_file_live on lakebed.cold_file (table_name, partition_key)
    where superseded_at is null;
comment on table lakebed.cold_file is 'Manifest: the files of the cold tier; superseded_at is null for the live generation.';
comment on column lakebed.cold_file.path is 'relative to the lake folder';

-- What SQL models published, with the file of a materialized table.
create table lakebed.model_version (
    model          text not null,
    generation     integer not null check (generation > 0),
    materialized   text not null check (materialized in ('view', 'table')),
    sql            text not null,
    code_version   text not null,
    path           text unique,
    rows           bigint,
    bytes          bigint,
    built_at       timestamptz not null default clock_timestamp(),
    superseded_at  timestamptz,
    primary key (model, generation),
    check ((materialized = 'table') = (path is not null))
);
create unique index model_version_live on lakebed.model_version (model)
    where superseded_at is null;

-- What people ask for from SQL; a sensor answers.
create table lakebed.tier_request (
    tier_request_id bigint generated always as identity primary key,
    table_name      text not null,
    older_than      interval not null,
    requested_by    text not null default session_user,
    requested_at    timestamptz not null default clock_timestamp(),
    answered_at     timestamptz,
    answer          text
);

create function lakebed.request_move(table_name text, older_than interval)
returns bigint language sql as $$
    insert into lakebed.tier_request (table_name, older_than)
    values (request_move.table_name, request_move.older_than)
    returning tier_request_id
$$;
comment on function lakebed.request_move is 'Ask for a move of all partitions of a table that ended longer ago than this.';
