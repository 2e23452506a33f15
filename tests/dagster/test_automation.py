"""When models are rebuilt: their automation condition, tick after tick, as the daemon asks it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.store.platform import open_platform
from tests.dagster.conftest import Project

# Dagster's own tester calls something that is in beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`")

MODELS = ["marts/by_month", "marts/per_owner", "staging/stg_readings"]
ONCE = dict.fromkeys(MODELS, 1)


@dataclass
class Automation:
    """Evaluates the models' conditions and runs what they ask for, one run a tick."""

    project: Project
    cursor: Any = None
    now: datetime = datetime(2024, 7, 1, tzinfo=UTC)

    def ask(self) -> list[str]:
        """Return what one tick asks for."""
        self.now += timedelta(seconds=30)
        result = dg.evaluate_automation_conditions(
            self.project.defs,
            self.project.instance,
            cursor=self.cursor,
            evaluation_time=self.now,
        )
        self.cursor = result.cursor
        return sorted(
            key.to_user_string()
            for key in self.project.defs.resolve_asset_graph().materializable_asset_keys
            if result.get_num_requested(key)
        )

    def settle(self, ticks: int = 5) -> dict[str, int]:
        """Run what each of several ticks asks for; return how often each model was built."""
        built: Counter[str] = Counter()
        for _ in range(ticks):
            asked = self.ask()
            built.update(asked)
            if asked:
                self.project.run(*asked)
        return dict(built)


@pytest.fixture
def automation(project: Project) -> Automation:
    """Everything is loaded and built once."""
    automation = Automation(project)
    assert automation.settle(ticks=2) == {}
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    project.run("hot/readings")
    project.run("hot/accounts")
    assert automation.settle() == ONCE
    return automation


def test_nothing_new_rebuilds_nothing(automation: Automation) -> None:
    assert automation.settle(ticks=3) == {}


def test_new_hot_rows_rebuild_each_model_that_reads_them_once(automation: Automation) -> None:
    automation.project.deliver_readings("2.parquet", first=300, rows=10)
    automation.project.run("hot/readings")
    assert automation.settle() == ONCE
    assert automation.project.answer("select readings from per_owner") == (310,)


@pytest.mark.thorough
def test_new_rows_of_a_table_that_only_the_last_model_reads_rebuild_it_alone(
    automation: Automation,
) -> None:
    automation.project.deliver_accounts("2.csv", 2)
    automation.project.run("hot/accounts")
    assert automation.settle() == {"marts/per_owner": 1}


def test_loads_of_two_tables_between_two_ticks_rebuild_each_model_once(
    automation: Automation,
) -> None:
    automation.project.deliver_readings("2.parquet", first=300, rows=10)
    automation.project.deliver_accounts("2.csv", 2)
    automation.project.run("hot/readings")
    automation.project.run("hot/accounts")
    assert automation.settle() == ONCE


def test_a_move_rebuilds_nothing(automation: Automation) -> None:
    automation.project.run("cold/readings", partitions=("2024-01", "2024-05"))
    automation.project.run("cold/accounts", partitions=("2024-01", "2024-01"))
    assert automation.settle() == {}


@pytest.mark.thorough
def test_models_built_by_a_hand_are_not_built_again(automation: Automation) -> None:
    automation.project.deliver_readings("2.parquet", first=300, rows=10)
    automation.project.run("hot/readings")
    automation.project.run(*MODELS)
    assert automation.settle() == {}


def test_a_load_of_nothing_new_rebuilds_nothing(automation: Automation) -> None:
    automation.project.run("hot/readings")
    assert automation.settle() == {}


@pytest.mark.thorough
def test_a_refused_file_rebuilds_nothing(automation: Automation) -> None:
    (automation.project.data / "readings" / "2.parquet").write_bytes(b"no Parquet at all")
    assert not automation.project.run("hot/readings", raise_on_error=False).success
    assert automation.settle() == {}


@pytest.mark.thorough
def test_late_rows_of_an_old_window_rebuild_what_reads_them_once(project: Project) -> None:
    readings = replace(project.platform.table("readings"), load_by="window", changed_files=None)
    tables = (readings, project.platform.table("accounts"))
    project.platform = open_platform(project.platform.settings, tables)
    project.defs = build_defs(project.platform.settings, tables=tables)
    automation = Automation(project)
    assert automation.settle(ticks=1) == {}
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    project.run("hot/accounts")
    project.run("hot/readings", partitions=("2024-01", "2024-05"))
    assert automation.settle(ticks=3) == ONCE
    project.run("cold/readings", partitions=("2024-01", "2024-01"))
    assert automation.settle(ticks=1) == {}
    project.deliver_readings("late.parquet", first=300, rows=1, every=timedelta(0))
    project.run("hot/readings", partitions=("2024-01", "2024-01"))
    assert automation.settle(ticks=3) == ONCE
    assert project.answer("select readings from per_owner") == (301,)
    assert automation.settle(ticks=1) == {}
