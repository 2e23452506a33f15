-- Erasures: what was taken out of hot and cold for good, without keeping what it was.
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
create unique index erasure_open on lakebed.erasure (table_name, predicate_sha256)
    where finished_at is null;
comment on table lakebed.erasure is 'Erasures: when, of what table, how many rows, which files were destroyed.';
comment on column lakebed.erasure.predicate is 'null unless whoever erased asked to keep it: it may name a person';
comment on column lakebed.erasure.files is 'files of the lake that held erased rows and were given up, relative to the lake';
comment on column lakebed.erasure.cold_rows is 'rows of live generations; older ones may have held them too';
