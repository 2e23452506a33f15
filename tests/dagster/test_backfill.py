"""`lakebed backfill`: ranges as runs, one bad partition alone, two at once, one that was killed."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest

from lakebed.cli import main as cli
from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.run_launcher import open_instance
from lakebed.spec.partitions import window_for_key
from lakebed.tiering.move import move
from lakebed.tiering.restore import restore
from tests.conftest import TABLES, Server
from tests.dagster.conftest import Project, asset_key
from tests.support import processes
from tests.support.locks import move_held

MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04", "2024-05"]
SPRING = ("cold/readings", "--from", "2024-01", "--to", "2024-05")
COLD = asset_key("cold/readings")


@dataclass
class Home:
    """A project whose Dagster instance is that of its home, and the command over it."""

    project: Project
    environment: dict[str, str]
    capsys: pytest.CaptureFixture[str]

    def backfill(self, *arguments: str) -> tuple[int, str, str]:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(["backfill", *arguments])
            sys.exit(0)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        return int(ended.value.code or 0), out, err

    def start(self, *arguments: str) -> processes.CONTEXT.Process:  # type: ignore[name-defined]
        process = processes.CONTEXT.Process(
            target=processes.command, args=(self.environment, ["backfill", *arguments])
        )
        process.start()
        return process

    @contextmanager
    def held(self, month: str) -> Iterator[None]:
        """Hold the lock that a move of the month needs."""
        with move_held(self.project.platform, "readings", month):
            yield

    def runs(self) -> list[dg.RunRecord]:
        return list(self.project.instance.get_run_records(ascending=True))

    def states(self) -> dict[str, str | None]:
        table = self.project.platform.table("readings")
        found = self.project.instance.get_status_by_partition(COLD, MONTHS, partitions_of(table))
        assert found is not None
        return {key: state.value if state else None for key, state in found.items()}

    def generations(self) -> dict[str, int]:
        rows = self.project.execute(
            "select partition_key, max(generation) from lakebed.cold_file group by 1"
        )
        return dict(rows)


@pytest.fixture
def home(
    project: Project,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Home]:
    settings = project.platform.settings
    # All of it: the process that children are forked from has the environment of another test.
    environment = settings.environment()
    before = dict(os.environ)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    try:
        with open_instance(project.platform) as project.instance:
            yield Home(project, environment, capsys)
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        server.drop(f"{project.execute('select current_database()')[0][0]}_dagster")


def test_a_bad_partition_fails_alone_and_the_next_backfill_takes_it_alone(home: Home) -> None:
    with home.held("2024-03"):
        code, out, err = home.backfill(*SPRING)
    assert code == 1
    assert "cold/readings 2024-05: 58 rows\n" in err
    assert "1 of 5 partitions failed:\n  2024-03: readings 2024-03: another move of it" in err
    assert out.splitlines()[1].split()[:6] == ["2024-01", "to", "2024-05", "4", "1", "238"]
    done = dict.fromkeys(MONTHS, "MATERIALIZED")
    assert home.states() == done | {"2024-03": "FAILED"}
    code, out, err = home.backfill(*SPRING, "--only", "failed,missing", "--json")
    assert (code, "4 done, 1 failed\n" in err) == (0, True)
    (run,) = json.loads(out)
    assert (run["from"], run["to"], run["rows"]) == ("2024-03", "2024-03", 62)
    assert home.states() == done
    code, out, err = home.backfill(*SPRING, "--only", "failed,missing")
    assert (code, out) == (0, "cold/readings: nothing to do\n")
    assert len(home.runs()) == 2


def test_what_is_missing_in_the_cold_tier_is_told_by_postgresql(home: Home) -> None:
    platform = home.project.platform
    readings = platform.table("readings")
    for month in ("2024-01", "2024-02", "2024-04"):
        move(platform.lake, readings, window_for_key(readings.require_partitioning.grain, month))
    home.project.execute("insert into readings values ('2024-02-09', 'late', 1, 1000)")
    code, out, _ = home.backfill(*SPRING, "--only", "missing", "--json")
    assert code == 0
    assert [(run["from"], run["to"]) for run in json.loads(out)] == [
        ("2024-02", "2024-03"),
        ("2024-05", "2024-05"),
    ]
    assert home.generations() == dict.fromkeys(MONTHS, 1) | {"2024-02": 2}
    assert home.project.answer("select count(*) from readings") == (301,)


def test_what_was_restored_moves_again_and_what_had_settled_keeps_its_count(home: Home) -> None:
    assert home.backfill(*SPRING)[0] == 0
    platform = home.project.platform
    readings = platform.table("readings")
    february = window_for_key(readings.require_partitioning.grain, "2024-02")
    restore(platform.postgres, platform.lake, readings, february, platform.clock.now())
    code, _, err = home.backfill(*SPRING)
    assert code == 0
    assert "cold/readings 2024-02: 58 rows\n" in err
    assert "cold/readings 2024-05: 58 rows\n" in err
    assert home.project.execute("select count(*) from lakebed.held_partition") == [(0,)]
    assert home.project.execute("select count(*) from readings where \"at\" < '2024-06-01'") == [
        (0,)
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("hot/readings",),
            "hot/readings is not an asset with partitions; of readings there is: cold",
        ),
        (("cold/nothing",), "nothing"),
        (
            ("cold/readings", "--from", "2024"),
            "'2024' is not a partition key of grain month. Expected a key such as 2024",
        ),
        (("cold/readings", "--from", "2019-01"), "2019-01 is not between 2024-01 and "),
        (("cold/readings", "--from", "2024-03", "--to", "2024-01"), "2024-03 is after"),
        (("cold/readings", "--only", "green"), "say failed, missing, or failed,missing"),
    ],
    ids=["no partitions", "no table", "no key", "before the start", "backwards", "no state"],
)
def test_what_makes_no_sense_is_told(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    problem: str,
) -> None:
    settings = project.platform.settings
    monkeypatch.setenv("LAKEBED_HOME", str(settings.home))
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", str(settings.postgres_url))
    monkeypatch.setenv("LAKEBED_TABLES", str(TABLES))
    with pytest.raises(SystemExit) as ended:
        cli.main(["backfill", *arguments])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err


def test_a_pool_that_another_run_met_first_is_no_error(home: Home) -> None:
    storage = home.project.instance.event_log_storage
    assert storage.initialize_concurrency_limit_to_default("a new pool")
    assert storage.initialize_concurrency_limit_to_default("a new pool")
    assert storage.get_concurrency_info("a new pool").slot_count == 1


@pytest.mark.thorough
def test_two_backfills_of_overlapping_ranges_take_turns(home: Home) -> None:
    both = [
        home.start("cold/readings", "--from", "2024-01", "--to", "2024-04"),
        home.start("cold/readings", "--from", "2024-02", "--to", "2024-05"),
    ]
    for process in both:
        process.join(processes.PATIENCE)
    assert [process.exitcode for process in both] == [0, 0]
    assert home.generations() == dict.fromkeys(MONTHS, 1)
    assert home.project.answer("select count(*), sum(number)::int from readings") == (300, 44850)
    spans = []
    for record in home.runs():
        run_id = record.dagster_run.run_id
        (step,) = home.project.instance.get_run_step_stats(run_id, ["cold__readings"])
        spans.append((step.start_time, step.end_time))
    (_, first_end), (second_start, _) = sorted(spans)
    assert first_end <= second_start


@pytest.mark.thorough
def test_after_a_backfill_was_killed_the_next_one_waits_for_nothing(home: Home) -> None:
    with home.held("2024-03"):
        process = home.start(*SPRING)
        deadline = time.monotonic() + processes.PATIENCE
        # The month that is held comes last, after a pause; what was done by then is told.
        while home.generations().keys() != set(MONTHS) - {"2024-03"}:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.kill()
        process.join()
    (record,) = home.runs()
    assert record.dagster_run.status == dg.DagsterRunStatus.STARTED
    code, _, err = home.backfill(*SPRING, "--only", "failed,missing")
    assert (code, home.generations().keys()) == (0, set(MONTHS)), err
    killed, *others = home.runs()
    assert killed.dagster_run.status == dg.DagsterRunStatus.FAILURE
    assert others
    assert all(r.dagster_run.status == dg.DagsterRunStatus.SUCCESS for r in others)
    assert home.project.answer("select count(*) from readings") == (300,)
