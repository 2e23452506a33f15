"""Build the map of the platform: settings in, Dagster definitions out. Read it top to bottom."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from lakebed.models.model import ModelSet
from lakebed.models.runner import columns_of_tables, models_of
from lakebed.models.schemas import fitting_models
from lakebed.monitoring.project_check import broken_exports
from lakebed.orchestration.broken_assets import broken_assets
from lakebed.orchestration.cold_assets import cold_asset
from lakebed.orchestration.dagster_resources import platform_resources
from lakebed.orchestration.event_reconciliation import reconciliation_sensor
from lakebed.orchestration.export_assets import export_assets
from lakebed.orchestration.health_asset import health_asset, health_job
from lakebed.orchestration.hot_assets import hot_asset, hot_spec, source_spec, window_asset
from lakebed.orchestration.jobs import restore_job, upkeep, verify_job
from lakebed.orchestration.map_asset import map_spec
from lakebed.orchestration.model_assets import model_assets, model_checks
from lakebed.orchestration.sensors import due_sensor, failure_sensor, new_files_sensor
from lakebed.orchestration.table_checks import checks_of_unloaded_tables, watch_job
from lakebed.resources.settings import Settings, read_settings
from lakebed.spec.table import SourceTable
from lakebed.store.platform import open_platform


def build_defs(
    settings: Settings | None = None,
    *,
    tables: tuple[SourceTable, ...] | None = None,
    models: ModelSet | None = None,
) -> dg.Definitions:
    """Return the whole graph, from the sources to the exports. Opens nothing.

    A table file, a model or an export that cannot be used does not affect the rest of the graph.
    Its own asset describes the problem and fails.

    Args:
        settings: By default those of the project that the working folder is in.
        tables: By default the tables of the folder that the settings name.
        models: By default the models of the folder that the settings name.
    """
    settings = read_settings() if settings is None else settings
    platform = open_platform(settings, tables)
    models = models_of(platform) if models is None else models
    models, schemas = fitting_models(models, columns_of_tables(platform))
    exports = list(broken_exports(platform, models))
    broken = [*platform.broken, *models.broken, *exports]

    loaded = [table for table in platform.tables if table.source is not None]
    tiered = [table for table in platform.tables if table.tiering is not None]
    upkeep_job, daily_upkeep = upkeep(platform)
    look_job, hourly_look = health_job()
    watch, watching = watch_job(platform)
    unloaded = [table for table in platform.tables if table.source is None]

    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *(source_spec(platform, table) for table in loaded),
        *(hot_asset(platform, table) for table in loaded if table.load_by == "cursor"),
        *(window_asset(platform, table) for table in loaded if table.load_by == "window"),
        *(hot_spec(table) for table in unloaded),
        *(cold_asset(platform, table) for table in tiered),
        *model_assets(platform, models, schemas),
        *export_assets(platform, models, {item.name for item in exports}),
        health_asset(platform),
        map_spec(platform, models),
    ]
    return dg.Definitions(
        assets=[*assets, *broken_assets(platform, broken, _keys_of(assets))],
        asset_checks=[
            *(checks_of_unloaded_tables(platform, table) for table in unloaded),
            *model_checks(platform, models),
        ],
        jobs=[upkeep_job, verify_job(platform), restore_job(platform), look_job, watch],
        schedules=[daily_upkeep, hourly_look, watching],
        sensors=[
            new_files_sensor(platform, [t for t in loaded if t.load_by == "cursor"]),
            *(due_sensor(platform, table) for table in tiered),
            reconciliation_sensor(platform, models),
            failure_sensor(platform),
            dg.AutomationConditionSensorDefinition(
                "models_follow_data",
                target=dg.AssetSelection.all(),
                description="Rebuilds a model or an export when what it reads has new rows.",
                default_status=dg.DefaultSensorStatus.RUNNING,
            ),
        ],
        resources=platform_resources(platform.lake, platform.postgres),
        # One process a run: a step a process would cost three seconds more each.
        executor=dg.in_process_executor,
    )


def _keys_of(assets: Sequence[dg.AssetsDefinition | dg.AssetSpec]) -> set[dg.AssetKey]:
    return {
        key
        for asset in assets
        for key in (asset.keys if isinstance(asset, dg.AssetsDefinition) else [asset.key])
    }
