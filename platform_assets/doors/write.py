"""Writing the DuckLake catalog: one transaction, and no reader waits for it.

    1. the control views are made, where they are missing or of an older form
    2. what the table files and PostgreSQL say is held against the digest; equal: nothing to do
    3. views of hot rows get new names with the new schema version; a new name disturbs nobody
    4. one row of lakebed.client_catalog names them from then on

Views of an older version stay for LAKEBED_FILE_GRACE: a client whose snapshot is older names them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lakebed.doors.control_views import FORM, SCHEMA, control_views
from lakebed.doors.exposed_tables import MAIN, TIERS, ClientTables
from lakebed.errors import LakebedError
from lakebed.resources.hot_columns import hot_columns_of
from lakebed.resources.postgres import LOCK_TIMEOUT, Connection, change_schema
from lakebed.schema.evolved import effective
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform


class ClientCatalogError(LakebedError, RuntimeError):
    """The catalog for DuckLake clients could not be written or granted; the text says why."""


@dataclass(frozen=True)
class WrittenCatalog:
    """What clients see now.

    Attributes:
        version: The schema version; it grows with each change of what is exposed.
        tables: The names that clients can query.
        left_out: Tables that clients do not see, and why.
        changed: Whether anything was written.
    """

    version: int
    tables: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    changed: bool = True


_IS_BEHIND = """\
with shown as (
  select e.name from lakebed.client_catalog c,
    jsonb_to_recordset(c.document -> 'columns') as e ("of" text, name text)
  where e."of" = %(table)s
)
select digest = '' or %(table)s::text is null or not exists (select from shown)
  or exists (select from lakebed.evolved_column v
             where v.table_name = %(table)s and v.column_name not in (select name from shown))
