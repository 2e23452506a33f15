-- Moves asked for from SQL, their answers, and what people in psql see of both tiers.

create table lakebed.tier_policy (
    table_name  text primary key,
    time_column text not null,
    grain       text not null,
    hot_for     interval not null,
    looked_at   timestamptz
);
comment on table lakebed.tier_policy is 'When the tables settle, as their files say: noted when a table is made or loaded, and whenever its sensor looks.';
comment on column lakebed.tier_policy.looked_at is 'When the sensor, or a move by command, last looked for what waits.';

alter table lakebed.tier_request add column taken_at timestamptz;
comment on table lakebed.tier_request is 'Moves that were asked for by lakebed.request_move, and what came of them.';
comment on column lakebed.tier_request.taken_at is 'When its moves were last started; null where nobody has yet.';
comment on column lakebed.tier_request.answered_at is 'When it ended; null while it waits or is being moved.';
comment on column lakebed.tier_request.answer is 'What was moved, or why not.';
create index tier_request_open on lakebed.tier_request (table_name) where answered_at is null;

create or replace function lakebed.request_move(table_name text, older_than interval)
returns bigint language plpgsql as $$
declare
    policy  lakebed.tier_policy;
    request bigint;
begin
    select * into policy from lakebed.tier_policy t where t.table_name = request_move.table_name;
    if not found then
        raise exception 'lakebed.request_move: no table % that settles is known',
            coalesce(quote_ident(request_move.table_name), 'null')
            using errcode = 'undefined_table', hint = format(
                'Known are: %s. A table is known once it was loaded, or "lakebed up" has seen its file.',
                coalesce((select string_agg(t.table_name, ', ' order by 1) from lakebed.tier_policy t), 'none'));
    end if;
    if older_than is null or not isfinite(older_than)
        or older_than < interval '0' or older_than > interval '1000 years' then
        raise exception 'lakebed.request_move: older_than is %', coalesce(older_than::text, 'null')
            using errcode = 'invalid_parameter_value',
            hint = 'Give an interval from 0 to 1000 years: what ended longer ago than that is moved.';
    end if;
    if policy.looked_at is null or policy.looked_at < clock_timestamp() - interval '10 minutes' then
        raise notice 'nobody looked for requests for % since %', policy.table_name,
            coalesce(policy.looked_at::text, 'it is known')
            using hint = 'The sensors of "lakebed up" answer, or "lakebed move TABLE --due".';
    end if;
    insert into lakebed.tier_request (table_name, older_than)
    values (policy.table_name, request_move.older_than)
    returning tier_request_id into request;
    perform pg_notify('lakebed_request', request::text);
    return request;
end
$$;
comment on function lakebed.request_move is 'Ask for a move of all partitions of a table that ended longer ago than this. Returns the number of the request, for lakebed.answer_to.';

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
            raise exception 'lakebed.answer_to: there is no request %', coalesce(request::text, 'null')
                using errcode = 'no_data_found', hint = 'lakebed.request_move returns its number.';
        end if;
        if pg_current_xact_id_if_assigned() = (select xmin::text::xid8 from lakebed.tier_request t
            where t.tier_request_id = request) then
            raise exception 'lakebed.answer_to: the request % is not committed, nobody sees it yet', request
                using errcode = 'active_sql_transaction', hint = 'Commit it first, then wait.';
        end if;
        if found_one.answered_at is not null then
            return found_one.answer;
        end if;
        if clock_timestamp() >= deadline then
            raise exception 'lakebed.answer_to: no answer to request % within %', request, patience
                using errcode = 'query_canceled', hint = case when found_one.taken_at is null
                    then 'Nobody has taken it: is "lakebed up" running?'
                    else 'It is being moved; wait on.' end;
        end if;
        perform pg_sleep(0.5);
    end loop;
end
$$;
comment on function lakebed.answer_to is 'Wait for the answer to a request that is committed, and return it. Who listens on the channel lakebed_answer is told its number when it is there.';

-- Whether a table has any row in a stretch of time: exact, and found without counting.
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
comment on function lakebed.holds_rows is 'Whether a table has any row of lower_bound <= time < upper_bound.';

create view lakebed.tier_status as
with settling as (
    select p.*, to_regclass(format('public.%I', p.table_name)) as relation
    from lakebed.tier_policy p
),
leaf as (
    select
        s.table_name,
        c.oid::regclass as leaf,
        bounds[1]::timestamptz as lower_bound,
        bounds[2]::timestamptz as upper_bound,
        pg_stat_get_live_tuples(c.oid) as hot_rows,
        pg_total_relation_size(c.oid) as hot_bytes
    from settling s
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
        l.leaf, l.hot_rows, l.hot_bytes,
        c.rows as cold_rows, c.bytes as cold_bytes, c.generation, c.moved_at, c.path
    from leaf l
    full join cold c
        on c.table_name = l.table_name and c.lower_bound = l.lower_bound and c.upper_bound = l.upper_bound
),
known as (
    select
        p.*, s.grain, s.hot_for,
        (select count(*) from lakebed.cold_delete d where d.table_name = p.table_name
            and d.moment >= p.lower_bound and d.moment < p.upper_bound) as deletes,
        case
            when p.leaf is not null then lakebed.holds_rows(p.leaf, s.time_column, p.lower_bound, p.upper_bound)
            when k.relkind = 'r' then lakebed.holds_rows(s.relation, s.time_column, p.lower_bound, p.upper_bound)
            else false
        end as is_hot
    from part p
    left join settling s on s.table_name = p.table_name
    left join pg_class k on k.oid = s.relation
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
    leaf::text as leaf, path
from known;

comment on view lakebed.tier_status is 'Where the rows of the tables that settle are: one row for each leaf and each cold partition.';
comment on column lakebed.tier_status.state is 'hot; due: hot, and its end is older than the table''s policy; cold; late: cold, with hot rows or deletes that wait to be folded in; empty.';
comment on column lakebed.tier_status.hot_rows is 'By PostgreSQL''s statistics; that there are none, or some, is exact. 1 where nothing more is known.';
comment on column lakebed.tier_status.deletes is 'Rows of the cold file that lakebed.delete_row deleted, and that are still in it.';
comment on column lakebed.tier_status.moved_at is 'When the live generation of its cold file was committed.';
comment on column lakebed.tier_status.path is 'Of the cold file, relative to the lake.';
