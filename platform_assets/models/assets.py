"""<group>/<model>: one Dagster asset a SQL model, its tests as asset checks."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from platform_assets.automation.conditions import when_read_data_changed
from platform_assets.catalog import SourceTable
from platform_assets.keys import cold_key, hot_key
from platform_assets.models.lineage import UpstreamColumn, source_lineage
from platform_assets.models.model import Model, ModelSet, SqlTest
from platform_assets.models.runner import Offending, build_model, run_test
from platform_assets.models.schemas import model_schemas
from platform_assets.platform import Platform
from platform_assets.tiering.catalog_file import write_catalog


def model_assets(platform: Platform, models: ModelSet) -> list[dg.AssetsDefinition]:
    """Return an asset for each model. Raises ModelError where SQL and tables disagree."""
    tables = {t.name: {c.name: c.duckdb for c in t.columns} for t in platform.tables}
    schemas = model_schemas(models, tables)
    lineage = source_lineage(models, schemas)
    return [
        _model_asset(platform, models, model, schemas[model.name], lineage[model.name])
        for model in models.models
    ]


def _model_asset(
    platform: Platform,
    models: ModelSet,
    model: Model,
    columns: Mapping[str, str],
    lineage: Mapping[str, list[UpstreamColumn]],
) -> dg.AssetsDefinition:
    key = dg.AssetKey(list(model.key))
    tests = models.tests_of(model.name)

    @dg.asset(
        key=key,
        deps=_dependencies(platform, models, model),
        description=f"{model.description}\n\n```sql\n{model.sql.strip()}\n```",
        group_name=model.group,
        kinds={"sql", "duckdb", "parquet"} if model.materialized == "table" else {"sql", "duckdb"},
        owners=[model.owner] if model.owner else None,
        tags={tag: "" for tag in model.tags} | {"materialized": model.materialized},
        code_version=f"{model.materialized}-{model.code_version[:16]}",
        metadata={
            "dagster/column_schema": _column_schema(columns, lineage),
            "dagster/column_lineage": _column_lineage(platform, lineage),
        },
        automation_condition=when_read_data_changed(),
        pool=f"model_{model.name}",
        check_specs=[
            dg.AssetCheckSpec(test.name, asset=key, description=test.description) for test in tests
        ],
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        built = build_model(platform, model)
        write_catalog(platform)
        metadata: dict[str, Any] = {
            "seconds": round(built.seconds, 3),
            "generation": built.generation,
            "query": dg.MetadataValue.md(f"```sql\nselect * from {model.name} limit 100\n```"),
        }
        if built.rows is not None and built.bytes is not None:
            metadata |= {"dagster/row_count": built.rows, "bytes": built.bytes}
        yield dg.MaterializeResult(
            metadata=metadata,
            check_results=[_check_result(test, run_test(platform, test)) for test in tests],
        )

    return build


def _dependencies(platform: Platform, models: ModelSet, model: Model) -> list[dg.AssetKey]:
    keys = [dg.AssetKey(hot_key(name)) for name in model.sources]
    keys += [dg.AssetKey(cold_key(name)) for name in model.sources if _tiered(platform.table(name))]
    return keys + [dg.AssetKey(list(models.get(name).key)) for name in model.refs]


def _tiered(table: SourceTable) -> bool:
    return table.tiering is not None


def _column_schema(
    columns: Mapping[str, str], lineage: Mapping[str, list[UpstreamColumn]]
) -> dg.TableSchema:
    """Say in each column's description where it comes from: the open-source UI draws no lineage."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                kind,
                description=", ".join(f"from {c.table}.{c.column}" for c in lineage.get(name, ()))
                or None,
            )
            for name, kind in columns.items()
        ]
    )


def _column_lineage(
    platform: Platform, lineage: Mapping[str, list[UpstreamColumn]]
) -> dg.TableColumnLineage:
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(dg.AssetKey(hot_key(c.table)), c.column) for c in origins]
            for name, origins in lineage.items()
        }
    )


def _check_result(test: SqlTest, found: Offending) -> dg.AssetCheckResult:
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in found.columns])
    records = [dg.TableRecord(dict(zip(found.columns, row, strict=True))) for row in found.examples]
    severity = dg.AssetCheckSeverity
    return dg.AssetCheckResult(
        check_name=test.name,
        passed=found.rows == 0,
        severity=severity.WARN if test.severity == "warn" else severity.ERROR,
        description=f"{found.rows} rows that should not be there.",
        metadata={"offending_rows": dg.MetadataValue.table(records, schema=schema)},
    )
