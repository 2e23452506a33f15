"""What runs without a hand, over several ticks: sensors of files, due partitions and requests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.orchestration.sensors import PATIENCE_AFTER_FAILURE
from lakebed.recovery.rollback import rollback
from lakebed.resources.clock import SystemClock
from lakebed.store.platform import open_platform
from tests.dagster.conftest import Project, asset_key
from tests.support.locks import move_held


@dataclass
class Ticks:
    """One sensor that is asked again and again, its cursor kept and its run keys remembered."""

    project: Project
    name: str
    cursor: str | None = None
    run_keys: set[str] = field(default_factory=set)

    def tick(self) -> list[dg.RunRequest]:
        """Return the requests that the daemon would start: those with a run key of their own."""
        return [request for request in self.ask() if self._is_new(request)]

    def ask(self) -> list[dg.RunRequest]:
        result = self.result()
        return list(result.run_requests or [])

    def result(self) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=self.project.instance, cursor=self.cursor, definitions=self.project.defs
        ) as context:
            result = self.project.defs.resolve_sensor_def(self.name)(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or self.cursor
        return result

    def _is_new(self, request: dg.RunRequest) -> bool:
        if request.run_key is None:
            return True
        known = request.run_key in self.run_keys
        self.run_keys.add(request.run_key)
        return not known


@dataclass
class DueTicks:
    """The sensors of all tables with due partitions, asked one after the other."""

    sensors: tuple[Ticks, ...]

    def ask(self) -> list[dg.RunRequest]:
        return [request for sensor in self.sensors for request in sensor.ask()]


def keys_of(requests: list[dg.RunRequest]) -> list[str]:
    return [key.to_user_string() for request in requests for key in request.asset_selection or ()]


def ranges_of(requests: list[dg.RunRequest]) -> list[tuple[str, str, str]]:
    return [
        (
            request.tags["lakebed/cold"],
            request.tags["dagster/asset_partition_range_start"],
            request.tags["dagster/asset_partition_range_end"],
        )
        for request in requests
    ]


@pytest.fixture
def files(project: Project) -> Ticks:
    return Ticks(project, "new_files")


@pytest.fixture
def due(project: Project) -> DueTicks:
    return DueTicks((Ticks(project, "due_accounts"), Ticks(project, "due_readings")))


def test_a_load_is_queued_before_a_move(files: Ticks, due: DueTicks) -> None:
    files.project.deliver_readings("1.parquet")
    (load,) = files.ask()
    files.project.run("hot/readings")
    (move,) = due.ask()
    assert int(load.tags["dagster/priority"]) > 0 > int(move.tags["dagster/priority"])


def test_no_file_asks_for_no_load(files: Ticks) -> None:
    assert files.ask() == []


def test_a_new_file_is_asked_for_once_and_not_after_its_load(
    project: Project, files: Ticks
) -> None:
    project.deliver_readings("1.parquet")
    assert keys_of(files.tick()) == ["hot/readings"]
    assert files.tick() == []
    project.run("hot/readings")
    assert files.ask() == []


def test_a_replaced_table_is_loaded_when_its_source_is_again_what_it_was(project: Project) -> None:
    settings = project.platform.settings
    readings, accounts = project.platform.table("readings"), project.platform.table("accounts")
    whole = replace(
        readings, write_mode="replace", tiering=None, partitioning=None, changed_files=None
    )
    project.defs = build_defs(settings, tables=(whole, accounts))
    files = Ticks(project, "new_files")
    project.deliver_readings("1.parquet")
    assert keys_of(files.tick()) == ["hot/readings"]
    project.run("hot/readings")
    second = project.deliver_readings("2.parquet", first=300)
    assert keys_of(files.tick()) == ["hot/readings"]
    project.run("hot/readings")
    second.unlink()
    assert keys_of(files.tick()) == ["hot/readings"]
    assert files.tick() == []
    project.run("hot/readings")
    assert files.ask() == []
    assert project.execute("select count(*) from readings") == [(300,)]


def test_a_new_file_is_observed_once(project: Project, files: Ticks) -> None:
    file = project.deliver_readings("1.parquet")
    (observed,) = files.result().asset_events
    assert isinstance(observed, dg.AssetObservation)
    assert observed.asset_key == asset_key("source/readings")
    assert observed.metadata["files"].value == 1
    assert observed.metadata["bytes"].value == file.stat().st_size
    assert not files.result().asset_events


def test_files_of_two_tables_are_two_requests(project: Project, files: Ticks) -> None:
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    assert sorted(keys_of(files.tick())) == ["hot/accounts", "hot/readings"]


def test_a_changed_file_is_asked_for_again(project: Project, files: Ticks) -> None:
    project.deliver_accounts("1.csv", 1)
    files.tick()
    project.run("hot/accounts")
    assert files.ask() == []
    project.deliver_accounts("1.csv", 1, balance="12.34")
    assert keys_of(files.tick()) == ["hot/accounts"]
    project.run("hot/accounts")
    assert files.ask() == []
    assert project.answer("select count(*), sum(balance)::text from accounts") == (1, "12.34")


def test_a_refused_file_waits_until_it_is_mended(project: Project, files: Ticks) -> None:
    project.deliver_accounts("1.csv", 1)
    bad = project.data / "accounts" / "2.csv"
    bad.write_text("opened,id\n2024-01-05T00:00:00Z,2\n")
    assert keys_of(files.tick()) == ["hot/accounts"]
    assert not project.run("hot/accounts", raise_on_error=False).success
    # With the good file loaded the request is for the bad one alone: one more try, then no more.
    files.tick()
    assert not project.run("hot/accounts", raise_on_error=False).success
    assert [files.tick() for _ in range(3)] == [[], [], []]
    project.deliver_accounts("2.csv", 2)
    assert keys_of(files.tick()) == ["hot/accounts"]
    assert project.run("hot/accounts").success
    assert files.ask() == []
    assert project.answer("select count(*) from accounts") == (2,)


@pytest.mark.parametrize("whole", [False, True], ids=["by file", "whole"])
def test_what_was_rolled_back_to_be_loaded_again_is_asked_for_once(
    project: Project, whole: bool
) -> None:
    settings = project.platform.settings
    readings, accounts = project.platform.table("readings"), project.platform.table("accounts")
    if whole:
        readings = replace(
            readings, write_mode="replace", tiering=None, partitioning=None, changed_files=None
        )
    tables = (readings, accounts)
    project.platform = open_platform(settings, tables)
    project.defs = build_defs(settings, tables=tables)
    files = Ticks(project, "new_files")
    bad = project.data / "accounts" / "bad.csv"
    project.deliver_accounts("1.csv", 1)
    project.deliver_readings("1.parquet")
    bad.write_text("opened,id\n2024-01-05T00:00:00Z,2\n")
    for name in ("1.parquet", "2.parquet"):
        if name == "2.parquet":
            project.deliver_readings(name, first=300)
        assert "hot/readings" in keys_of(files.tick())
        project.run("hot/readings")
    for _ in range(2):
        rollback(project.platform.postgres, project.platform.lake.files, readings, reload=True)
        assert keys_of(files.tick()) == ["hot/readings"]
        assert files.tick() == []
        project.run("hot/readings")
        assert files.ask() == [] or keys_of(files.ask()) == ["hot/accounts"]
    assert project.execute("select count(*) from readings") == [(600,)]


def test_loads_of_others_do_not_bring_a_refused_file_back(project: Project, files: Ticks) -> None:
    project.deliver_accounts("1.csv", 1)
    (project.data / "accounts" / "2.csv").write_text("opened,id\n2024-01-05T00:00:00Z,2\n")
    project.run("hot/accounts", raise_on_error=False)
    assert len(files.tick()) == 1
    project.deliver_accounts("3.csv", 3)
    assert len(files.tick()) == 1
    project.run("hot/accounts", raise_on_error=False)
    assert project.execute("select count(*) from accounts") == [(2,)]
    assert files.tick() == []


@pytest.mark.parametrize("loaded", [True, False], ids=["after its load", "before its load"])
def test_a_cursor_that_was_reset_asks_for_nothing_twice(
    project: Project, files: Ticks, loaded: bool
) -> None:
    project.deliver_readings("1.parquet")
    assert len(files.tick()) == 1
    if loaded:
        project.run("hot/readings")
    files.cursor = None
    assert files.tick() == []


def test_due_partitions_are_asked_for_as_ranges_and_only_while_they_have_hot_rows(
    project: Project, due: DueTicks
) -> None:
    assert due.ask() == []
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    project.run("hot/readings", "hot/accounts")
    project.execute("delete from readings where at >= '2024-03-01' and at < '2024-04-01'")
    requests = due.ask()
    assert ranges_of(requests) == [
        ("accounts", "2024-01", "2024-01"),
        ("readings", "2024-01", "2024-02"),
        ("readings", "2024-04", "2024-05"),
    ]
    assert keys_of(requests) == ["cold/accounts", "cold/readings", "cold/readings"]
    for name, first, last in ranges_of(requests):
        project.run(f"cold/{name}", partitions=(first, last), tags={"lakebed/cold": name})
    assert due.ask() == []
    project.execute("insert into readings values ('2024-02-09', 'late', 1, 1000)")
    assert ranges_of(due.ask()) == [("readings", "2024-02", "2024-02")]


def test_a_table_is_left_alone_while_a_move_of_it_runs_or_waits(
    project: Project, due: DueTicks
) -> None:
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    project.run("hot/readings", "hot/accounts")
    run = project.instance.create_run_for_job(
        project.defs.resolve_implicit_global_asset_job_def(),
        tags={"lakebed/cold": "readings"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert ranges_of(due.ask()) == [("accounts", "2024-01", "2024-01")]
    project.instance.report_run_canceled(run)
    assert ("readings", "2024-01", "2024-05") in ranges_of(due.ask())


def test_a_table_whose_move_failed_is_left_alone_for_a_while(
    project: Project, due: DueTicks, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    ((name, first, last),) = ranges_of(due.ask())
    with move_held(project.platform, "readings", "2024-03"):
        project.run(
            "cold/readings",
            partitions=(first, last),
            tags={"lakebed/cold": name},
            raise_on_error=False,
        )
    assert due.ask() == []
    now = SystemClock().now()
    later = now + timedelta(seconds=PATIENCE_AFTER_FAILURE)
    monkeypatch.setattr(SystemClock, "now", lambda self: later)
    assert ranges_of(due.ask()) == [("readings", "2024-03", "2024-03")]


def test_a_request_from_sql_is_moved_and_answered(project: Project, due: DueTicks) -> None:
    project.deliver_readings("1.parquet", rows=360)
    project.run("hot/readings")
    project.run("cold/readings", partitions=("2024-01", "2024-05"))
    assert due.ask() == []
    project.execute("select lakebed.request_move('readings', '0 days')")
    (asked,) = due.ask()
    assert ranges_of([asked]) == [("readings", "2024-06", "2024-06")]
    taken = asked.tags["lakebed/taken_at"]
    open_ones = "select count(*) from lakebed.tier_request where answered_at is null"
    assert project.execute(open_ones) == [(1,)]
    project.run(
        "cold/readings",
        partitions=("2024-06", "2024-06"),
        tags={"lakebed/cold": "readings", "lakebed/taken_at": taken},
    )
    assert due.ask() == []
    answered = "select answered_at > taken_at, answer from lakebed.tier_request"
    assert project.execute(answered) == [(True, "moved 1 partition: 2024-06, 56 rows in the lake")]


def test_a_request_whose_move_fails_is_answered_with_the_reason(
    project: Project, due: DueTicks
) -> None:
    project.deliver_readings("1.parquet", rows=30)
    project.run("hot/readings")
    project.execute("select lakebed.request_move('readings', '0 days')")
    (asked,) = due.ask()
    with move_held(project.platform, "readings", "2024-01"):
        project.run(
            "cold/readings",
            partitions=("2024-01", "2024-01"),
            tags={**asked.tags},
            raise_on_error=False,
        )
    assert due.ask() == []
    ((answer,),) = project.execute("select answer from lakebed.tier_request")
    assert answer.startswith("not all was moved: run ")
    assert "another move of it is running" in answer


def test_a_request_waits_for_its_answer_while_the_table_is_busy(
    project: Project, due: DueTicks
) -> None:
    project.deliver_readings("1.parquet", first=330, rows=30)
    project.run("hot/readings")
    project.execute("select lakebed.request_move('readings', '0 days')")
    run = project.instance.create_run_for_job(
        project.defs.resolve_implicit_global_asset_job_def(),
        tags={"lakebed/cold": "readings"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert due.ask() == []
    assert project.execute("select answered_at from lakebed.tier_request") == [(None,)]
    project.instance.report_run_canceled(run)
    assert ranges_of(due.ask()) == [("readings", "2024-06", "2024-06")]
