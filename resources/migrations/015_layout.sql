-- What the columns of a cold file come to: files of one layout are read as one, and readers need
-- not unpack the columns of each.
alter table lakebed.cold_file
    add column layout text not null generated always as (md5(columns::text)) stored;
comment on column lakebed.cold_file.layout is 'digest of columns; equal where two files have the same columns and types';
