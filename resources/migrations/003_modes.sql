-- Write modes that delete: what became of rows that say that they are gone, and the schema in which
-- a replaced table's old rows wait for a rollback, in a table named like the load that replaced them.

alter table lakebed.load
    add column deleted bigint not null default 0,
    add column marked bigint not null default 0;
comment on column lakebed.load.deleted is 'Rows that the load took out of the table; of a history, versions that it ended.';
comment on column lakebed.load.marked is 'Rows of the load that said that a row is gone, whether it was there or not.';

create schema lakebed_undo;
comment on schema lakebed_undo is 'The rows of a table before a load replaced them; tables are named like the load.';
