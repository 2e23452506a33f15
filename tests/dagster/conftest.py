"""The platform over two small tables and three models, on a Dagster instance of the test's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakebed.build import build_defs
from lakebed.orchestration import dagster_runs
from lakebed.store.platform import Platform, open_platform
from tests.conftest import settings_for

MODELS = {
    "staging/stg_readings.sql": (
        "-- Readings as they are.\n"
        "{{ config(materialized='view') }}\n"
        "select * from {{ source('lakebed', 'readings') }}"
    ),
    "marts/by_month.sql": (
        "-- Readings a month.\n"
        "{{ config(materialized='table') }}\n"
        "select date_trunc('month', \"at\") as month, count(*) as readings, min(number) as least\n"
        "from {{ ref('stg_readings') }} group by all"
    ),
    "marts/per_owner.sql": (
        "-- Readings and accounts in one row.\n"
        "{{ config(materialized='table') }}\n"
        "select\n"
        "    (select sum(readings) from {{ ref('by_month') }}) as readings,\n"
        "    (select count(*) from {{ source('lakebed', 'accounts') }}) as accounts"
    ),
    "tests/assert_no_negative_number.sql": (
        "-- A month with a reading whose number is negative.\n"
        "select month, least from {{ ref('by_month') }} where least < 0"
    ),
}
START = datetime(2024, 1, 1, tzinfo=UTC)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Project:
    """A platform with its definitions and a Dagster instance, and what a test does with them."""

    platform: Platform
    defs: dg.Definitions
    instance: dg.DagsterInstance

    @property
    def data(self) -> Path:
        return self.platform.settings.data

    def deliver_readings(
        self, name: str, *, first: int = 0, rows: int = 300, every: timedelta = timedelta(hours=12)
    ) -> Path:
        """Write a file of readings, by default of the 150 days from January 1st on."""
        numbers = range(first, first + rows)
        frame = pl.DataFrame(
            {
                "at": [START + every * number for number in numbers],
                "sensor": ["a"] * rows,
                "value": [0.5] * rows,
                "number": numbers,
            },
            schema={
                "at": pl.Datetime("us", "UTC"),
                "sensor": pl.String,
                "value": pl.Float64,
                "number": pl.Int64,
            },
        )
        return self.deliver_frame(frame, name)

    def deliver_frame(self, frame: pl.DataFrame, name: str) -> Path:
        path = self.data / "readings" / name
        path.parent.mkdir(exist_ok=True)
        frame.write_parquet(path)
        return path

    def deliver_accounts(self, name: str, *ids: int, balance: str = "9.99") -> Path:
        path = self.data / "accounts" / name
        path.parent.mkdir(exist_ok=True)
        rows = [f"2024-01-05T00:00:00Z,{i},owner {i},{balance},2024-01-05T00:00:00Z" for i in ids]
        path.write_text("\n".join(["opened,id,owner,balance,changed", *rows]) + "\n")
        return path

    def run(
        self,
        *keys: str,
        partitions: tuple[str, str] | None = None,
        tags: dict[str, str] | None = None,
        raise_on_error: bool = True,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets in one run; partitions are the first and the last of a range."""
        tags = dict(tags or {})
        if partitions:
            tags["dagster/asset_partition_range_start"] = partitions[0]
            tags["dagster/asset_partition_range_end"] = partitions[1]
        return self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            asset_selection=[asset_key(key) for key in keys],
            instance=self.instance,
            run_config=QUIET,
            tags=tags,
            raise_on_error=raise_on_error,
        )

    def answer(self, query: str) -> tuple[Any, ...]:
        """Return the first row of a query over both tiers."""
        with self.platform.lake.session() as session:
            return tuple(session.sql(query).fetchall()[0])

    def execute(self, statement: Any, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement in PostgreSQL; return its rows, if it has any."""
        with self.platform.postgres.connect(autocommit=True) as connection:
            done = connection.execute(statement, parameters)
            return done.fetchall() if done.description else []

    def materialized(self, key: str) -> set[str]:
        """Return the partitions of an asset that Dagster holds for materialized."""
        return self.instance.get_materialized_partitions(asset_key(key))


def asset_key(text: str) -> dg.AssetKey:
    return dg.AssetKey.from_user_string(text)


def metadata_of(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    """Return the values of the metadata of an asset's only materialization in a run."""
    (event,) = result.asset_materializations_for_node(key.replace("/", "__"))
    return {name: value.value for name, value in event.metadata.items()}


def check_of(result: dg.ExecuteInProcessResult, key: str, name: str) -> dg.AssetCheckEvaluation:
    (found,) = checks_of(result, key, name).values()
    return found


def checks_of(
    result: dg.ExecuteInProcessResult, key: str, name: str
) -> dict[str | None, dg.AssetCheckEvaluation]:
    """Return a check's results in a run, by their partition."""
    return {
        check.partition: check
        for check in result.get_asset_check_evaluations()
        if check.asset_key == asset_key(key) and check.check_name == name
    }


def table_of(check: dg.AssetCheckEvaluation, name: str) -> Sequence[dict[str, Any]]:
    """Return the rows of a table that a check shows."""
    value = check.metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster_runs, "PAUSES_SECONDS", (0.01, 0.01))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def project(tmp_path: Path, database: str, instance: dg.DagsterInstance) -> Project:
    models = tmp_path / "models"
    for name, text in MODELS.items():
        path = models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(models))
    settings.data.mkdir()
    return Project(open_platform(settings), build_defs(settings), instance)
