-- What a model's file holds and what its query gave are two things where Parquet lacks a type.
alter table lakebed.model_version add column columns jsonb;
comment on column lakebed.model_version.columns is 'of each column its name, the DuckDB type of the query, and the DuckDB type in the files; null for views';
comment on column lakebed.model_file.columns is 'of each column its name, the DuckDB type of the query, and the DuckDB type in the file';
