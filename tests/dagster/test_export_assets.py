"""Declared exports as assets: what they depend on, when they are written, what they tell."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.store.platform import open_platform
from tests.conftest import TABLES, settings_for
from tests.dagster.conftest import MODELS, Project, asset_key, metadata_of
from tests.dagster.test_automation import Automation

# Dagster's own tester calls something that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`")

EXPORTS = """
from lakebed.spec.table import Export

by_month = Export(name="months", of="by_month", path="months.csv", owner="team:x")
readings = Export(name="readings", path="readings.parquet")
both = Export(name="both", of=("accounts", "by_month"), path="both.duckdb", description="Both.")
"""


@pytest.fixture
def exporting(tmp_path: Path, database: str, instance: dg.DagsterInstance) -> Project:
    """The project of tests/dagster with three exports beside its tables."""
    shutil.copytree(TABLES, tmp_path / "tables")
    (tmp_path / "tables" / "exports.py").write_text(EXPORTS)
    for name, text in MODELS.items():
        path = tmp_path / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    settings = settings_for(
        tmp_path,
        database,
        LAKEBED_MODELS=str(tmp_path / "models"),
        LAKEBED_TABLES=str(tmp_path / "tables"),
    )
    settings.data.mkdir()
    return Project(open_platform(settings), build_defs(settings), instance)


def test_an_export_depends_on_what_it_reads(exporting: Project) -> None:
    graph = exporting.defs.resolve_asset_graph()

    def parents(name: str) -> set[str]:
        return {k.to_user_string() for k in graph.get(asset_key(f"exports/{name}")).parent_keys}

    assert parents("months") == {"marts/by_month"}
    assert parents("readings") == {"hot/readings", "cold/readings"}
    assert parents("both") == {"hot/accounts", "cold/accounts", "marts/by_month"}
    months = graph.get(asset_key("exports/months"))
    assert (months.group_name, months.owners, months.kinds) == (
        "exports",
        ["team:x"],
        {"file", "csv"},
    )
    assert (months.description or "").startswith("`by_month` as csv: `months.csv`")
    assert (graph.get(asset_key("exports/both")).description or "").startswith("Both.")


def test_an_export_is_written_when_what_it_reads_has_changed_and_tells_what_it_wrote(
    exporting: Project,
) -> None:
    automation = Automation(exporting)
    assert automation.settle(ticks=2) == {}
    exporting.deliver_readings("1.parquet")
    exporting.deliver_accounts("1.csv", 1)
    exporting.run("hot/readings")
    exporting.run("hot/accounts")
    built = automation.settle()
    assert {name for name in built if name.startswith("exports/")} == {
        "exports/months",
        "exports/readings",
        "exports/both",
    }
    assert automation.settle(ticks=3) == {}
    exporting.run("cold/readings", partitions=("2024-01", "2024-05"))
    assert automation.settle(ticks=3) == {}
    exporting.deliver_accounts("2.csv", 2)
    exporting.run("hot/accounts")
    assert automation.settle() == {"exports/both": 1, "marts/per_owner": 1}

    file = exporting.platform.settings.exports / "months.csv"
    told = metadata_of(exporting.run("exports/months"), "exports/months")
    assert told["dagster/row_count"] == 5
    assert told["bytes"] == file.stat().st_size
    assert told["file"] == str(file)
    assert [c.name for c in told["dagster/column_schema"].columns] == ["month", "readings", "least"]


def test_an_export_of_what_is_not_there_says_so_and_the_others_work(exporting: Project) -> None:
    folder = exporting.platform.settings.tables
    (folder / "more.py").write_text(
        EXPORTS.splitlines()[1] + "\nx = Export(name='x', path='x.csv')"
    )
    specs = {
        spec.key.to_user_string(): spec
        for spec in build_defs(exporting.platform.settings).resolve_all_asset_specs()
    }
    assert specs["exports/x"].group_name == "broken"
    assert "'x'" in str(specs["exports/x"].description)
    others = [spec for name, spec in specs.items() if name != "exports/x"]
    assert all(spec.group_name != "broken" for spec in others)
    assert {"exports", "hot"} <= {spec.group_name for spec in others}
