"""DuckLake's control tables as PostgreSQL views: over the manifest, and over the client catalog.

A DuckLake 1.0 catalog is a set of SQL tables with fixed names. Here each of them is a view. None
changes when tables change: they read `lakebed.client_catalog`, one row that is replaced as a whole,
and `lakebed.cold_file`, the manifest. What a move commits is what the next query of a client sees.
"""

from __future__ import annotations

from psycopg import sql

SCHEMA = "lakebed_ducklake"
"""The schema of all views; clients name it as METADATA_SCHEMA."""

FORM = 2
"""The version of the views below. Raise it when one of them changes."""

_TABLE_ID = "table_id bigint"
_LIFE = "begin_snapshot bigint, end_snapshot bigint"

_EMPTY = {
    "table_stats": f"{_TABLE_ID}, record_count bigint, next_row_id bigint, file_size_bytes bigint",
    "table_column_stats": f"{_TABLE_ID}, column_id bigint, contains_null boolean,"
    " contains_nan boolean, min_value varchar, max_value varchar, extra_stats varchar",
    "delete_file": f"delete_file_id bigint, {_TABLE_ID}, {_LIFE}, data_file_id bigint,"
    " path varchar, path_is_relative boolean, format varchar, delete_count bigint,"
    " file_size_bytes bigint, footer_size bigint, encryption_key varchar, partial_max bigint",
    "tag": f"object_id bigint, {_LIFE}, key varchar, value varchar",
    "partition_info": f"partition_id bigint, {_TABLE_ID}, {_LIFE}",
    "partition_column": f"partition_id bigint, {_TABLE_ID}, partition_key_index bigint,"
    " column_id bigint, transform varchar",
    "file_partition_value": f"data_file_id bigint, {_TABLE_ID}, partition_key_index bigint,"
    " partition_value varchar",
    "files_scheduled_for_deletion": "data_file_id bigint, path varchar, path_is_relative boolean,"
    " schedule_start timestamptz",
    "macro": f"schema_id bigint, macro_id bigint, macro_name varchar, {_LIFE}",
    "macro_impl": "macro_id bigint, impl_id bigint, dialect varchar, sql varchar, type varchar",
    "macro_parameters": "macro_id bigint, impl_id bigint, column_id bigint,"
    " parameter_name varchar, parameter_type varchar, default_value varchar,"
    " default_value_type varchar",
    "sort_info": f"sort_id bigint, {_TABLE_ID}, {_LIFE}",
    "sort_expression": f"sort_id bigint, {_TABLE_ID}, sort_key_index bigint, expression varchar,"
    " dialect varchar, sort_direction varchar, null_order varchar",
    "file_variant_stats": f"data_file_id bigint, {_TABLE_ID}, column_id bigint,"
    " variant_path varchar, shredded_type varchar, column_size_bytes bigint, value_count bigint,"
    " null_count bigint, min_value varchar, max_value varchar, contains_nan boolean,"
    " extra_stats varchar",
}
"""What is always empty. Statistics of whole tables must be: a client keeps them, and would leave
out rows that came later."""

_ENTRIES = "from lakebed.client_catalog c, jsonb_to_recordset(c.document -> '{}') as e ({})"
_TABLES = _ENTRIES.format("tables", "id bigint, schema bigint, name varchar")
_UUID = "('00000000-0000-0000-000{}-' || lpad(to_hex(e.id), 12, '0'))::uuid"
_SINCE = "1::bigint as begin_snapshot, null::bigint as end_snapshot"
_COLUMNS = _ENTRIES.format(
    "columns",
    '"table" bigint, id bigint, "order" bigint, name varchar, type varchar, parent bigint',
)
_COLD = (
    "from lakebed.client_catalog c,"
    ' jsonb_to_recordset(c.document -> \'cold\') as e ("of" text, "table" bigint, time bigint)'
    ' join lakebed.cold_file f on f.table_name = e."of" and f.superseded_at is null'
)
_FILE_ID = (
    'e."table" * 1000000000 + row_number() over'
    ' (partition by e."table" order by f.partition_key, f.generation)'
)
_MAPPING = "(c.document ->> 'version')::bigint * 1000000 + e.\"table\""
"""Clients keep a mapping of names by its number, so each version has new ones."""
_NEXT_ID = (
    "from lakebed.client_catalog c,"
    " lateral (select ((c.document ->> 'version')::bigint + 1) * 1000000 as id) n"
)
"""Clients look for new mappings only from the number that was next when they looked last."""

_STAMP = "to_char(f.time_{} at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00'"
_PLAIN_TIMES = "f.time_min >= '0001-01-01 00:00:00+00' and f.time_max < '9999-12-31 00:00:00+00'"

