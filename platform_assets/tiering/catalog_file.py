"""The catalog file: `lake/catalog.duckdb`, a view for each table and model, for any DuckDB client.

It shows the lake at the time of writing: the cold tier, the last lake copy of each unpartitioned
table, and the models. It holds no hot rows. A model that is a view is a view there too, over cold
rows only. A new file replaces the old one atomically and is never changed in place, so readers and
the writer never lock each other out. `lakebed sql` and `connect()` read both tiers as one table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import duckdb
import psycopg
from psycopg import sql

from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.layouts import ask, typed
from lakebed.resources.live_models import ModelTable
from lakebed.resources.locks import catalog_lock
from lakebed.resources.pruning import Bounds
from lakebed.resources.session import ReadSession
from lakebed.resources.tiers import cold_rows, listed
from lakebed.store.platform import Platform

NAME = "catalog.duckdb"


def write_catalog(platform: Platform) -> str:
    """Rewrite the catalog file from the manifest.

    Returns:
        The address of the file.

    Raises:
        LakeFileError: Another process holds the file's lock too long, or it cannot be written.
    """
    platform.lake.owner.check()
    with platform.postgres.connect(autocommit=True) as connection, ExitStack() as held:
        patience = platform.settings.patience.for_catalog_file
        limit = sql.Literal(f"{patience * 1000:.0f}ms")
        connection.execute(sql.SQL("set lock_timeout = {}").format(limit))
        try:
            # The last process to read the manifest must also be the last to replace the file.
            held.enter_context(catalog_lock().held(connection))
        except psycopg.errors.LockNotAvailable:
            raise LakeFileError(
                f"{platform.lake.files.address(NAME)}: another process has been writing it for "
                f"{patience:g} s; the old file stays. Check whether that process is stopped, then "
                "run `lakebed housekeep`"
            ) from None
        files, models = _views(platform)
        with platform.lake.files.replacing(NAME) as file:
            catalog = duckdb.connect(str(file))
            try:
                platform.lake.files.make_readable(catalog)
                for name, query in files.items():
                    _create(catalog, name, query)
                _create_models(catalog, models)
            finally:
                catalog.close()
    return platform.lake.files.address(NAME)


def _views(platform: Platform) -> tuple[dict[str, sql.Composable], dict[str, sql.Composable]]:
    """Return the queries of tables and of view models by name, all from one snapshot."""
    kept = [table.name for table in platform.tables if table.kept_lake_copies]
    with platform.lake.sessions() as sessions, sessions.open(define=False) as session:
        snapshots = _snapshots(session, kept)
        files: dict[str, sql.Composable] = {}
        for name, table in session.tables.items():
            parts = session.manifest.within(name, Bounds())
            queries = [
                cold_rows(table, part.layout, listed(session.manifest.addresses(part)))
                for part in parts
            ]
            if name in snapshots:
                queries.append(snapshots[name])
            # A table without cold rows is an empty view: the SQL of models needs its columns.
            empty = sql.SQL("select {} where false").format(typed(table.columns, ()))
            files[name] = sql.SQL(" union all ").join(queries) if queries else empty
        texts: dict[str, sql.Composable] = {}
        for name, target in session.models.items():
            if isinstance(target, ModelTable):
                files[name] = target.rows
            else:
                texts[name] = sql.SQL(target)
    return files, texts


def _snapshots(session: ReadSession, kept: Sequence[str]) -> dict[str, sql.Composable]:
    """Return the query of the live lake copy of each of these tables that has one."""
    if not kept:
        return {}
    query = sql.SQL(
        "select table_name, path, columns::text as columns from lakebed.lake_copy"
        " where superseded_at is null and table_name in ({})"
    ).format(sql.SQL(", ").join(map(sql.Literal, kept)))
    return {
        name: cold_rows(
            session.tables[name],
            frozenset((column["name"], column["type"]) for column in json.loads(columns)),
            listed([session.lake.address(path)]),
        )
        for name, path, columns in ask(session.bare, query)
    }


def _create(catalog: duckdb.DuckDBPyConnection, name: str, query: sql.Composable) -> None:
    view = sql.SQL("create view {} as {}").format(sql.Identifier(name), query)
    catalog.execute(view.as_string())


def _create_models(
    catalog: duckdb.DuckDBPyConnection, waiting: Mapping[str, sql.Composable]
) -> None:
    """Create the views of models, each after those that it reads.

    A view that does not bind, because its table is gone, is left out, as a reader leaves it out.
    """
    while waiting:
        left = {}
        for name, query in waiting.items():
            try:
                _create(catalog, name, query)
            except duckdb.Error:
                left[name] = query
        if len(left) == len(waiting):
            return
        waiting = left
