"""What a run leaves behind: rows in both tiers, materializations and checks in Dagster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import polars as pl
import psycopg
import pytest

from lakebed.build import build_defs
from lakebed.errors import TieringError
from lakebed.ingest.retry import retry_rejects
from lakebed.orchestration.instance import instance_environment, prepare_instance
from lakebed.store.platform import open_platform
from lakebed.tiering import move_many, verified_file
from lakebed.tiering.report import Moved
from tests.conftest import TABLES, Server
from tests.dagster.conftest import (
    QUIET,
    Project,
    check_of,
    checks_of,
    metadata_of,
    table_of,
)
from tests.support.locks import move_held

SPRING = ("2024-01", "2024-05")
MONTHS = {"2024-01", "2024-02", "2024-03", "2024-04", "2024-05"}


def test_a_load_loads_every_row_and_tells_how_many(project: Project) -> None:
    file = project.deliver_readings("1.parquet")
    result = project.run("hot/readings")
    told = metadata_of(result, "hot/readings")
    assert (told["rows_read"], told["rows_inserted"], told["rows_rejected"]) == (300, 300, 0)
    assert (told["files"], told["bytes"]) == (1, file.stat().st_size)
    assert told["cursor_to"].startswith("2024-05-29T12:00:00")
    assert told["load_id"] != "nothing new"
    assert (told["dagster/row_count"], told["row_count"]) == (300, "counted")
    phases = [told[f"seconds_{phase}"] for phase in ("extract", "copy", "write", "commit")]
    assert 0 < sum(phases) <= told["seconds"] + 0.05
    assert "select * from readings" in told["query"]
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert project.answer("select count(*), sum(number)::int from readings") == (300, 44850)


def test_a_load_of_nothing_new_says_so_and_is_green(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    result = project.run("hot/readings")
    told = metadata_of(result, "hot/readings")
    assert (told["load_id"], told["rows_read"], told["files"]) == ("nothing new", 0, 0)
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert project.answer("select count(*) from readings") == (300,)


def test_rejected_rows_turn_the_contract_check_into_a_warning_that_shows_them(
    project: Project,
) -> None:
    file = project.deliver_readings("1.parquet")
    frame = pl.read_parquet(file).with_columns(
        value=pl.when(pl.col("number") < 2).then(-2000.0).otherwise("value")
    )
    project.deliver_frame(frame, "1.parquet")
    result = project.run("hot/readings")
    check = check_of(result, "hot/readings", "contract_values")
    assert result.success
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    (row,) = table_of(check, "failures")
    assert (row["column"], row["count"]) == ("value", 2)
    assert (row["kind"], "-1000" in row["rule"]) == ("rule", True)
    assert "1.parquet, row " in row["example"]
    assert '"value": "-2000.0"' in row["example"]
    for other in ("contract_types", "contract_required", "contract_constraints"):
        assert check_of(result, "hot/readings", other).passed
    assert check_of(result, "hot/readings", "reconciliation").passed
    assert project.answer("select count(*), min(value) from readings") == (298, 0.5)


def test_a_run_that_finds_nothing_new_leaves_checks_yellow_while_rejects_wait(
    project: Project,
) -> None:
    file = project.deliver_readings("1.parquet")
    frame = pl.read_parquet(file).with_columns(
        value=pl.when(pl.col("number") < 2).then(-2000.0).otherwise("value")
    )
    project.deliver_frame(frame, "1.parquet")
    project.run("hot/readings")
    empty = project.run("hot/readings")
    assert metadata_of(empty, "hot/readings")["rows_read"] == 0
    check = check_of(empty, "hot/readings", "contract_values")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    health = check_of(project.run("platform/health"), "platform/health", "nothing_is_wrong")
    assert not health.passed
    with project.platform.postgres.connect() as connection:
        connection.execute(
            'update lakebed.rejected_row set source_row = source_row || \'{"value": "1"}\''
        )
    settings, clock = project.platform.settings, project.platform.clock
    table = project.platform.table("readings")
    retry_rejects(settings, project.platform.postgres, clock, table)
    assert check_of(project.run("hot/readings"), "hot/readings", "contract_values").passed


def test_a_load_of_a_table_without_partitions_leaves_a_snapshot_in_the_lake(
    project: Project, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(project.platform.settings, tables=TABLES.with_name("modes"), models=TABLES)
    there = Project(open_platform(settings), build_defs(settings), instance)
    path = there.data / "airports" / "1.csv"
    path.parent.mkdir()
    path.write_text("order,name\nJFK,Kennedy\nLGA,\n")

    def refuse(*_: Any) -> None:
        raise TieringError("no")

    with monkeypatch.context() as broken:
        broken.setattr(verified_file, "_verify", refuse)
        result = there.run("hot/airports", raise_on_error=False)
    assert not result.success
    told = metadata_of(result, "hot/airports")
    assert (told["rows_inserted"], "snapshot_rows" in told) == (2, False)
    assert there.answer("select count(*) from airports") == (2,)
    told = metadata_of(there.run("hot/airports"), "hot/airports")
    assert (told["load_id"], told["snapshot_rows"]) == ("nothing new", 2)
    file = there.platform.lake.files.address("airports/airports_g0001.parquet")
    assert (told["lake_copy"], told["snapshot_bytes"]) == (file, Path(file).stat().st_size)
    with duckdb.connect(there.platform.lake.files.address("catalog.duckdb")) as bare:
        assert bare.execute('select "order" from airports').fetchall() == [("JFK",), ("LGA",)]


def test_a_refused_file_turns_the_run_red_after_the_good_files_were_loaded(
    project: Project,
) -> None:
    project.deliver_readings("1.parquet")
    whole = project.deliver_readings("2.parquet", first=300).read_bytes()
    (project.data / "readings" / "2.parquet").write_bytes(whole[:-100])
    result = project.run("hot/readings", raise_on_error=False)
    assert not result.success
    assert metadata_of(result, "hot/readings")["rows_inserted"] == 300
    check = check_of(result, "hot/readings", "source_files")
    assert not check.passed
    (row,) = table_of(check, "refused")
    assert row["item"].endswith("2.parquet")
    assert row["problem"]
    (failure,) = result.get_step_failure_events()
    assert "1 files were refused" in str(failure.step_failure_data.error_display_string)
    assert project.answer("select count(*) from readings") == (300,)


def test_a_range_of_partitions_moves_in_one_run_and_each_is_materialized(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    truth = project.answer("select count(*), sum(number)::int from readings")
    result = project.run("cold/readings", partitions=SPRING)
    assert result.success
    assert project.materialized("cold/readings") == MONTHS
    rows = {
        event.partition: event.metadata["dagster/partition_row_count"].value
        for event in result.asset_materializations_for_node("cold__readings")
    }
    assert rows == {
        "2024-01": 62,
        "2024-02": 58,
        "2024-03": 62,
        "2024-04": 60,
        "2024-05": 58,
    }
    *_, april, may = result.asset_materializations_for_node("cold__readings")
    told = {name: value.value for name, value in may.metadata.items()}
    for phase in ("lock", "count", "copy", "verify", "publish", "delete", "commit"):
        assert told[f"seconds_{phase}"] >= 0, phase
    assert told["file"].endswith("readings_2024_05_g0001.parquet")
    assert """where "at" >= '2024-05-01T00:00:00+00:00'""" in told["query"]
    assert told["heat_map"].startswith("![partitions](data:image/svg+xml;base64,")
    assert told["heat_map"].endswith("5 cold (blue), 2 empty (grey)")
    assert "heat_map" not in april.metadata, "one picture a run"
    checks = checks_of(result, "cold/readings", "fingerprint")
    assert all(check.passed for check in checks.values())
    assert {
        month: (check.metadata["rows"].value, check.metadata["result"].value)
        for month, check in checks.items()
    } == {month: (count, "equal") for month, count in rows.items()}
    assert project.execute("select count(*) from readings") == [(0,)]
    assert project.answer("select count(*), sum(number)::int from readings") == truth


def test_a_partition_that_another_mover_holds_fails_alone(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    with move_held(project.platform, "readings", "2024-03"):
        result = project.run("cold/readings", partitions=SPRING, raise_on_error=False)
    assert not result.success
    assert project.materialized("cold/readings") == MONTHS - {"2024-03"}
    checks = checks_of(result, "cold/readings", "fingerprint")
    assert [month for month, check in checks.items() if not check.passed] == ["2024-03"]
    assert "another move of it is running" in str(checks["2024-03"].description)
    assert project.execute("select min(at)::date::text, max(at)::date::text from readings") == [
        ("2024-03-01", "2024-03-31")
    ]
    assert project.answer("select count(*) from readings") == (300,)
    again = project.run("cold/readings", partitions=("2024-03", "2024-03"))
    assert again.success
    assert project.materialized("cold/readings") == MONTHS


def test_the_run_of_a_range_with_a_failed_move_names_the_partition(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    move = move_many.move

    def no_room_in_february(lake: Any, table: Any, window: Any, **named: Any) -> Moved:
        if window.key == "2024-02":
            raise TieringError("no room in February")
        return move(lake, table, window, **named)

    monkeypatch.setattr(move_many, "move", no_room_in_february)
    result = project.run("cold/readings", partitions=SPRING, raise_on_error=False)
    (failure,) = result.get_step_failure_events()
    told = failure.step_failure_data.error_display_string
    assert "1 of 5 partitions failed: 2024-02: no room in February" in told
    assert project.materialized("cold/readings") == MONTHS - {"2024-02"}


def test_a_late_row_is_folded_in_by_the_next_run_of_its_partition(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=("2024-01", "2024-01"))
    project.execute("insert into readings values ('2024-01-09', 'late', 1, 1000)")
    result = project.run("cold/readings", partitions=("2024-01", "2024-01"))
    told = metadata_of(result, "cold/readings")
    assert (told["generation"], told["rows_moved"]) == (2, 1)
    assert told["dagster/partition_row_count"] == 63
    assert project.answer("select count(*) from readings") == (301,)


def test_models_are_built_over_both_tiers_and_their_tests_are_checks(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1, 2)
    project.run("hot/readings", "hot/accounts")
    project.run("cold/readings", partitions=("2024-01", "2024-02"))
    result = project.run("staging/stg_readings", "marts/by_month", "marts/per_owner")
    assert metadata_of(result, "marts/by_month")["dagster/row_count"] == 5
    assert check_of(result, "marts/by_month", "assert_no_negative_number").passed
    assert project.answer("select readings, accounts from per_owner") == (300, 2)


def test_a_failing_test_of_a_model_shows_the_rows_that_should_not_be_there(
    project: Project,
) -> None:
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    project.run("hot/readings", "hot/accounts")
    project.execute("update readings set number = -7 where number = 100")
    result = project.run("staging/stg_readings", "marts/by_month", raise_on_error=False)
    check = check_of(result, "marts/by_month", "assert_no_negative_number")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    (row,) = table_of(check, "offending_rows")
    assert row["month"].startswith("2024-02-01")
    assert row["least"] == "-7"


def test_runs_of_a_home_are_kept_in_a_database_beside_its_rows(
    project: Project, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare_instance(project.platform)
    for name, value in instance_environment(project.platform).items():
        monkeypatch.setenv(name, value)
    ours = project.execute("select current_database()")[0][0]
    try:
        with dg.DagsterInstance.from_config(str(folder)) as project.instance:
            project.deliver_readings("1.parquet")
            project.run("hot/readings")
            project.run("cold/readings", partitions=SPRING)
        with psycopg.connect(server.url_of(f"{ours}_dagster")) as connection:
            found = connection.execute("select status, count(*) from runs group by 1").fetchall()
        assert found == [("SUCCESS", 2)]
        with dg.DagsterInstance.from_config(str(folder)) as project.instance:
            assert project.materialized("cold/readings") == MONTHS
        assert project.execute("select to_regclass('runs')") == [(None,)]
    finally:
        server.drop(f"{ours}_dagster")


@pytest.mark.parametrize("policy", ["evolve", "discard"])
def test_a_load_shows_the_columns_that_came_and_those_that_were_left_out(
    project: Project, policy: str
) -> None:
    readings = replace(project.platform.table("readings"), new_columns=policy)
    tables = (readings, project.platform.table("accounts"))
    project.platform = open_platform(project.platform.settings, tables)
    project.defs = build_defs(project.platform.settings, tables=tables)
    frame = pl.read_parquet(project.deliver_readings("1.parquet"))
    project.deliver_frame(frame.with_columns(extra=pl.lit(1)), "1.parquet")
    result = project.run("hot/readings")
    told = metadata_of(result, "hot/readings")
    columns = [column.name for column in told["dagster/column_schema"].columns]
    check = check_of(result, "hot/readings", "source_files")
    assert check.passed
    came, left_out = (told["columns_added"], told["columns_left_out"])
    assert (check.metadata["columns_added"].value, check.metadata["columns_left_out"].value) == (
        came,
        left_out,
    )
    if policy == "evolve":
        assert (came.split(",")[0], left_out) == ("extra integer", "none")
        assert columns[-1] == "extra"
        project.run("cold/readings", partitions=SPRING)
        assert project.answer("select count(extra), sum(extra) from readings") == (300, 300)
    else:
        assert (came, left_out) == ("none", "extra")
        assert "extra" not in columns


def test_a_file_that_is_missing_in_the_lake_fails_the_check_of_files(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    result = project.run("cold/readings", partitions=("2024-01", "2024-02"))
    assert check_of(result, "cold/readings", "files").passed
    (january,) = project.platform.lake.files.root.rglob("readings_2024_01_g0001.parquet")
    january.unlink()
    result = project.run("cold/readings", partitions=("2024-03", "2024-03"), raise_on_error=False)
    check = check_of(result, "cold/readings", "files")
    assert (check.passed, check.metadata["files"].value) == (False, 3)
    assert [(row["partition"], row["problem"]) for row in table_of(check, "wrong")] == [
        ("2024-01", "it is not there")
    ]


def test_the_job_verify_reads_every_file_and_tells_the_check_of_its_asset(
    project: Project,
) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=SPRING)
    job = project.defs.resolve_job_def("verify")
    key = dg.AssetCheckKey(dg.AssetKey(["cold", "readings"]), "files")

    def told() -> bool:
        records = project.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
        return bool(records[0].event.asset_check_evaluation.passed)

    assert job.execute_in_process(instance=project.instance, run_config=QUIET).success
    assert told()
    (march,) = project.platform.lake.files.root.rglob("readings_2024_03_g0001.parquet")
    data = bytearray(march.read_bytes())
    data[100] ^= 1
    march.write_bytes(data)
    result = job.execute_in_process(
        instance=project.instance, run_config=QUIET, raise_on_error=False
    )
    (failure,) = result.get_step_failure_events()
    assert "readings_2024_03_g0001.parquet: its SHA-256" in str(failure.step_failure_data)
    assert not told()


def test_the_daily_upkeep_keeps_house_and_tells_what_it_did(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=SPRING)
    job = project.defs.resolve_job_def("upkeep")
    assert job.execute_in_process(instance=project.instance, run_config=QUIET).success
    partition_tables = "select count(*) from pg_partition_tree('readings') where isleaf"
    assert project.execute(partition_tables) == [(9,)], (
        "with the gap, and those of July to September"
    )
    pages = "select sum(pg_relation_size(relid))::int from pg_partition_tree('readings')"
    assert project.execute(pages) == [(0,)]
    assert (project.platform.settings.home / "lake" / "catalog.duckdb").is_file()


def test_an_expected_refusal_fails_the_run_with_its_text_and_no_cause(project: Project) -> None:
    project.deliver_accounts("1.csv", 1)
    project.run("hot/accounts")
    project.execute("alter table accounts rename column owner to holder")
    project.deliver_accounts("2.csv", 2)
    result = project.run("hot/accounts", raise_on_error=False)
    failure = result.failure_data_for_node("hot__accounts")
    assert failure is not None and failure.user_failure_data is not None
    assert "lakebed plan" in (failure.user_failure_data.description or "")
    assert failure.error is not None
    assert (failure.error.cause, failure.error.context) == (None, None)


def test_the_job_restore_brings_partitions_back_and_fails_for_those_it_cannot(
    project: Project,
) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=SPRING)
    job = project.defs.resolve_job_def("restore")

    def run(**config: Any) -> dg.ExecuteInProcessResult:
        ops = {"bring_back": {"config": {"table": "readings", **config}}}
        return job.execute_in_process(
            instance=project.instance, run_config=QUIET | {"ops": ops}, raise_on_error=False
        )

    def live() -> list[str]:
        with project.platform.postgres.connect() as connection:
            query = "select partition_key from lakebed.cold_file where superseded_at is null"
            return sorted(key for (key,) in connection.execute(query).fetchall())

    before = live()
    assert run(partitions=["2024-02"], hold="1d").success
    assert live() == [key for key in before if key != "2024-02"]
    (march,) = project.platform.lake.files.root.rglob("readings_2024_03_g0001.parquet")
    march.write_bytes(b"no parquet")
    result = run(since="2024-03-01T00:00:00+00:00", until="2024-05-01T00:00:00+00:00")
    (failure,) = result.get_step_failure_events()
    assert "1 of 2 partitions were not restored: readings 2024-03" in str(failure.step_failure_data)
    assert live() == [key for key in before if key not in ("2024-02", "2024-04")]
