"""What commands did, reported to Dagster by the sensor that compares PostgreSQL and event log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from lakebed.ingest.load import load_table
from lakebed.models.runner import build, models_of
from lakebed.orchestration import event_reconciliation
from lakebed.orchestration.dagster_partitions import partitions_of
from lakebed.orchestration.event_reconciliation import Reconciliation
from lakebed.recovery.rollback import rollback
from lakebed.spec.partitions import window_for_key
from lakebed.tiering.move import move
from lakebed.tiering.restore import restore
from tests.dagster.conftest import Project, asset_key


def load(project: Project, name: str) -> None:
    platform = project.platform
    table = platform.table(name)
    load_table(platform.settings, platform.postgres, platform.clock, table)


def moved(project: Project, *keys: str) -> None:
    table = project.platform.table("readings")
    for key in keys:
        move(project.platform.lake, table, window_for_key(table.require_partitioning.grain, key))


def reconcile(project: Project) -> int:
    """Return how many events a tick reports, from a process that remembers nothing."""
    return Reconciliation(project.platform, models_of(project.platform), project.instance).run()


def events(project: Project, key: str) -> list[dg.AssetMaterialization]:
    """Return the materializations of an asset, oldest first."""
    records = project.instance.fetch_materializations(asset_key(key), 1000, ascending=True).records
    return [event for record in records if (event := record.asset_materialization)]


def shown(event: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in event.metadata.items()}


def test_loads_by_command_are_reported_once_each(project: Project) -> None:
    assert reconcile(project) == 0
    project.deliver_accounts("1.csv", 1, 2)
    load(project, "accounts")
    project.deliver_accounts("2.csv", 3)
    load(project, "accounts")
    reconcile(project)
    assert reconcile(project) == 0
    first, second = events(project, "hot/accounts")
    assert [shown(event)["rows_inserted"] for event in (first, second)] == [2, 1]
    assert shown(second)["dagster/row_count"] == 3
    assert "committed_at" in shown(second)
    ((load_id,),) = project.execute(
        "select load_id from lakebed.load order by committed_at desc limit 1"
    )
    assert second.tags == {"dagster/data_version": load_id}


def test_a_run_that_reported_its_load_is_not_reported_again(project: Project) -> None:
    project.deliver_accounts("1.csv", 1, 2)
    project.run("hot/accounts")
    reconcile(project)
    load(project, "accounts")  # finds nothing new
    assert reconcile(project) == 0
    assert len(events(project, "hot/accounts")) == 1


def test_a_rollback_is_reported_as_the_state_before_it(project: Project) -> None:
    for number in (1, 2):
        project.deliver_accounts(f"{number}.csv", number)
        load(project, "accounts")
    reconcile(project)
    platform = project.platform
    rollback(platform.postgres, platform.lake.files, platform.table("accounts"))
    assert reconcile(project) == 1
    assert reconcile(project) == 0
    assert shown(events(project, "hot/accounts")[-1])["dagster/row_count"] == 1


def test_moves_by_command_are_reported_with_the_figures_of_the_manifest(project: Project) -> None:
    project.deliver_readings("1.parquet")
    load(project, "readings")
    moved(project, "2024-01", "2024-02")
    assert reconcile(project) > 0
    assert reconcile(project) == 0
    found = {event.partition: shown(event) for event in events(project, "cold/readings")}
    rows = "select partition_key, rows, bytes, generation from lakebed.cold_file"
    for key, count, size, generation in project.execute(rows):
        assert found[key]["dagster/partition_row_count"] == count
        assert found[key]["bytes"] == size
        assert found[key]["generation"] == generation
    assert {"2024-01", "2024-02"} <= found.keys()


def test_a_compaction_and_a_restore_are_reported_after_the_move(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=("2024-01", "2024-02"))
    reconcile(project)
    before = len(events(project, "cold/readings"))
    project.execute("insert into readings values ('2024-01-02T03:00Z', 'late', 1.0, 1)")
    moved(project, "2024-01")
    platform, table = project.platform, project.platform.table("readings")
    february = window_for_key(table.require_partitioning.grain, "2024-02")
    restore(
        platform.postgres,
        platform.lake,
        table,
        february,
        platform.clock.now(),
        hold=timedelta(days=7),
    )
    assert reconcile(project) == 2
    assert reconcile(project) == 0
    new = {event.partition: shown(event) for event in events(project, "cold/readings")[before:]}
    assert new["2024-01"]["state"] == "generation 2"
    assert new["2024-02"]["state"] == "restored to PostgreSQL, and held there"


def test_moves_by_runs_are_not_reported_again(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    project.run("cold/readings", partitions=("2024-01", "2024-04"))
    reconcile(project)
    keys = [event.partition for event in events(project, "cold/readings")]
    assert keys.count("2024-01") == keys.count("2024-04") == 1
    # A backfill over partitions that are cold says what they are, not what this run moved.
    result = project.run("cold/readings", partitions=("2024-01", "2024-01"))
    (event,) = result.asset_materializations_for_node("cold__readings")
    assert shown(event)["generation"] == 1
    assert shown(event)["bytes"] > 0
    assert reconcile(project) == 0


def test_checks_of_what_commands_did_are_reported(project: Project) -> None:
    project.deliver_readings("1.parquet")
    load(project, "readings")
    moved(project, "2024-01")
    reconcile(project)
    storage = project.instance.event_log_storage
    for asset, name in (
        ("hot/readings", "reconciliation"),
        ("cold/readings", "files"),
        ("cold/readings", "coverage"),
    ):
        check = dg.AssetCheckKey(asset_key(asset), name)
        record = storage.get_latest_asset_check_execution_by_key([check])[check]
        assert record.status.value == "SUCCEEDED", name
    check = dg.AssetCheckKey(asset_key("cold/readings"), "fingerprint")
    (info,) = storage.get_asset_check_partition_info([check])
    assert (info.partition_key, info.latest_execution_status.value) == ("2024-01", "SUCCEEDED")
    assert info.is_current


def test_builds_by_command_are_reported_once(project: Project) -> None:
    project.deliver_readings("1.parquet")
    project.deliver_accounts("1.csv", 1)
    load(project, "readings")
    load(project, "accounts")
    list(build(project.platform))
    assert reconcile(project) > 0
    (event,) = events(project, "marts/by_month")
    assert shown(event)["generation"] == 1
    assert shown(event)["dagster/row_count"] == 5
    assert reconcile(project) == 0
    project.run("marts/by_month")
    assert reconcile(project) == 0
    assert len(events(project, "marts/by_month")) == 2


def test_an_asset_of_a_run_under_way_is_left_to_the_run(project: Project) -> None:
    project.deliver_accounts("1.csv", 1)
    load(project, "accounts")
    job = project.defs.resolve_implicit_global_asset_job_def()
    run = project.instance.create_run_for_job(
        job,
        asset_selection=frozenset({asset_key("hot/accounts")}),
        status=dg.DagsterRunStatus.STARTED,
    )
    reconcile(project)
    assert events(project, "hot/accounts") == []
    project.instance.report_run_canceled(run)
    assert reconcile(project) == 1
    assert len(events(project, "hot/accounts")) == 1


def test_a_tick_is_bounded_and_the_next_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_reconciliation, "EVENTS_PER_TICK", 2)
    project.deliver_readings("1.parquet")
    load(project, "readings")
    moved(project, "2024-01", "2024-02", "2024-03")
    assert reconcile(project) == 2
    while reconcile(project):
        pass
    keys = [event.partition for event in events(project, "cold/readings")]
    assert len(keys) == len(set(keys)) >= 3


def test_the_sensor_remembers_what_it_compared(project: Project) -> None:
    project.deliver_readings("1.parquet")
    load(project, "readings")
    moved(project, "2024-01")
    sensor, cursor = project.defs.resolve_sensor_def("commands_in_the_ui"), None
    said = []
    for _ in range(3):
        with dg.build_sensor_context(
            instance=project.instance, cursor=cursor, definitions=project.defs
        ) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        assert result.skip_reason is not None
        said.append(result.skip_reason.skip_message)
    assert said[0] != said[1] == said[2] == "0 events were reported"
    assert "cold/readings" in (cursor or "")


def test_no_partition_is_missing_after_commands_alone(project: Project) -> None:
    project.deliver_readings("1.parquet", rows=360)  # six months, the last of which is not due
    load(project, "readings")
    moved(project, "2024-01", "2024-02", "2024-03", "2024-04", "2024-05")
    reconcile(project)
    known = partitions_of(project.platform.table("readings")).get_partition_keys()
    assert project.materialized("cold/readings") == set(known)
    states = {e.partition: shown(e)["state"] for e in events(project, "cold/readings")}
    assert states["2024-05"] == "generation 1"
    assert states["2024-06"].startswith("not due yet")


def test_a_due_partition_is_missing_until_it_was_moved(project: Project) -> None:
    project.deliver_readings("1.parquet")
    load(project, "readings")
    moved(project, "2024-01")
    reconcile(project)
    known = set(partitions_of(project.platform.table("readings")).get_partition_keys())
    due = {"2024-02", "2024-03", "2024-04", "2024-05"}
    assert known - project.materialized("cold/readings") == due


def test_a_run_over_all_partitions_moves_nothing_that_is_not_due(project: Project) -> None:
    project.deliver_readings("1.parquet", rows=360)
    load(project, "readings")
    result = project.run("cold/readings", partitions=("2024-04", "2024-08"))
    cold = "select partition_key from lakebed.cold_file order by 1"
    assert project.execute(cold) == [("2024-04",), ("2024-05",)]
    found = result.asset_materializations_for_node("cold__readings")
    states = {event.partition: event.metadata["state"].value for event in found}
    assert states["2024-04"] == "generation 1"
    assert states["2024-06"].startswith("not due yet")
    reconcile(project)
    assert len([e for e in events(project, "cold/readings") if e.partition == "2024-06"]) == 1
    tags = {"lakebed/before_due": "true"}
    project.run("cold/readings", partitions=("2024-06", "2024-06"), tags=tags)
    assert project.execute(cold)[-1] == ("2024-06",)


def test_an_observed_source_does_not_make_its_table_unsynced(project: Project) -> None:
    project.deliver_accounts("1.csv", 1)
    with dg.build_sensor_context(instance=project.instance, definitions=project.defs) as context:
        result = project.defs.resolve_sensor_def("new_files")(context)
    assert isinstance(result, dg.SensorResult)
    (observation,) = result.asset_events
    assert isinstance(observation, dg.AssetObservation)
    # A data version would: a load by command has no provenance that names it.
    assert observation.tags == {}
    assert observation.metadata["version"].value
