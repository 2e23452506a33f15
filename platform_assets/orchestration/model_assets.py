"""<group>/<model>: one Dagster asset a SQL model or seed, its tests as asset checks."""

import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import dagster as dg

from lakebed.models.lineage import UpstreamColumn, source_lineage
from lakebed.models.materialize import BuildRange, FailingRows, build_model, run_test
from lakebed.models.model import Batches, Model, ModelSet, SqlTest
from lakebed.models.sql_tests import is_apart
from lakebed.orchestration.conditions import when_read_data_changed, when_window_changed
from lakebed.orchestration.dagster_metadata import code_link, owners, pace, query_of
from lakebed.orchestration.dagster_partitions import partitions_from
from lakebed.orchestration.dagster_runs import expected_refusals
from lakebed.spec.names import cold_key, hot_key
from lakebed.spec.partitions import Grain, window_for_key
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog

Lineage = Mapping[str, list[UpstreamColumn]]

_LONGEST = {
    Grain.HOUR: timedelta(hours=1),
    Grain.DAY: timedelta(days=1),
    Grain.WEEK: timedelta(days=7),
    Grain.MONTH: timedelta(days=31),
    Grain.YEAR: timedelta(days=366),
}


def model_assets(
    platform: Platform, models: ModelSet, schemas: Mapping[str, Mapping[str, str]]
) -> list[dg.AssetsDefinition]:
    """Return an asset for each model.

    Args:
        platform: Where the models are built.
        models: Models that fit the tables and each other.
        schemas: The columns of the tables and of these models, by name.
    """
    lineage = source_lineage(models, schemas)
    with warnings.catch_warnings():
        # Backfill policies are in beta; that they may change is ours to know, not the user's.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return [
            _model_asset(platform, models, model, schemas[model.name], lineage[model.name])
            for model in models.built()
        ]


def model_checks(platform: Platform, models: ModelSet) -> list[dg.AssetChecksDefinition]:
    """Return the checks that are steps of their own: of source tables, and those that wait.

    A test that reads a model that its own does not read waits for both.
    """
    return [
        _check_apart(platform, models, test)
        for test in models.tests
        if test.model not in models.by_name or is_apart(models, test)
    ]


def _model_asset(
    platform: Platform,
    models: ModelSet,
    model: Model,
    columns: Mapping[str, str],
    lineage: Lineage,
) -> dg.AssetsDefinition:
    key = dg.AssetKey(list(model.key))
    tests = [test for test in models.tests_of(model.name) if not is_apart(models, test)]
    batches = _batches(model)

    @dg.asset(
        key=key,
        deps=_dependencies(platform, models, model),
        description=f"{model.description}\n\n```sql\n{model.sql.strip()}\n```",
        group_name=model.group,
        kinds={"sql", "duckdb"} | ({"parquet"} if model.materialized != "view" else set()),
        owners=owners(model.owner),
        tags={tag: "" for tag in model.tags} | {"materialized": model.materialized},
        code_version=model.code_version[:16],
        metadata={
            "dagster/column_schema": _column_schema(columns, lineage, model.columns),
            "dagster/column_lineage": _column_lineage(platform, models, lineage),
            "dagster/uri": f"{platform.lake.files.uri}/{model.group}/{model.name}",
            **code_link(model.path, f"{model.name}, its file"),
        },
        automation_condition=_condition(models, batches),
        partitions_def=None
        if batches is None
        else partitions_from(batches.grain, batches.begin, present=True),
        backfill_policy=None if batches is None else dg.BackfillPolicy.single_run(),
        pool=f"model_{model.name}",
        check_specs=[_check_spec(key, test) for test in tests],
    )
    def build(context: dg.AssetExecutionContext) -> Iterator[Any]:
        with platform.lake.sessions() as sessions:
            stretch = _stretch(context, model)
            with expected_refusals(platform):
                built = build_model(platform, models, model, sessions, build_range=stretch)
            write_catalog(platform)
            metadata: dict[str, Any] = {
                "generation": built.generation,
                # As DuckDB describes it, the columns that evolved in the source included.
                "dagster/column_schema": _column_schema(
                    dict(built.columns), lineage, model.columns
                ),
                "query": query_of(model.name),
                **pace(built.rows, built.bytes, built.seconds),
            }
            if built.rows is not None:
                metadata["dagster/row_count"] = built.rows
            yield dg.MaterializeResult(
                metadata=metadata,
                check_results=[
                    _check_result(test, run_test(platform, models, test, sessions))
                    for test in tests
                ],
            )

    return build


