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

LOCK = "lakebed.catalog"


def write_catalog(platform: Platform) -> Path:
    """Write the catalog file anew from the manifest; return its path."""
    target = platform.lake.root / "catalog.duckdb"
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"catalog.{os.getpid()}.tmp")
    with platform.postgres.connect(autocommit=True) as connection:
        # Whoever reads the manifest last must also be the last to rename.
        connection.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [LOCK])
        views = _views(platform)
        unfinished.unlink(missing_ok=True)
        catalog = duckdb.connect(str(unfinished))
        try:
            for name, paths in views:
                files = sql.SQL(", ").join(sql.Literal(str(path)) for path in paths)
                view = sql.SQL(
                    "create view {} as select {} from read_parquet([{}], hive_partitioning = false)"
                ).format(sql.Identifier(name), _columns(platform, name), files)
                catalog.execute(view.as_string())
        finally:
            catalog.close()
        make_durable(unfinished, target, platform.lake.root)
    return target


def _columns(platform: Platform, name: str) -> sql.Composable:
    """Return all columns, those as what they are for which text stands in the files."""
    replaced = [
        sql.SQL("cast({0} as {1}) as {0}").format(
            sql.Identifier(column.name), sql.SQL(column.duckdb)
        )
        for table in platform.tables
        if table.name == name
        for column in table.columns
        if column.types.stored != "{0}"
    ]
    if not replaced:
        return sql.SQL("*")
    return sql.SQL("* replace ({})").format(sql.SQL(", ").join(replaced))


def _views(platform: Platform) -> list[tuple[str, list[Path]]]:
    """Return the name of each view and its files, from one snapshot of the manifest."""
    with platform.lake.session() as session:
        tables = [
            (name, [session.root / file.path for file in files])
            for name, files in session.cold.items()
        ]
        models = [
            (name, [target]) for name, target in session.models.items() if isinstance(target, Path)
        ]
    return tables + models