_QUERIES = {
    "metadata": "select m.key::varchar, m.value::varchar, null::varchar as scope,"
    " null::bigint as scope_id from lakebed.client_catalog c, lateral (values ('version', '1.0'),"
    " ('created_by', 'lakebed'), ('encrypted', 'false'),"
    " ('data_path', c.document ->> 'data_path')) m (key, value)",
    "snapshot": "select 1::bigint as snapshot_id, c.written_at as snapshot_time, c.schema_version,"
    " 1000000::bigint as next_catalog_id, n.id as next_file_id " + _NEXT_ID,
    "snapshot_changes": "select 1::bigint as snapshot_id, ''::varchar as changes_made,"
    " null::varchar as author, null::varchar as commit_message,"
    " null::varchar as commit_extra_info",
    "schema": f"select e.id as schema_id, {_UUID.format(0)} as schema_uuid, {_SINCE},"
    " e.name as schema_name, ''::varchar as path, true as path_is_relative "
    + _ENTRIES.format("schemas", "id bigint, name varchar"),
    "schema_versions": "select 1::bigint as begin_snapshot, e.version as schema_version,"
    " e.id as table_id " + _ENTRIES.format("tables", "id bigint, version bigint"),
    "table": f"select e.id as table_id, {_UUID.format(1)} as table_uuid, {_SINCE},"
    " e.schema as schema_id, e.name as table_name, ''::varchar as path,"
    f" true as path_is_relative {_TABLES}",
    "column": f'select e.id as column_id, {_SINCE}, e."table" as table_id,'
    ' e."order" as column_order, e.name as column_name, e.type as column_type,'
    " null::varchar as initial_default, 'NULL'::varchar as default_value, true as nulls_allowed,"
    " e.parent as parent_column, 'literal'::varchar as default_value_type,"
    f" 'duckdb'::varchar as default_value_dialect {_COLUMNS}",
    "column_tag": 'select e."table" as table_id, e.id as column_id,'
    f" {_SINCE}, 'comment'::varchar as key, e.comment as value "
    + _ENTRIES.format("columns", '"table" bigint, id bigint, comment varchar')
    + " where e.comment is not null",
    "inlined_data_tables": 'select e."table" as table_id, e.name as table_name,'
    " e.version as schema_version "
    + _ENTRIES.format("inlined", '"table" bigint, name varchar, version bigint'),
    "view": f"select e.id as view_id, {_UUID.format(2)} as view_uuid, {_SINCE},"
    " 0::bigint as schema_id, e.name as view_name, 'duckdb'::varchar as dialect, e.sql,"
    " ''::varchar as column_aliases "
    + _ENTRIES.format("views", "id bigint, name varchar, sql varchar"),
    "column_mapping": f'select {_MAPPING} as mapping_id, e."table" as table_id,'
    " 'map_by_name'::varchar as type " + _ENTRIES.format("cold", '"table" bigint'),
    "name_mapping": f"select {_MAPPING} as mapping_id, e.id as column_id,"
    " e.name as source_name, e.id as target_field_id, e.parent as parent_column,"
    f" false as is_partition {_COLUMNS}",
    "data_file": f'select {_FILE_ID} as data_file_id, e."table" as table_id, {_SINCE},'
    " null::bigint as file_order, f.path::varchar as path, true as path_is_relative,"
    " 'parquet'::varchar as file_format, f.rows as record_count, f.bytes as file_size_bytes,"
    " null::bigint as footer_size, 0::bigint as row_id_start, null::bigint as partition_id,"
    f" null::varchar as encryption_key, {_MAPPING} as mapping_id, null::bigint as partial_max,"
    f" e.time as time_column, case when {_PLAIN_TIMES} then {_STAMP.format('min')} end as time_min,"
    f" case when {_PLAIN_TIMES} then {_STAMP.format('max')} end as time_max {_COLD}",
    "file_column_stats": "select data_file_id, table_id, time_column as column_id,"
    " null::bigint as column_size_bytes, record_count as value_count, 0::bigint as null_count,"
    " time_min::varchar as min_value, time_max::varchar as max_value,"
    " null::boolean as contains_nan, null::varchar as extra_stats"
    " from lakebed_ducklake.ducklake_data_file where time_min is not null",
}


def control_views() -> list[sql.Composed]:
    """Return the statements that make or replace every control view."""
    queries = {
        name: "select "
        + ", ".join("null::{1} as {0}".format(*part.split()) for part in columns.split(", "))
        + " where false"
        for name, columns in _EMPTY.items()
    }
    return [
        sql.SQL("create or replace view {} as {}").format(
            sql.Identifier(SCHEMA, f"ducklake_{name}"),
            sql.SQL(query),
        )
        for name, query in (_QUERIES | queries).items()
    ]