from lakebed.client_catalog"""
"""Whether the catalog may lack something; no row where no client uses it."""


def write_catalog(platform: Platform) -> WrittenCatalog:
    """Bring the catalog for DuckLake clients up to the tables as they are now.

    Does nothing where it shows them already.

    Raises:
        ClientCatalogError: The role may not make the schema.
        LockWaitError: A client held a control view that has to change.
    """
    with platform.postgres.connect(autocommit=True) as connection:
        # What evolved and what PostgreSQL has of it are read in one snapshot.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        try:
            _make_schema(connection)
            with connection.transaction():
                connection.execute(
                    sql.SQL("set local lock_timeout = {}").format(sql.Literal("10s"))
                )
                connection.execute("lock table lakebed.client_catalog in exclusive mode")
                written = _write(connection, platform)
        except psycopg.errors.InsufficientPrivilege as error:
            ((role, database),) = connection.execute(
                "select current_user, current_database()"
            ).fetchall()
            raise ClientCatalogError(
                f"The role {role} may not write the schema {SCHEMA}: "
                f"{str(error).strip().splitlines()[0]}. "
                f"GRANT CREATE ON DATABASE {database} TO {role}, or let the role that wrote the "
                "schema first run `lakebed attach`"
            ) from error
        except psycopg.errors.LockNotAvailable as error:
            raise ClientCatalogError(
                "Another process is writing the catalog for DuckLake clients. Try again"
            ) from error
        _drop_retired(connection, platform.settings.file_grace)
    return written


def refresh_catalog(platform: Platform, table: SourceTable | None = None) -> list[str]:
    """Write the catalog again where clients use it; return what failed, in words.

    table: the table that was loaded; the catalog is written where it lacks it or a column of it.
    """
    try:
        with platform.postgres.connect(autocommit=True) as connection:
            behind = connection.execute(
                _IS_BEHIND, {"table": None if table is None else table.name}
            ).fetchone()
        if behind is not None and behind[0]:
            write_catalog(platform)
    except (LakebedError, psycopg.Error) as error:
        return [
            f"the catalog for DuckLake clients was not written: {platform.text_of(error)}. "
            "`lakebed attach` writes it"
        ]
    return []


def grant_reader(platform: Platform, role: str) -> None:
    """Let a role read through the catalog, and nothing else.

    Raises:
        ClientCatalogError: There is no such role.
    """
    write_catalog(platform)
    name, schema = sql.Identifier(role), sql.Identifier(SCHEMA)
    with platform.postgres.connect() as connection:
        try:
            for statement in (
                "grant usage on schema {schema} to {role}",
                "grant select on all tables in schema {schema} to {role}",
            ):
                connection.execute(sql.SQL(statement).format(schema=schema, role=name))
        except psycopg.errors.UndefinedObject as error:
            raise ClientCatalogError(
                f"There is no role {role!r} in {platform.postgres.name}. Make it with "
                f"CREATE ROLE {name.as_string(connection)} LOGIN PASSWORD '...'"
            ) from error


def _make_schema(connection: Connection) -> None:
    """Make the schema and the control views, where they are missing or of an older form."""
    comment = f"DuckLake catalog of Lakebed, form {FORM}: written by lakebed, read by any client"
    ((found,),) = connection.execute(
        "select obj_description(to_regnamespace(%s), 'pg_namespace')", [SCHEMA]
    ).fetchall()
    if found == comment:
        return
    schema = sql.Identifier(SCHEMA)
    change_schema(
        connection,
        [
            sql.SQL("create schema if not exists {}").format(schema),
            *control_views(),
            sql.SQL("comment on schema {} is {}").format(schema, sql.Literal(comment)),
        ],
    )


def _write(connection: Connection, platform: Platform) -> WrittenCatalog:
    seen = _read_tables(connection, platform)
    data_path = platform.lake.files.address("-").removesuffix("-")
    document: dict[str, object] = {"data_path": data_path, **seen.entries}
    names = tuple(
        sorted(
            entry["name"]
            for kind in ("tables", "views")
            for entry in seen.entries[kind]
            if entry.get("schema", MAIN) == MAIN
        )
    )
    queries = [(of, rows.table_id, rows.query.as_string(connection)) for of, rows in seen.rows]
    text = json.dumps([document, queries], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    row = connection.execute("select schema_version, digest from lakebed.client_catalog").fetchone()
    if row is not None and row[1] == digest:
        return WrittenCatalog(row[0], names, seen.left_out, changed=False)
    version = 1 if row is None else row[0] + 1
    connection.execute(
        "update lakebed.client_view set retired_at = clock_timestamp() where retired_at is null"
    )
    document["version"] = version
    document["schemas"] = [{"id": MAIN, "name": "main"}, {"id": TIERS, "name": "tiers"}]
    document["tables"] = [entry | {"version": version} for entry in seen.entries["tables"]]
    document["inlined"] = [
        {"of": of, "table": rows.table_id, "name": _view_name(rows.table_id, version)}
        | {"version": version}
        for of, rows in seen.rows
    ]
    readers = _readers(connection)
    for of, rows in seen.rows:
        view = sql.Identifier(SCHEMA, _view_name(rows.table_id, version))
        connection.execute(sql.SQL("create view {} as {}").format(view, rows.query))
        for reader in readers:
            connection.execute(
                sql.SQL("grant select on {} to {}").format(view, sql.Identifier(reader))
            )
        connection.execute(
            "insert into lakebed.client_view (view_name, table_name) values (%s, %s)",
            [_view_name(rows.table_id, version), of],
        )
    connection.execute(
        "insert into lakebed.client_catalog (schema_version, digest, document)"
        " values (%(version)s, %(digest)s, %(document)s) on conflict (only_row) do update set"
        " schema_version = excluded.schema_version, digest = excluded.digest,"
        " document = excluded.document, written_at = clock_timestamp()",
        {"version": version, "digest": digest, "document": Jsonb(document)},
    )
    return WrittenCatalog(version, names, seen.left_out)


def _read_tables(connection: Connection, platform: Platform) -> ClientTables:
    connection.execute("set local constraint_exclusion = on")
    seen = ClientTables()
    places = [(table.schema, table.name) for table in platform.tables]
    hot = hot_columns_of(connection, places)
    for table in sorted(platform.tables, key=lambda one: one.name):
        columns = hot.get((table.schema, table.name))
        if columns is None:
            seen.left_out[table.name] = f"it was not loaded yet; `lakebed load {table.name}`"
        else:
            seen.add(connection, effective(connection, table), columns)
    return seen


def _view_name(table_id: int, version: int) -> str:
    return f"ducklake_inlined_data_{table_id}_{version}"


def _readers(connection: Connection) -> list[str]:
    """Return the roles that may read the control views: they may read new views, too."""
    rows = connection.execute(
        "select distinct r.rolname::text from pg_class c, aclexplode(c.relacl) a"
        " join pg_roles r on r.oid = a.grantee"
        " where c.oid = to_regclass(%s) and a.privilege_type = 'SELECT' and r.oid <> c.relowner",
        [f"{SCHEMA}.ducklake_table"],
    ).fetchall()
    return [name for (name,) in rows]


def _drop_retired(connection: Connection, grace: timedelta) -> None:
    """Drop views that no client names any more; one that a client holds stays a while longer."""
    rows = connection.execute(
        "select view_name from lakebed.client_view where retired_at < clock_timestamp() - %s",
        [grace],
    ).fetchall()
    for (name,) in rows:
        try:
            with connection.transaction():
                connection.execute(
                    sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
                )
                connection.execute(
                    sql.SQL("drop view if exists {}").format(sql.Identifier(SCHEMA, name))
                )
                connection.execute("delete from lakebed.client_view where view_name = %s", [name])
        except psycopg.errors.LockNotAvailable:
            continue
