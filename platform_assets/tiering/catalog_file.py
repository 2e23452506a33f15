"""The catalog file: `lake/catalog.duckdb`, a view a table and a model, for any DuckDB client.

It says what had settled when it was written: the cold tier and the models' tables, no hot rows.
It is written beside and replaces the old one at once, never changed in place, so a reader locks
nobody out and is locked out by nobody. `lakebed sql` and `resources.lake` read hot and cold as one.
"""

from __future__ import annotations

import duckdb
from psycopg import sql

from platform_assets.platform import Platform
from resources.lake import ModelTable
from resources.pruning import Bounds
from resources.tiers import cold_rows, listed, parquet

NAME = "catalog.duckdb"
LOCK = "lakebed.catalog"


def write_catalog(platform: Platform) -> str:
    """Write the catalog file anew from the manifest; return its address."""
    with platform.postgres.connect(autocommit=True) as connection:
        # Whoever reads the manifest last must also be the last to replace the file.
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [LOCK])
        views = _views(platform)
        with platform.lake.files.replacing(NAME) as file:
            catalog = duckdb.connect(str(file))
            try:
                platform.lake.files.make_readable(catalog)
                for name, query in views:
                    view = sql.SQL("create view {} as {}").format(sql.Identifier(name), query)
                    catalog.execute(view.as_string())
            finally:
                catalog.close()
    return platform.lake.files.address(NAME)


def _views(platform: Platform) -> list[tuple[str, sql.Composable]]:
    """Return the name of each view and its query, from one snapshot of the manifest."""
    with platform.lake.session() as session:
        views: list[tuple[str, sql.Composable]] = []
        for name in sorted(session.manifest.tables):
            queries = [
                cold_rows(
                    session.tables[name],
                    part.layout,
                    listed(session.manifest.addresses(part)),
                )
                for part in session.manifest.within(name, Bounds())
            ]
            views.append((name, sql.SQL(" union all ").join(queries)))
        views += [
            (name, parquet(listed([target.address])))
            for name, target in session.models.items()
            if isinstance(target, ModelTable)
        ]
    return views
