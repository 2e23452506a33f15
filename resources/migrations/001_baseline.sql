-- The schema `lakebed`: the whole state of the platform. One transaction changes these tables
-- together with the rows that they describe.
--
-- Until the first release this file is changed in place; homes that it created before must be recreated.

-- The rows of a table before a load replaced them; tables are named like the load.
create schema lakebed_undo;
comment on schema lakebed_undo is 'The rows of a table before a load replaced them; tables are named like the load.';


-- Loads: the ledger, what each load read and refused, and what undoing it needs.

-- The ledger: one row a committed load.
create table lakebed.load (
    load_id        text primary key,
    table_name     text not null,
    started_at     timestamptz not null,
    committed_at   timestamptz not null default clock_timestamp(),
    cursor_from    text,
    cursor_to      text,
    files          integer not null default 0,
    bytes          bigint not null default 0,
    rows_read      bigint not null default 0,
    inserted       bigint not null default 0,
    updated        bigint not null default 0,
    unchanged      bigint not null default 0,
    superseded     bigint not null default 0,
    rejected       bigint not null default 0,
    deleted        bigint not null default 0,
    marked         bigint not null default 0,
    rolled_back_at timestamptz,
    cold_deletes   bigint not null default 0,
    is_retry       boolean not null default false
);
comment on table lakebed.load is 'Ledger: one row for each load that was committed.';
comment on column lakebed.load.superseded is 'Rows of the load that a newer row of the same key in the same load replaced.';
comment on column lakebed.load.deleted is 'Rows that the load deleted from the table; of a history, versions that it ended.';
comment on column lakebed.load.marked is 'Rows of the load that mark a row as deleted, whether it existed or not.';
comment on column lakebed.load.rolled_back_at is 'When the load was undone; null while it is valid.';
comment on column lakebed.load.cold_deletes is 'Tombstones that the load entered.';
comment on column lakebed.load.is_retry is 'Whether the load read rejected rows of the quarantine again, instead of the source.';
create index load_by_table on lakebed.load (table_name, committed_at desc);

