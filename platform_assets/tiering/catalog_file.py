"""The catalog file: `lake/catalog.duckdb`, a view a table and a model, for any DuckDB client.

It says what had settled when it was written: the cold tier and the models' tables, no hot rows.
It is written beside and renamed, never changed in place, so a reader locks nobody out and is
locked out by nobody. `lakebed sql` and `resources.lake` read hot and cold as one.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb
from psycopg import sql

from platform_assets.platform import Platform
from resources.durable import make_durable
from resources.lake import ModelTable
from resources.tiers import cold_queries, parquet

LOCK = "lakebed.catalog"


def write_catalog(platform: Platform) -> Path:
    """Write the catalog file anew from the manifest; return its path."""
    target = platform.lake.files.root / "catalog.duckdb"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"catalog.{os.getpid()}.tmp")
    with platform.postgres.connect(autocommit=True) as connection:
        # Whoever reads the manifest last must also be the last to rename.
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [LOCK])
        views = _views(platform)
        unfinished.unlink(missing_ok=True)
        catalog = duckdb.connect(str(unfinished))
        try:
            for name, query in views:
                view = sql.SQL("create view {} as {}").format(sql.Identifier(name), query)
                catalog.execute(view.as_string())
        finally:
            catalog.close()
        make_durable(unfinished, target, platform.lake.files.root)
    return target


def _views(platform: Platform) -> list[tuple[str, sql.Composable]]:
    """Return the name of each view and its query, from one snapshot of the manifest."""
    with platform.lake.session() as session:
        views: list[tuple[str, sql.Composable]] = []
        for name, files in session.cold.items():
            queries = cold_queries(session.tables[name], session.lake, files)
            views.append((name, sql.SQL(" union all ").join(queries)))
        views += [
            (name, parquet([target.address]))
            for name, target in session.models.items()
            if isinstance(target, ModelTable)
        ]
    return views
