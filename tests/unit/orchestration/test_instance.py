"""Where `lakebed up` finds the definitions: the project's own file, else Lakebed's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from lakebed.orchestration.cold_assets import BY_POLICY
from lakebed.orchestration.instance import prepare_instance
from lakebed.store.platform import open_platform
from tests.conftest import settings_for


def test_backfills_and_moves_leave_a_place_for_a_load(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "home", "postgresql://x@127.0.0.1:9/x")
    folder = prepare_instance(open_platform(settings, ()))
    runs = yaml.safe_load((folder / "dagster.yaml").read_text())["concurrency"]["runs"]
    limits = {limit["key"]: limit["limit"] for limit in runs["tag_concurrency_limits"]}
    assert set(limits) == {"dagster/backfill", BY_POLICY}
    assert sum(limits.values()) < runs["max_concurrent_runs"]


def test_the_project_s_own_definitions_are_opened_where_there_are_any(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "home", "postgresql://x@127.0.0.1:9/x")
    project = replace(settings, project=tmp_path)

    def location(of: object) -> object:
        folder = prepare_instance(open_platform(of, ()))  # type: ignore[arg-type]
        (found,) = yaml.safe_load((folder / "workspace.yaml").read_text())["load_from"]
        return found

    ours = {"python_module": {"module_name": "lakebed.definitions", "location_name": "lakebed"}}
    assert location(settings) == location(project) == ours
    (tmp_path / "definitions.py").touch()
    assert location(settings) == ours
    assert location(project) == {
        "python_file": {
            "relative_path": str(tmp_path / "definitions.py"),
            "working_directory": str(tmp_path),
            "location_name": "lakebed",
        }
    }