-- Loads that left something out because of rows of other tables: rows whose parent is missing,
-- deletes of rows that foreign keys still refer to, files that were refused for either reason. They
-- are retried when one of those tables has been loaded.
create table lakebed.unfinished_load (
    table_name text primary key,
    seen       jsonb not null check (jsonb_typeof(seen) = 'object'),
    since      timestamptz not null default clock_timestamp()
);
comment on table lakebed.unfinished_load is 'Tables whose last load waits for rows of other tables; it is retried when one of them has been loaded.';
comment on column lakebed.unfinished_load.seen is 'The tables that it may wait for, each with its last load when this table was last tried; null for a table that no load writes.';

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
    boundary    bytea,
    digest      bytea not null generated always as (sha256(decode(replace(((((length(path))::text || ':'::text) || path) || version), '\'::text, '\\'::text), 'escape'::text))) stored,
    primary key (table_name, digest)
);
comment on column lakebed.loaded_file.path is 'relative to LAKEBED_DATA if it lies there';
comment on column lakebed.loaded_file.version is 'size in bytes and modification time in ns, as size-mtime';
comment on column lakebed.loaded_file.cursor_ties is 'how many rows of the file had cursor_max';
comment on column lakebed.loaded_file.sha256 is 'of the whole file, if it may grow';
comment on column lakebed.loaded_file.boundary is 'digests of the rows from cursor_max, or from cursor_max less the lag, on; of appended tables whose source is queried';
comment on column lakebed.loaded_file.digest is 'SHA-256 of path and version: identifies a version of a file, together with the table.';
create index loaded_file_by_path on lakebed.loaded_file USING hash (path);

-- What the last attempt to load a table could not load: items, or the load as a whole. The ledger has
-- only committed loads; without this table, only the command's output would show a refusal.
create table lakebed.refusal (
    refusal_id    bigint generated always as identity primary key,
    table_name    text not null,
    partition_key text not null default '',
    item          text,
    problem       text not null,
    refused_at    timestamptz not null default clock_timestamp()
);
comment on table lakebed.refusal is 'Items of a source that the last load of a table refused; the next load of it replaces them.';
comment on column lakebed.refusal.partition_key is 'Of a load by window: the window; empty for a load by cursor.';
comment on column lakebed.refusal.item is 'The path of the item; null if the load failed as a whole.';
create index refusal_by_table on lakebed.refusal (table_name, partition_key);

-- Quarantine: rows that broke the contract, as they were read.
create table lakebed.rejected_row (
    rejected_row_id bigint generated always as identity primary key,
    table_name      text not null,
    load_id         text not null references lakebed.load,
    source_file     text not null,
    row_number      bigint not null,
    column_name     text,
    message         text not null,
    source_row      jsonb not null,
    rejected_at     timestamptz not null default clock_timestamp(),
    source_types    jsonb,
    resolved_by     text references lakebed.load,
    resolved_at     timestamptz,
    superseded      boolean not null default false,
    kind            text not null check (kind in ('malformed', 'type', 'required', 'rule', 'constraint', 'missing_parent')),
    rule            text not null,
    check ((resolved_by is null) = (resolved_at is null)),
    check (resolved_by is not null or (not superseded))
);
comment on column lakebed.rejected_row.column_name is 'The column that broke the rule; null if it concerns the whole row.';
comment on column lakebed.rejected_row.message is 'Everything that is wrong with the row, in words, with its values.';
comment on column lakebed.rejected_row.source_row is 'The row as it was read; bytes that are not text as {"$base64": ...}, values without a text as {"$arrow": ...}. You may correct it here before a retry.';
comment on column lakebed.rejected_row.source_types is 'The types of its columns in the source, except text columns: name -> [polars type, arguments ...].';
comment on column lakebed.rejected_row.resolved_by is 'The load that resolved the row: the retry that loaded it, one that read it again (superseded), or its own when that was rolled back; null while it waits.';
comment on column lakebed.rejected_row.superseded is 'Whether a later load read the row''s origin again: that load rejected it again, or the row no longer exists.';
comment on column lakebed.rejected_row.kind is 'What kind of rule the row broke first: malformed (not a row), type, required (null), rule (of the model, or the time of the table), constraint (of PostgreSQL), missing_parent (lookup or foreign key).';
comment on column lakebed.rejected_row.rule is 'The rule that the row broke first: the name of the check or constraint, or a word such as lossless.';
create index rejected_row_by_table on lakebed.rejected_row (table_name, load_id);
create index rejected_row_open on lakebed.rejected_row (table_name, rejected_row_id) where resolved_by is null;
create index rejected_row_superseded on lakebed.rejected_row (table_name, rejected_row_id) where superseded;

-- Columns that a source brought and a model does not have (new_columns="evolve"). Written in the
-- transaction that adds the column. Readers of the lake read them from here, in their snapshot.
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

create table lakebed.load_write (
    load_write_id bigint generated always as identity primary key,
    load_id       text not null references lakebed.load,
    xact          xid8 not null default pg_current_xact_id(),
    xid           text,
    written       bigint not null,
    changed       bigint not null
);
comment on table lakebed.load_write is 'Writes of loads; a row here carries the same xmin as the rows that were written.';
comment on column lakebed.load_write.xid is 'The xmin of this very row: if it differs, the database was copied row by row and xmin identifies nothing.';
comment on column lakebed.load_write.written is 'Rows inserted, and new versions of rows updated.';
comment on column lakebed.load_write.changed is 'Rows updated or deleted, whose old versions are kept.';
create index load_write_by_load on lakebed.load_write (load_id);
create index load_write_by_xid on lakebed.load_write (xid);


-- The cold tier: the manifest, lake copies, policies, holds, and who owns the lake.

-- The manifest: every file of the cold tier. Readers never see a file that is not named here.
create table lakebed.cold_file (
    table_name    text not null,
    partition_key text not null,
    generation    integer not null check (generation > 0),
    path          text not null unique,
    rows          bigint not null,
    bytes         bigint not null,
    sha256        text not null,
    lower_bound   timestamptz not null,
    upper_bound   timestamptz not null,
    time_min      timestamptz,
    time_max      timestamptz,
    fingerprint   jsonb not null,
    columns       jsonb not null,
    moved_at      timestamptz not null default clock_timestamp(),
    moved_by_xid  xid8 not null default pg_current_xact_id(),
    superseded_at timestamptz,
    removed_at    timestamptz,
    layout        text not null generated always as (md5((columns)::text)) stored,
    primary key (table_name, partition_key, generation),
    check (lower_bound < upper_bound),
    check (removed_at is null or superseded_at is not null)
);
comment on table lakebed.cold_file is 'Manifest: the files of the cold tier; superseded_at is null for the live generation.';
comment on column lakebed.cold_file.path is 'relative to the lake folder';
comment on column lakebed.cold_file.removed_at is 'When the file was given up; it may exist for a moment longer, but no session may read it.';
comment on column lakebed.cold_file.layout is 'digest of columns; equal where two files have the same columns and types';
-- The fence against two movers of one partition: only one generation is live.
create unique index cold_file_live on lakebed.cold_file (table_name, partition_key) where superseded_at is null;

create table lakebed.load_superseded (
    load_id       text not null references lakebed.load,
    table_name    text not null,
    partition_key text not null,
    generation    integer not null,
    primary key (load_id, partition_key),
    foreign key (table_name, partition_key, generation) references lakebed.cold_file
);
comment on table lakebed.load_superseded is 'The cold generation that was live before a load by window replaced its partition.';

-- Lake copies of tables that are not partitioned: the whole table as a file, after each load that
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
comment on table lakebed.lake_copy is 'Lake copies of whole tables; superseded_at is null for the live one.';
comment on column lakebed.lake_copy.path is 'relative to the lake folder';
comment on column lakebed.lake_copy.ledger is 'Digest of the loads that had changed the table; if it differs now, a lake copy is due.';
comment on column lakebed.lake_copy.load_id is 'The last load whose rows it has.';
comment on column lakebed.lake_copy.expired_at is 'When it left the last copies that the table keeps; housekeeping removes the file.';
comment on column lakebed.lake_copy.removed_at is 'When the file was given up; it may exist for a moment longer, but no session may read it.';
-- The fence against two concurrent writers of lake copies: only one copy is live.
create unique index lake_copy_live on lakebed.lake_copy (table_name) where superseded_at is null;

create table lakebed.lake (
    only_row    boolean primary key default true check (only_row),
    database_id uuid not null default gen_random_uuid(),
    token       text,
    next_token  text,
    address     text,
    owned_since timestamptz
);
comment on table lakebed.lake is 'The owner of the lake: one row, the counterpart of lakebed-owner.json in the lake';
insert into lakebed.lake default values;

create table lakebed.tier_policy (
    table_name  text primary key,
    time_column text not null,
    grain       text not null,
    hot_for     interval not null,
    looked_at   timestamptz,
    schema_name text not null default 'public'
);
comment on table lakebed.tier_policy is 'When rows of the tables are moved, as their files declare: recorded when a table is created or loaded, and whenever its sensor runs.';
comment on column lakebed.tier_policy.looked_at is 'When the sensor, or a move by command, last looked for due moves.';

create table lakebed.tiered_table (
    table_name  text primary key,
    key_columns text[] not null,
    time_column text not null,
    noted_at    timestamptz not null default clock_timestamp(),
    schema_name text not null default 'public'
);
comment on table lakebed.tiered_table is 'Tiered tables that have a key, as their files declare: recorded when a table is created, loaded or moved.';
comment on column lakebed.tiered_table.schema_name is 'The schema of the table; the table''s name is unique among the table files in all schemas.';

-- Partitions that a restore brought back to hot stay hot for a time.
create table lakebed.held_partition (
    table_name    text not null,
    partition_key text not null,
    held_until    timestamptz not null,
    held_at       timestamptz not null default clock_timestamp(),
    held_by       text not null default session_user,
    primary key (table_name, partition_key)
);
comment on table lakebed.held_partition is 'Partitions that were restored: no policy and no request moves them before held_until, a move of the partition by name does.';

-- Erasures: a record of rows that were deleted from both tiers for good, without their content.
create table lakebed.erasure (
    erasure_id       bigint generated always as identity primary key,
    table_name       text not null,
    predicate_sha256 text not null,
    predicate        text,
    started_at       timestamptz not null default clock_timestamp(),
    finished_at      timestamptz,
    hot_rows         bigint not null default 0,
    cold_rows        bigint not null default 0,
    undo_rows        bigint not null default 0,
    rejected_rows    bigint not null default 0,
    files            text[] not null default '{}'
);
comment on table lakebed.erasure is 'Erasures: when, of what table, how many rows, which files were destroyed.';
comment on column lakebed.erasure.predicate is 'null unless the erasing user asked to keep it: it may name a person';
comment on column lakebed.erasure.cold_rows is 'rows of live generations; older ones may have held them too';
comment on column lakebed.erasure.files is 'files of the lake that held erased rows and were given up, relative to the lake';
create unique index erasure_open on lakebed.erasure (table_name, predicate_sha256) where finished_at is null;


-- Deletes of cold rows: tombstones, which hide a row until the next move removes it from its file.

create table lakebed.cold_delete (
    cold_delete_id bigint generated always as identity primary key,
    table_name     text not null,
    key            jsonb not null,
    moment         timestamptz not null,
    load_id        text references lakebed.load,
    deleted_by     text not null default session_user,
    deleted_at     timestamptz not null default clock_timestamp()
);
comment on table lakebed.cold_delete is 'Tombstones: keys of deleted cold rows. Compacting removes the rows from the file and the tombstones from here.';
comment on column lakebed.cold_delete.key is 'The columns of the row''s key, as jsonb_populate_record reads them.';
comment on column lakebed.cold_delete.moment is 'The row''s time, which determines its partition.';
comment on column lakebed.cold_delete.load_id is 'The load that deleted the row; null if a person did.';
create index cold_delete_by_load on lakebed.cold_delete (load_id) where load_id is not null;
create index cold_delete_by_moment on lakebed.cold_delete (table_name, moment);

-- Tombstones that are set aside together with their cold generation.
create table lakebed.load_cold_delete (
    replaced_by    text not null references lakebed.load,
    cold_delete_id bigint not null,
    table_name     text not null,
    key            jsonb not null,
    moment         timestamptz not null,
    load_id        text,
    deleted_by     text not null,
    deleted_at     timestamptz not null
);
comment on table lakebed.load_cold_delete is 'The tombstones of partitions that a load by window replaced.';
create index load_cold_delete_by_load on lakebed.load_cold_delete (replaced_by);


-- Backups of a table.

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

create table lakebed.backup_cold_delete (
    backup_id      text not null references lakebed.backup on delete cascade,
    cold_delete_id bigint not null,
    table_name     text not null,
    key            jsonb not null,
    moment         timestamptz not null,
    load_id        text,
    deleted_by     text not null,
    deleted_at     timestamptz not null
);
comment on table lakebed.backup_cold_delete is 'The tombstones at the time of a backup.';
create index backup_cold_delete_by_backup on lakebed.backup_cold_delete (backup_id);


-- SQL models: what they published, and the files of incremental ones.

-- What SQL models published, with the file of a materialized table.
create table lakebed.model_version (
    model         text not null,
    generation    integer not null check (generation > 0),
    materialized  text not null check (materialized in ('view', 'table', 'seed', 'incremental')),
    sql           text not null,
    code_version  text not null,
    path          text unique,
    rows          bigint,
    bytes         bigint,
    built_at      timestamptz not null default clock_timestamp(),
    superseded_at timestamptz,
    removed_at    timestamptz,
    reads         text[],
    built_until   timestamptz,
    columns       jsonb,
    primary key (model, generation),
    check (removed_at is null or superseded_at is not null),
    check ((materialized in ('table', 'seed')) = (path is not null))
);
comment on column lakebed.model_version.removed_at is 'When the file was given up; it may exist for a moment longer, but no session may read it.';
comment on column lakebed.model_version.reads is 'tables and models that the SQL names; null: not known';
comment on column lakebed.model_version.built_until is 'end of the last window that was built, if the model is built by windows';
comment on column lakebed.model_version.columns is 'of each column its name, the DuckDB type of the query, and the DuckDB type in the files; null for views';
create unique index model_version_live on lakebed.model_version (model) where superseded_at is null;

-- An incremental model is a list of files: a run adds one, and replaces those whose rows it
-- changes. The rows of a model are those of all its live files.
create table lakebed.model_file (
    model         text not null,
    number        integer not null check (number > 0),
    path          text not null unique,
    rows          bigint not null,
    bytes         bigint not null,
    columns       jsonb not null,
    lower_bound   timestamptz,
    upper_bound   timestamptz,
    written_at    timestamptz not null default clock_timestamp(),
    superseded_at timestamptz,
    removed_at    timestamptz,
    primary key (model, number),
    check (removed_at is null or superseded_at is not null),
    check (((lower_bound is null) = (upper_bound is null)) and (lower_bound < upper_bound))
);
comment on table lakebed.model_file is 'The files of incremental models; superseded_at is null for those that are live.';
comment on column lakebed.model_file.path is 'relative to the lake folder';
comment on column lakebed.model_file.columns is 'of each column its name, the DuckDB type of the query, and the DuckDB type in the file';
comment on column lakebed.model_file.lower_bound is 'of the window that the file holds, if the model is built by windows';
create index model_file_live on lakebed.model_file (model) where superseded_at is null;


-- Requests from SQL.

-- Requests that people make from SQL; a sensor answers.
create table lakebed.tier_request (
    tier_request_id bigint generated always as identity primary key,
    table_name      text not null,
    older_than      interval not null,
    requested_by    text not null default session_user,
    requested_at    timestamptz not null default clock_timestamp(),
    answered_at     timestamptz,
    answer          text,
    taken_at        timestamptz
);
comment on table lakebed.tier_request is 'Moves that lakebed.request_move requested, and their results.';
comment on column lakebed.tier_request.answered_at is 'When it ended; null while it waits or is being moved.';
comment on column lakebed.tier_request.answer is 'What was moved, or why not.';
comment on column lakebed.tier_request.taken_at is 'When its moves were last started; null if they were not started yet.';
create index tier_request_open on lakebed.tier_request (table_name) where answered_at is null;


-- Functions for people and for triggers.

create function lakebed.request_move(table_name text, older_than interval)
returns bigint language plpgsql as $$
declare
    policy  lakebed.tier_policy;
    request bigint;
begin
    select * into policy from lakebed.tier_policy t where t.table_name = request_move.table_name;
    if not found then
        raise exception 'lakebed.request_move: % is not a known tiered table',
            coalesce(quote_ident(request_move.table_name), 'null')
            using errcode = 'undefined_table', hint = format(
                'Known tables: %s. A table becomes known by its first load, or when "lakebed up" reads its file.',
                coalesce((select string_agg(t.table_name, ', ' order by 1) from lakebed.tier_policy t), 'none'));
    end if;
    if older_than is null or not isfinite(older_than)
        or older_than < interval '0' or older_than > interval '1000 years' then
        raise exception 'lakebed.request_move: older_than is %', coalesce(older_than::text, 'null')
            using errcode = 'invalid_parameter_value',
            hint = 'Give an interval from 0 to 1000 years: partitions that ended longer ago are moved.';
    end if;
    if policy.looked_at is null or policy.looked_at < clock_timestamp() - interval '10 minutes' then
        raise notice 'requests for % have not been answered since %', policy.table_name,
            coalesce(policy.looked_at::text, 'the table became known')
            using hint = 'Start "lakebed up", whose sensors answer them, or run "lakebed move TABLE --due".';
    end if;
    insert into lakebed.tier_request (table_name, older_than)
    values (policy.table_name, request_move.older_than)
    returning tier_request_id into request;
    perform pg_notify('lakebed_request', request::text);
    return request;
end
$$;
comment on function lakebed.request_move(text,interval) is 'Ask for a move of all partitions of a table that ended longer ago than this. Returns the number of the request, for lakebed.answer_to.';

create function lakebed.answer_to(request bigint, patience interval default interval '5 minutes')
returns text language plpgsql as $$
declare
    found_one lakebed.tier_request;
    deadline  timestamptz := clock_timestamp() + patience;
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'lakebed.answer_to: the transaction is %, and would never see the answer',
            current_setting('transaction_isolation')
            using errcode = 'active_sql_transaction', hint = 'Call it in READ COMMITTED.';
    end if;
    loop
        select * into found_one from lakebed.tier_request t where t.tier_request_id = request;
        if not found then
            raise exception 'lakebed.answer_to: request % does not exist', coalesce(request::text, 'null')
                using errcode = 'no_data_found', hint = 'lakebed.request_move returns its number.';
        end if;
        if pg_current_xact_id_if_assigned() = (select xmin::text::xid8 from lakebed.tier_request t
            where t.tier_request_id = request) then
            raise exception 'lakebed.answer_to: request % is not committed, so no other session sees it', request
                using errcode = 'active_sql_transaction', hint = 'Commit it first, then wait.';
        end if;
        if found_one.answered_at is not null then
            return found_one.answer;
        end if;
        if clock_timestamp() >= deadline then
            raise exception 'lakebed.answer_to: no answer to request % within %', request, patience
                using errcode = 'query_canceled', hint = case when found_one.taken_at is null
                    then 'Its moves were not started: is "lakebed up" running?'
                    else 'Its moves are running; wait longer.' end;
        end if;
        perform pg_sleep(0.5);
    end loop;
end
$$;
comment on function lakebed.answer_to(bigint,interval) is 'Wait for the answer to a request that is committed, and return it. A session that listens on the channel lakebed_answer receives the request''s number with the answer.';

-- Whether a table has any row in a window: exact, and found without counting.
create function lakebed.holds_rows(
    relation regclass, time_column text, lower_bound timestamptz, upper_bound timestamptz)
returns boolean language plpgsql stable as $$
declare
    holds boolean;
begin
    execute format('select exists (select from %s where %I >= $1 and %I < $2)', relation, time_column, time_column)
        into holds using lower_bound, upper_bound;
    return holds;
end
$$;
comment on function lakebed.holds_rows(regclass,text,timestamp with time zone,timestamp with time zone) is 'Whether a table has any row of lower_bound <= time < upper_bound.';

create function lakebed.names_key(key jsonb, key_columns text[]) returns boolean
language sql immutable as $$
    select key ?& key_columns and (select count(*) from jsonb_object_keys(key)) = cardinality(key_columns)
$$;
comment on function lakebed.names_key(jsonb,text[]) is 'Whether a tombstone names exactly these columns.';

-- Tombstones are by the known key: if that does not change, none is checked.
create function lakebed.key_blocker(of_table text, new_key text[]) returns text
language sql stable as $$
    select format(
        '%s deletes of cold rows are pending by the key (%s), and by (%s) the rows would reappear;'
        ' put the old key back into the table file, run `lakebed move %s`, then change the key',
        count(*), array_to_string(max(t.key_columns), ', '), array_to_string(new_key, ', '), of_table)
    from lakebed.tiered_table t
    join lakebed.cold_delete d on d.table_name = t.table_name
    where t.table_name = of_table
      and not (t.key_columns <@ new_key and new_key <@ t.key_columns)
      and not lakebed.names_key(d.key, new_key)
    having count(*) > 0
$$;
comment on function lakebed.key_blocker(text,text[]) is 'Why a table cannot get a key yet; null if it can.';

create function lakebed.refuse_key() returns trigger language plpgsql as $$
declare
    blocker text;
begin
    perform pg_advisory_xact_lock(hashtextextended('lakebed key ' || new.table_name, 0));
    blocker := lakebed.key_blocker(new.table_name, new.key_columns);
    if blocker is not null then
        raise exception 'table %: %', new.table_name, blocker
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end
$$;

create function lakebed.refuse_other_keys() returns trigger language plpgsql as $$
declare
    known lakebed.tiered_table;
begin
    select t.* into known from added a join lakebed.tiered_table t on t.table_name = a.table_name
        where not lakebed.names_key(a.key, t.key_columns) limit 1;
    if found then
        raise exception 'deletes of cold rows of % are by another key than its present key (%)',
            known.table_name, array_to_string(known.key_columns, ', ')
            using errcode = 'object_not_in_prerequisite_state',
            hint = 'Put the old key back into the table file and run `lakebed plan`.';
    end if;
    return null;
end
$$;

-- No key changes while the lock is held, so that the tombstone is by the known key. It is the
-- table's key if a unique index of PostgreSQL guarantees it.
--
-- The tombstone is entered before the hot row is deleted: a restore that brings the row back to hot
-- blocks new tombstones while it ends, and the following statement sees the restored rows.
create function lakebed.delete_row(table_name text, key jsonb)
returns boolean language plpgsql as $$
declare
    known   lakebed.tiered_table;
    missing text;
    other   text;
    columns text;
    same    text;
    typed   jsonb;
    moment  timestamptz;
    hot     bigint;
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('lakebed key ' || delete_row.table_name, 0));
    select * into known from lakebed.tiered_table t where t.table_name = delete_row.table_name;
    if not found then
        raise exception 'lakebed.delete_row: % is not a known tiered table with a key',
            coalesce(quote_ident(delete_row.table_name), 'null')
            using errcode = 'undefined_table',
            hint = 'select table_name from lakebed.tiered_table; a table becomes known by its first load or move.';
    end if;
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'lakebed.delete_row: the transaction is %, and could miss a row that comes back to hot',
            current_setting('transaction_isolation')
            using errcode = 'active_sql_transaction', hint = 'Call it in READ COMMITTED.';
    end if;
    if not exists (
        select from pg_index i
        where i.indrelid = format('%I.%I', known.schema_name, known.table_name)::regclass
          and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
          and (select array_agg(a.attname::text) from pg_attribute a where a.attrelid = i.indrelid
               and a.attnum = any ((i.indkey::int2[])[0:i.indnkeyatts - 1])) <@ known.key_columns
    ) then
        raise exception 'lakebed.delete_row: the known key of %, (%), is no longer its key',
            known.table_name, array_to_string(known.key_columns, ', ')
            using errcode = 'object_not_in_prerequisite_state',
            hint = format('No unique index of the table is on these columns. Run "lakebed plan %s"; '
                'the next load or move records its key.', known.table_name);
    end if;
    if jsonb_typeof(key) is distinct from 'object' then
        raise exception 'lakebed.delete_row: the key of % is not a JSON object', known.table_name
            using errcode = 'invalid_parameter_value',
            hint = format('Name its columns: %s.', array_to_string(known.key_columns, ', '));
    end if;
    select c into missing from unnest(known.key_columns) c where key ->> c is null limit 1;
    if found then
        raise exception 'lakebed.delete_row: the key of % needs a value of %', known.table_name, missing
            using errcode = 'invalid_parameter_value',
            hint = format('The key is %s.', array_to_string(known.key_columns, ', '));
    end if;
    select k into other from jsonb_object_keys(key) k where k <> all (known.key_columns) limit 1;
    if found then
        raise exception 'lakebed.delete_row: % is not in the key of %', other, known.table_name
            using errcode = 'invalid_parameter_value',
            hint = format('The key is %s.', array_to_string(known.key_columns, ', '));
    end if;
    select string_agg(format('k.%I', c), ', '), string_agg(format('hot.%1$I = k.%1$I', c), ' and ')
        into columns, same from unnest(known.key_columns) c;
    execute format(
        'select (select to_jsonb(typed) from (select %s) typed), k.%I'
        ' from jsonb_populate_record(null::%I.%I, $1) k',
        columns, known.time_column, known.schema_name, known.table_name) into typed, moment using key;
    insert into lakebed.cold_delete (table_name, key, moment) values (known.table_name, typed, moment);
    execute format(
        'delete from %1$I.%2$I hot using jsonb_populate_record(null::%1$I.%2$I, $1) k where %3$s',
        known.schema_name, known.table_name, same) using typed;
    get diagnostics hot = row_count;
    return hot > 0;
end
$$;
comment on function lakebed.delete_row(text,jsonb) is 'Delete the row of a key, hot or cold. Returns whether it was hot; a cold row is hidden at once, and the next move of its partition removes it from its file.';

-- The integer of a text in a fingerprint: the first 15 hexadecimal digits of its MD5. One statement
-- of SQL, which PostgreSQL inlines into the query that calls it. Servers before 16 can cast such
-- digits only through bits, which is slower.

do $migration$
declare
    of_digits text := case when current_setting('server_version_num')::int >= 160000
        then $$('0x' || left(md5(value), 15))::bigint$$
        else $$('x' || left(md5(value), 15))::bit(60)::bigint$$ end;
    kind text;
begin
    foreach kind in array array['text', 'bytea'] loop
        execute format(
            'create function lakebed.digest(value %1$s) returns bigint'
            ' language sql immutable parallel safe as %2$L', kind, 'select ' || of_digits);
        execute format(
            'comment on function lakebed.digest(%s) is %L', kind,
            'The integer of a value in a fingerprint: the first 15 hexadecimal digits of its MD5.');
    end loop;
end
$migration$;


-- Triggers.

create trigger refuse_key
    before update of key_columns on lakebed.tiered_table
    for each row when (old.key_columns is distinct from new.key_columns)
    execute function lakebed.refuse_key();

create trigger refuse_other_keys
    after insert on lakebed.cold_delete referencing new table as added for each statement
    execute function lakebed.refuse_other_keys();


-- Both tiers, for people in psql.

-- Rows are searched in the parent table: its readers may have no privilege on each partition table,
-- and a cold partition is not always one partition table.
create view lakebed.tier_status as
with tiered as (
    select p.*, to_regclass(format('%I.%I', p.schema_name, p.table_name)) as relation
    from lakebed.tier_policy p
),
hot as (
    select
        s.table_name,
        c.oid::regclass as partition_table,
        bounds[1]::timestamptz as lower_bound,
        bounds[2]::timestamptz as upper_bound,
        pg_stat_get_live_tuples(c.oid) as hot_rows,
        pg_total_relation_size(c.oid) as hot_bytes
    from tiered s
    join pg_inherits i on i.inhparent = s.relation
    join pg_class c on c.oid = i.inhrelid
    cross join regexp_match(
        pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\) TO \(''([^'']+)''\)') as bounds
),
cold as (
    select * from lakebed.cold_file where superseded_at is null
),
part as (
    select
        coalesce(l.table_name, c.table_name) as table_name,
        coalesce(l.lower_bound, c.lower_bound) as lower_bound,
        coalesce(l.upper_bound, c.upper_bound) as upper_bound,
        l.partition_table, l.hot_rows, l.hot_bytes,
        c.rows as cold_rows, c.bytes as cold_bytes, c.generation, c.moved_at, c.path
    from hot l
    full join cold c
        on c.table_name = l.table_name and c.lower_bound = l.lower_bound and c.upper_bound = l.upper_bound
),
known as (
    select
        p.*, s.grain, s.hot_for,
        (select count(*) from lakebed.cold_delete d where d.table_name = p.table_name
            and d.moment >= p.lower_bound and d.moment < p.upper_bound) as deletes,
        case
            when s.relation is not null then lakebed.holds_rows(s.relation, s.time_column, p.lower_bound, p.upper_bound)
            else false
        end as is_hot
    from part p
    left join tiered s on s.table_name = p.table_name
)
select
    table_name,
    to_char(lower_bound at time zone 'UTC', case grain
        when 'hour' then 'YYYY-MM-DD-HH24' when 'month' then 'YYYY-MM' when 'year' then 'YYYY'
        else 'YYYY-MM-DD' end) as partition_key,
    case
        when cold_rows is not null and (is_hot or deletes > 0) then 'late'
        when cold_rows is not null then 'cold'
        when is_hot and upper_bound <= clock_timestamp() - hot_for then 'due'
        when is_hot then 'hot'
        else 'empty'
    end as state,
    case when is_hot then greatest(hot_rows, 1) else 0 end as hot_rows,
    hot_bytes, cold_rows, cold_bytes, deletes, generation, moved_at, lower_bound, upper_bound,
    partition_table::text as partition_table, path
from known;
comment on view lakebed.tier_status is 'Where the rows of tiered tables are: one row for each partition table and each cold partition.';
comment on column lakebed.tier_status.state is 'hot; due: hot, and its end is older than the table''s policy; cold; late: cold, with hot rows or deletes that are not compacted yet; empty.';
comment on column lakebed.tier_status.hot_rows is 'By PostgreSQL''s statistics; whether the number is 0 is exact. 1 if the statistics are missing.';
comment on column lakebed.tier_status.deletes is 'Rows of the cold file that lakebed.delete_row deleted, and that are still in it.';
comment on column lakebed.tier_status.moved_at is 'When the live generation of its cold file was committed.';
comment on column lakebed.tier_status.path is 'Of the cold file, relative to the lake.';
