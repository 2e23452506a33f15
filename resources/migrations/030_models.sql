-- What a model's SQL reads by name, so that reading it opens nothing else; null before this version.
alter table lakebed.model_version add column reads text[];
comment on column lakebed.model_version.reads is 'tables and models that the SQL names; null: not known';

-- Seeds are files as tables are, and so is what is built in steps.
alter table lakebed.model_version drop constraint model_version_materialized_check;
alter table lakebed.model_version drop constraint model_version_check;
alter table lakebed.model_version add constraint model_version_materialized_check
    check (materialized in ('view', 'table', 'seed', 'incremental'));
alter table lakebed.model_version add constraint model_version_check
    check ((materialized = 'view') = (path is null));
