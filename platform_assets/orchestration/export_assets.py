"""exports/<name>: a declared export as a Dagster asset, rewritten when its rows change."""

from collections.abc import Collection, Iterator
from typing import Any

import dagster as dg

from lakebed.exports.target import target_of
from lakebed.exports.write import write_export
from lakebed.ingest.sources.places import is_url
from lakebed.models.model import ModelSet
from lakebed.orchestration.conditions import when_read_data_changed
from lakebed.orchestration.dagster_metadata import code_link, owners, pace
from lakebed.orchestration.dagster_runs import expected_refusals
from lakebed.spec.export import Export, Format
from lakebed.spec.names import cold_key, export_key, hot_key
from lakebed.store.platform import Platform

_KINDS: dict[Format, set[str]] = {
    "csv": {"csv"},
    "csv.gz": {"csv"},
    "parquet": {"parquet"},
    "duckdb": {"duckdb"},
}


def export_assets(
    platform: Platform, models: ModelSet, broken: Collection[str] = ()
) -> list[dg.AssetsDefinition]:
    """Return an asset for each declared export. broken: the names of those that cannot be used."""
    usable = [export for export in platform.exports if export.name not in broken]
    return [_export_asset(platform, models, export) for export in usable]


def _export_asset(platform: Platform, models: ModelSet, export: Export) -> dg.AssetsDefinition:
    target = target_of(export, platform.settings)

    @dg.asset(
        key=dg.AssetKey(export_key(export.name)),
        deps=list(_dependencies(platform, models, export)),
        description=_description(export),
        group_name="exports",
        kinds={"file", *_KINDS[export.kind]},
        owners=owners(export.owner),
        tags={"format": export.kind},
        metadata={
            "dagster/uri": target if is_url(target) else f"file://{target}",
            **_link(platform, export),
        },
        automation_condition=when_read_data_changed(),
        pool=f"export_{export.name}",
    )
    def write(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        with expected_refusals(platform):
            done = write_export(platform, export)
        columns = [dg.TableColumn(name, kind) for name, kind in done.columns]
        where = dg.MetadataValue.url if is_url(done.target) else dg.MetadataValue.path
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": done.rows,
                **pace(done.rows, done.bytes, done.seconds),
                "file": where(done.target),
            }
            | ({"dagster/column_schema": dg.TableSchema(columns)} if columns else {})
        )

    return write


def _dependencies(platform: Platform, models: ModelSet, export: Export) -> Iterator[dg.AssetKey]:
    tables = {table.name: table for table in platform.tables}
    for name in export.names:
        if name not in tables:
            yield dg.AssetKey(list(models.get(name).key))
            continue
        yield dg.AssetKey(hot_key(name))
        if tables[name].tiering is not None:
            yield dg.AssetKey(cold_key(name))


def _link(platform: Platform, export: Export) -> dict[str, Any]:
    file = platform.export_files.get(export.name)
    return code_link(file, f"{export.name}, its declaration") if file else {}


def _description(export: Export) -> str:
    what = ", ".join(f"`{name}`" for name in export.names)
    return f"{export.description}\n\n{what} as {export.kind}: `{export.path}`".strip()
