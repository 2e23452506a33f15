-- Which lake is this database's, and the last token that one of the two gave the other.
-- A token goes to next_token first, then into the lake, then to token: a process that is killed in
-- between leaves a pair that the next one understands (lake_owner.py).

create table lakebed.lake (
    only_row boolean primary key default true check (only_row),
    database_id uuid not null default gen_random_uuid(),
    token text,
    next_token text,
    address text,
    owned_since timestamptz
);
insert into lakebed.lake default values;

comment on table lakebed.lake is 'Whose lake this is: one row, the counterpart of lakebed-owner.json in the lake';
