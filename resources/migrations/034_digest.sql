-- The integer of a text in a fingerprint: the first 15 hexadecimal digits of its MD5. One statement
-- of SQL, which PostgreSQL writes into the query that calls it. Servers before 16 take such digits
-- as bits alone, which is slower.

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
            'What a value is in a fingerprint: the first 15 hexadecimal digits of its MD5.');
    end loop;
end
$migration$;
