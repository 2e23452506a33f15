"""source/<table> and hot/<table>: where rows come from, and their load, as Dagster assets."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import dagster as dg

from platform_assets.catalog import SourceTable
from platform_assets.ingest.incremental import last_load_of
from platform_assets.ingest.load import load_table
from platform_assets.ingest.report import LoadReport
from platform_assets.keys import hot_key, source_key
from platform_assets.platform import Platform
from platform_assets.quality.checks import (
    hot_check_results,
    hot_check_specs,
    reject_groups,
    table_schema,
)


def source_spec(platform: Platform, table: SourceTable) -> dg.AssetSpec:
    """Return the external asset of a table's source files."""
    return dg.AssetSpec(
        source_key(table.name),
        description=f"{table.sourced.title}, as the source delivers them.".capitalize(),
        group_name="source",
        kinds={table.sourced.kind, "file"},
        owners=_owners(table),
        metadata={"glob": str(platform.settings.data / table.sourced.glob)},
    )


def hot_spec(table: SourceTable) -> dg.AssetSpec:
    """Return the external asset of a table without a source: others write it, we only tier it."""
    return dg.AssetSpec(
        hot_key(table.name),
        description=table.description,
        group_name="hot",
        kinds={"postgres"},
        owners=_owners(table),
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/table_name": f"public.{table.name}",
        },
    )


def hot_asset(platform: Platform, table: SourceTable) -> dg.AssetsDefinition:
    """Return the asset that loads a table by cursor: each run takes what is new."""
    key = dg.AssetKey(hot_key(table.name))
    kinds = {"dlt", "postgres", "pandera"}

    @dg.asset(
        key=key,
        deps=[dg.AssetKey(source_key(table.name))],
        description=table.description,
        group_name="hot",
        kinds=kinds,
        owners=_owners(table),
        tags={"write_mode": table.write_mode},
        metadata={
            "dagster/column_schema": table_schema(table),
            "dagster/table_name": f"public.{table.name}",
            "key": ", ".join(table.key) or "none",
            "cursor": table.cursor or "none",
        },
        pool=f"hot_{table.name}",
        check_specs=hot_check_specs(table, key),
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[Any]:
        report = load_table(platform.settings, platform.postgres, platform.clock, table)
        context.log.info(_summary(report))
        with platform.postgres.connect() as connection:
            failures = reject_groups(connection, report)
            last_load = last_load_of(connection, table)
        yield dg.MaterializeResult(
            # What depends on the table is out of date after a load, not after a look.
            data_version=dg.DataVersion(last_load or "empty"),
            metadata=_metadata(report),
            check_results=hot_check_results(table, report, failures, _lag(platform, report)),
        )
        if report.refused:
            raise dg.Failure(
                f"{len(report.refused)} files were refused, the others are loaded. "
                + " | ".join(f"{r.path}: {r.problem}" for r in report.refused[:5]),
                allow_retries=False,
            )

    return load


def _summary(report: LoadReport) -> str:
    if report.load_id is None:
        return f"{report.table}: nothing new"
    return (
        f"{report.table}: {report.rows_read} rows read from {report.files} files, "
        f"{report.inserted} inserted, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.rejected} rejected, in {report.seconds:.1f} s"
    )


def _metadata(report: LoadReport) -> dict[str, Any]:
    return {
        "rows_read": report.rows_read,
        "rows_inserted": report.inserted,
        "rows_updated": report.updated,
        "rows_unchanged": report.unchanged,
        "rows_rejected": report.rejected,
        "files": report.files,
        "bytes": report.bytes,
        "seconds": round(report.seconds, 3),
        "rows_per_second": round(report.rows_read / report.seconds) if report.seconds else 0,
        "cursor_from": report.cursor_from or "none",
        "cursor_to": report.cursor_to or "none",
        "load_id": report.load_id or "nothing new",
        "query": dg.MetadataValue.md(f"```sql\nselect * from {report.table} limit 100\n```"),
    }


def _lag(platform: Platform, report: LoadReport) -> float | None:
    """Return the age of the newest row in seconds, of a table whose cursor is a time."""
    if report.cursor_to is None:
        return None
    try:
        newest = datetime.fromisoformat(report.cursor_to)
    except ValueError:
        return None
    if newest.tzinfo is None:
        return None
    return max(0.0, (platform.clock.now() - newest).total_seconds())


def _owners(table: SourceTable) -> list[str] | None:
    return [table.owner] if table.owner else None