def _check_apart(platform: Platform, models: ModelSet, test: SqlTest) -> dg.AssetChecksDefinition:
    model = models.by_name.get(test.model)
    key = dg.AssetKey(list(model.key) if model else hot_key(test.model))
    others = [name for name in models.reads(test) if name != test.model]

    @dg.asset_check(
        asset=key,
        name=test.name,
        description=test.description,
        blocking=test.severity == "error",
        additional_deps=[
            dg.AssetKey(list(models.get(name).key) if name in models.by_name else hot_key(name))
            for name in others
        ],
    )
    def check() -> dg.AssetCheckResult:
        return _check_result(test, run_test(platform, models, test))

    return check


def _check_spec(key: dg.AssetKey, test: SqlTest) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        test.name, asset=key, description=test.description, blocking=test.severity == "error"
    )


def _batches(model: Model) -> Batches | None:
    return model.incremental.batches if model.incremental else None


def _condition(models: ModelSet, batches: Batches | None) -> dg.AutomationCondition[Any]:
    if batches is None:
        return when_read_data_changed([dg.AssetKey(list(m.key)) for m in _windowed(models)])
    # The present window and those that are looked back at.
    return when_window_changed(_LONGEST[batches.grain] * batches.lookback + timedelta(seconds=1))


def _windowed(models: ModelSet) -> list[Model]:
    return [model for model in models.built() if _batches(model)]


def _stretch(context: dg.AssetExecutionContext, model: Model) -> BuildRange:
    batches = _batches(model)
    if batches is None:
        return BuildRange()
    windows = [window_for_key(batches.grain, key) for key in context.partition_keys]
    return BuildRange(min(w.lower for w in windows), max(w.upper for w in windows))


def _dependencies(platform: Platform, models: ModelSet, model: Model) -> list[dg.AssetDep]:
    keys = _keys_read(platform, models, model)
    if _batches(model) is None:
        return [dg.AssetDep(key) for key in keys]
    # A window may be there before, or without, the partition of what it reads.
    mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    require_partitioning = {dg.AssetKey(list(m.key)) for m in _windowed(models)}
    for table in platform.tables:
        if table.tiering is not None:
            require_partitioning.add(dg.AssetKey(cold_key(table.name)))
        if table.source is not None and table.load_by == "window":
            require_partitioning.add(dg.AssetKey(hot_key(table.name)))
    return [
        dg.AssetDep(key, partition_mapping=mapping)
        if key in require_partitioning
        else dg.AssetDep(key)
        for key in keys
    ]


def _keys_read(platform: Platform, models: ModelSet, model: Model) -> list[dg.AssetKey]:
    found: list[dg.AssetKey] = []
    for name in models.reads(model):
        if name in models.by_name:
            found.append(dg.AssetKey(list(models.get(name).key)))
            continue
        found.append(dg.AssetKey(hot_key(name)))
        if _tiered(platform.table(name)):
            found.append(dg.AssetKey(cold_key(name)))
    return found


def _tiered(table: SourceTable) -> bool:
    return table.tiering is not None


def _column_schema(
    columns: Mapping[str, str], lineage: Lineage, said: Mapping[str, str]
) -> dg.TableSchema:
    """Say in each column's description where it comes from: the open-source UI draws no lineage."""
    descriptions = {}
    for name in columns:
        origins = ", ".join(f"from {c.table}.{c.column}" for c in lineage.get(name, ()))
        descriptions[name] = (
            "; ".join(filter(None, [(said.get(name) or "").rstrip("."), origins])) or None
        )
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, kind, description=descriptions[name])
            for name, kind in columns.items()
        ]
    )


def _column_lineage(
    platform: Platform, models: ModelSet, lineage: Lineage
) -> dg.TableColumnLineage:
    def key(table: str) -> dg.AssetKey:
        seed = models.by_name.get(table)
        return dg.AssetKey(list(seed.key) if seed else hot_key(table))

    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(key(c.table), c.column) for c in origins]
            for name, origins in lineage.items()
        }
    )


def _check_result(test: SqlTest, found: FailingRows) -> dg.AssetCheckResult:
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in found.columns])
    records = [dg.TableRecord(dict(zip(found.columns, row, strict=True))) for row in found.examples]
    severity, verdict = dg.AssetCheckSeverity, test.verdict(found.rows)
    return dg.AssetCheckResult(
        check_name=test.name,
        passed=verdict == "pass",
        severity=severity.ERROR if verdict == "error" else severity.WARN,
        description=f"{found.rows} rows that should not be there.",
        metadata={
            "rows": found.rows,
            "offending_rows": dg.MetadataValue.table(records, schema=schema),
        },
    )
