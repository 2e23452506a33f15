"""The assets over a lake in an S3 bucket."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.store.platform import open_platform
from tests.conftest import settings_for
from tests.dagster.conftest import Project, asset_key, check_of, metadata_of
from tests.support.stores import BUCKET, SECRET, running_store


@pytest.mark.thorough
def test_assets_settle_and_build_into_the_bucket_and_show_where(
    project: Project, tmp_path: Path, database: str, instance: dg.DagsterInstance
) -> None:
    with running_store() as store:
        store.empty()
        models = str(project.platform.settings.models)
        settings = settings_for(tmp_path, database, LAKEBED_MODELS=models, **store.environment())
        there = Project(open_platform(settings), build_defs(settings), instance)
        there.deliver_readings("1.parquet")
        there.run("hot/readings")
        moved = there.run("cold/readings", partitions=("2024-01", "2024-01"))
        assert check_of(moved, "cold/readings", "fingerprint").passed
        built = there.run("staging/stg_readings", "marts/by_month")
        assert metadata_of(built, "marts/by_month")["dagster/row_count"] == 5
        assert there.answer("select count(*), sum(number) from readings") == (300, 44_850)
        assert {key.removeprefix("deep/lake/") for key in store.objects()} == {
            "catalog.duckdb",
            "marts/by_month/by_month_g0001.parquet",
            "readings/year=2024/month=01/readings_2024_01_g0001.parquet",
        }
        specs = {spec.key: spec for spec in there.defs.resolve_all_asset_specs()}
        uri = specs[asset_key("cold/readings")].metadata["dagster/uri"]
        assert uri == f"s3://{BUCKET}/deep/lake/readings"
        events = instance.all_logs(moved.run_id)
        assert SECRET not in "".join(map(repr, events))
