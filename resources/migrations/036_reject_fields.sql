-- A reject says as data what is wrong with its row, so that nothing has to be read out of sentences.
alter table lakebed.rejected_row rename column reason to message;
alter table lakebed.rejected_row add column kind text, add column rule text;
update lakebed.rejected_row set
    kind = case
        when message like '%breaks the rule not\_nullable%' then 'required'
        when message like '%breaks the rule %' then 'rule'
        when message like '%constraint%' then 'constraint'
        when message like '%no row of %' then 'missing_parent'
        when column_name is null then 'malformed'
        else 'type'
    end,
    rule = coalesce(substring(message from 'breaks the (?:rule|constraint) ([^;:]+)'), 'unknown');
alter table lakebed.rejected_row
    alter column kind set not null,
    alter column rule set not null,
    add check (kind in ('malformed', 'type', 'required', 'rule', 'constraint', 'missing_parent'));
comment on column lakebed.rejected_row.kind is 'What kind of rule the row broke first: malformed (not a row), type, required (null), rule (of the model, or the time of the table), constraint (of PostgreSQL), missing_parent (lookup or foreign key).';
comment on column lakebed.rejected_row.rule is 'The rule that the row broke first: the name of the check or constraint, or a word such as lossless.';
comment on column lakebed.rejected_row.column_name is 'The column that broke the rule; null where it concerns the whole row.';
comment on column lakebed.rejected_row.message is 'Everything that is wrong with the row, in words, with its values.';

-- Which loads read the quarantine again: their rows are not new ones of the source.
alter table lakebed.load add column is_retry boolean not null default false;
comment on column lakebed.load.is_retry is 'Whether the load read rejected rows of the quarantine again, instead of the source.';
