-- Which rows of a queried source lie at the cursor's boundary, so that an append knows them again.
alter table lakebed.loaded_file add column boundary bytea;
comment on column lakebed.loaded_file.boundary is 'digests of the rows from cursor_max, or from cursor_max less the lag, on; of appended tables whose source is queried';
