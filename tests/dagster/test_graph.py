"""The graph: what is in it, what depends on what, and that it loads without opening anything."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import duckdb
import psycopg
import pytest

from lakebed.build import build_defs
from lakebed.models.model import ModelSet
from lakebed.resources import embedded
from lakebed.resources.settings import Settings
from lakebed.spec.table import Grain, SourceTable
from lakebed.spec.table_files import load_tables
from tests.conftest import TABLES, settings_for
from tests.dagster.conftest import asset_key
from tests.dagster.graph import SNAPSHOT, demo_defs, describe
from tests.support.checkout import DEMO_TABLES, ROOT

NO_MODELS = ModelSet(folder=Path("nowhere"), models=(), tests=())
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return demo_defs()


def test_the_graph_is_the_one_that_was_reviewed(defs: dg.Definitions) -> None:
    assert describe(defs) == SNAPSHOT.read_text(), (
        "the graph has changed; if that is meant, write its snapshot anew: "
        "python -m tests.dagster.graph"
    )


def test_every_asset_explains_itself(defs: dg.Definitions) -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert spec.description and len(spec.description) > 20, name
        assert spec.group_name == spec.key.path[0], name
        assert spec.kinds, name
        shown = spec.metadata
        (link,) = shown["dagster/code_references"].code_references
        assert Path(link.file_path).is_file(), name
        assert spec.tags, name
        if spec.group_name == "platform":
            continue
        assert {"dagster/table_name", "dagster/uri", "glob"} & set(shown), name
        if spec.group_name != "exports":
            columns = shown["dagster/column_schema"].columns
            assert columns and all(column.type for column in columns), name


def test_every_check_and_sensor_explains_itself(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.asset_check_keys:
        assert graph.get_check_spec(key).description, key
    for sensor in defs.sensors or ():
        assert sensor.description, sensor.name
    for schedule in defs.schedules or ():
        assert isinstance(schedule, dg.ScheduleDefinition)
        assert schedule.description, schedule.name


def test_the_map_names_every_group_of_the_graph(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    shown = graph.get(asset_key("platform/start_here")).description or ""
    for group in {graph.get(key).group_name for key in graph.get_all_asset_keys()}:
        assert f"| `{group}` |" in shown, group


def test_every_column_of_a_table_is_shown_with_its_type(defs: dg.Definitions) -> None:
    for key in ("hot/flights", "cold/flights"):
        spec = defs.resolve_asset_graph().get(asset_key(key))
        columns = {c.name: c for c in spec.metadata["dagster/column_schema"].columns}
        assert len(columns) == 14
        assert columns["time_hour"].type == "timestamp with time zone"
        assert columns["origin"].description == "airport of departure"
        assert columns["tailnum"].constraints.nullable
        assert not columns["carrier"].constraints.nullable


def test_a_column_of_a_model_says_where_it_comes_from(defs: dg.Definitions) -> None:
    spec = defs.resolve_asset_graph().get(asset_key("marts/delays_by_carrier_month"))
    columns = {c.name: c.description for c in spec.metadata["dagster/column_schema"].columns}
    assert columns["carrier_name"] == "from airlines.name"
    assert columns["mean_dep_delay"] == "from flights.dep_delay"
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    (origin,) = lineage["mean_dep_delay"]
    assert (origin.asset_key, origin.column_name) == (asset_key("hot/flights"), "dep_delay")


def test_building_the_definitions_opens_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError(f"a connection was opened: {args}")

    connect = duckdb.connect

    def in_memory_only(database: str = ":memory:", *args: Any, **kwargs: Any) -> Any:
        return connect() if database == ":memory:" else refuse(database)

    monkeypatch.setattr(psycopg, "connect", refuse)
    monkeypatch.setattr(psycopg.Connection, "connect", refuse)
    monkeypatch.setattr(embedded, "join", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(duckdb, "connect", in_memory_only)
    settings = settings_for(
        tmp_path / "home",
        "postgresql://nobody:secret@nowhere.invalid/x",
        LAKEBED_TABLES=str(DEMO_TABLES),
    )
    defs = build_defs(settings)
    dg.Definitions.validate_loadable(defs)
    assert not (tmp_path / "home").exists()
    assert "secret" not in repr(defs.assets)


def built(settings: Settings, *tables: SourceTable) -> dg.Definitions:
    defs = build_defs(settings, tables=tables, models=NO_MODELS)
    dg.Definitions.validate_loadable(defs)
    return defs


def keys_of(graph: Any) -> set[str]:
    """Return the keys of all assets but the one that every platform has."""
    return {key.to_user_string() for key in graph.get_all_asset_keys()} - {"platform/health"}


@pytest.fixture
def nowhere(tmp_path: Path) -> Settings:
    return settings_for(tmp_path, "postgresql://nobody@nowhere.invalid/x")


@pytest.fixture(scope="module")
def readings() -> SourceTable:
    return next(table for table in load_tables(TABLES) if table.name == "readings")


def test_a_table_has_a_source_a_hot_and_a_cold_asset(
    nowhere: Settings, readings: SourceTable
) -> None:
    graph = built(nowhere, readings).resolve_asset_graph()
    assert keys_of(graph) == {
        "source/readings",
        "hot/readings",
        "cold/readings",
        "platform/start_here",
    }


def test_a_table_without_a_source_is_written_by_others_and_still_moved(
    nowhere: Settings, readings: SourceTable
) -> None:
    defs = built(nowhere, replace(readings, source=None))
    graph = defs.resolve_asset_graph()
    hot = graph.get(asset_key("hot/readings"))
    assert keys_of(graph) == {
        "hot/readings",
        "cold/readings",
        "platform/start_here",
    }
    assert not hot.is_materializable
    assert (hot.group_name, hot.description) == ("hot", "What a sensor said.")
    assert graph.get(asset_key("cold/readings")).parent_keys == {asset_key("hot/readings")}
    assert defs.resolve_sensor_def("due_readings").targets


def test_tables_of_different_grains_and_starts_stand_in_one_graph(
    nowhere: Settings, readings: SourceTable
) -> None:
    by = readings.require_partitioning
    later = replace(by, grain=Grain.YEAR, start=datetime(2020, 1, 1, tzinfo=UTC), end=None)
    other = replace(readings, name="doors", partitioning=later)
    defs = built(nowhere, readings, other)
    dg.Definitions.validate_loadable(defs)
    assert {s.name for s in defs.sensors or ()} >= {"due_readings", "due_doors"}


def test_a_table_without_tiering_has_no_cold_asset(
    nowhere: Settings, readings: SourceTable
) -> None:
    defs = built(nowhere, replace(readings, tiering=None))
    assert keys_of(defs.resolve_asset_graph()) == {
        "source/readings",
        "hot/readings",
        "platform/start_here",
    }


def test_an_installation_without_tables_loads(nowhere: Settings) -> None:
    assert keys_of(built(nowhere).resolve_asset_graph()) == {"platform/start_here"}


@pytest.fixture
def quiet_environment(tmp_path: Path) -> dict[str, str]:
    """An environment without settings of whoever runs the tests, and no server to be reached."""
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEBED_", "DAGSTER_"))}
    return kept | {
        "LAKEBED_HOME": str(tmp_path / "home"),
        "LAKEBED_POSTGRES_URL": "postgresql://nobody@127.0.0.1:9/x",
        "DAGSTER_HOME": str(tmp_path),
    }


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.thorough
def test_the_workspace_file_works_from_another_folder(
    tmp_path: Path, quiet_environment: dict[str, str]
) -> None:
    workspace = str(ROOT / "workspace.yaml")
    told = run(["dagster", "definitions", "validate", "-w", workspace], tmp_path, quiet_environment)
    assert "Validation successful for code location lakebed" in told
    assert not (tmp_path / "home").exists()


def test_dg_checks_and_lists_the_definitions(
    defs: dg.Definitions, quiet_environment: dict[str, str]
) -> None:
    run(["dg", "check", "defs"], ROOT, quiet_environment)
    listed = json.loads(run(["dg", "list", "defs", "--json"], ROOT, quiet_environment))
    keys = keys_of(defs.resolve_asset_graph()) | {"platform/health", "platform/start_here"}
    assert {asset["asset_key"] for asset in listed["assets"]} == keys
    assert len(listed["sensors"]) == 6
