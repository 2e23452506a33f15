"""What a run of a range tells Dagster of each partition, and what follows from it downstream.

These tests notice when a new version of Dagster changes the private classes of dagster_runs.
"""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from lakebed.orchestration import dagster_runs
from lakebed.orchestration.dagster_partitions import check_partitions
from lakebed.orchestration.dagster_runs import PartitionLog, RetryQueue, partitions_failed, retried
from lakebed.store.locks import LoadBusyError
from tests.dagster.conftest import QUIET

pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`")

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-06")
KEYS = DAYS.get_partition_keys()
UP, DOWN = dg.AssetKey("up"), dg.AssetKey("down")
GOOD = dg.AssetCheckKey(UP, "good")
RANGE = {
    "dagster/asset_partition_range_start": KEYS[0],
    "dagster/asset_partition_range_end": KEYS[-1],
}


def definitions(bad: set[str], missing: set[str]) -> dg.Definitions:
    """An asset whose check fails for some partitions, and which fails itself for others."""
    with check_partitions():
        spec = dg.AssetCheckSpec("good", asset=UP, partitions_def=DAYS, blocking=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(
            key=UP,
            partitions_def=DAYS,
            backfill_policy=dg.BackfillPolicy.single_run(),
            output_required=False,
            check_specs=[spec],
        )
        def up(context: dg.AssetExecutionContext) -> Iterator[Any]:
            log = PartitionLog(context, UP)
            for key in context.partition_keys:
                passed = key not in bad | missing
                metadata = None if key in missing else {"rows": 7}
                result = dg.AssetCheckResult(check_name="good", passed=passed, description=key)
                yield from log.add(key, metadata, [result])
            yield from log.finish()
            if missing:
                raise partitions_failed([(key, "no") for key in missing], len(KEYS))

    condition = dg.AutomationCondition
    follows = condition.any_deps_updated().since_last_handled()

    @dg.asset(
        key=DOWN,
        deps=[UP],
        partitions_def=DAYS,
        automation_condition=follows & condition.all_deps_blocking_checks_passed(),
    )
    def down() -> None:
        pass

    return dg.Definitions(assets=[up, down], executor=dg.in_process_executor)


def run(defs: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[UP],
        run_config=QUIET,
        tags=RANGE,
        raise_on_error=False,
    )


def check_states(instance: dg.DagsterInstance) -> dict[str | None, tuple[str, bool]]:
    found = instance.event_log_storage.get_asset_check_partition_info([GOOD])
    return {
        info.partition_key: (info.latest_execution_status.value, info.is_current) for info in found
    }


@pytest.mark.parametrize("at_once", [1, 2, 200], ids=["one by one", "in batches", "in one batch"])
def test_each_partition_has_its_own_materialization_and_check(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(dagster_runs, "PARTITIONS_AT_ONCE", at_once)
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "3")
    result = run(definitions(bad={KEYS[1]}, missing={KEYS[3]}), instance)
    assert not result.success
    assert instance.get_materialized_partitions(UP) == set(KEYS) - {KEYS[3]}
    states = instance.get_status_by_partition(UP, KEYS, DAYS)
    assert states is not None
    failed = [key for key, state in states.items() if state and state.value == "FAILED"]
    assert failed == [KEYS[3]]
    good = {key: ("SUCCEEDED", True) for key in KEYS}
    assert check_states(instance) == good | {key: ("FAILED", True) for key in (KEYS[1], KEYS[3])}


def test_a_partition_that_failed_again_keeps_its_materialization_and_shows_the_failed_check(
    instance: dg.DagsterInstance,
) -> None:
    assert run(definitions(set(), set()), instance).success
    assert not run(definitions(set(), {KEYS[2]}), instance).success
    assert instance.get_materialized_partitions(UP) == set(KEYS)
    assert check_states(instance)[KEYS[2]] == ("FAILED", True)


def test_a_failed_blocking_check_holds_back_its_partition_alone(
    instance: dg.DagsterInstance,
) -> None:
    defs = definitions(bad={KEYS[1]}, missing=set())

    def asked(cursor: Any) -> tuple[set[str], Any]:
        result = dg.evaluate_automation_conditions(
            defs, instance, cursor=cursor, evaluation_time=datetime(2024, 2, 1, tzinfo=UTC)
        )
        return result.get_requested_partitions(DOWN), result.cursor

    nothing, cursor = asked(None)
    assert nothing == set()
    assert run(defs, instance).success
    first, cursor = asked(cursor)
    assert first == set(KEYS) - {KEYS[1]}
    assert run(definitions(set(), set()), instance).success
    second, _ = asked(cursor)
    assert KEYS[1] in second


def test_what_others_held_comes_again_at_the_end_and_bad_data_does_not() -> None:
    seen = []
    retry_queue = RetryQueue(["a", "b", "c"])
    for partition in retry_queue:
        seen.append(partition)
        error = LoadBusyError("busy") if partition == "a" else ValueError("bad")
        assert retry_queue.requeue(partition, error) == (partition == "a" and seen.count("a") < 3)
    assert seen == ["a", "b", "c", "a", "a"]


@pytest.mark.parametrize(
    ("error", "tries"), [(LoadBusyError("busy"), 3), (ValueError("bad"), 1)], ids=["busy", "bad"]
)
def test_a_step_is_tried_again_where_a_further_try_can_help(
    instance: dg.DagsterInstance, error: Exception, tries: int
) -> None:
    calls = []

    @dg.asset
    def busy(context: dg.AssetExecutionContext) -> None:
        with retried(context):
            calls.append(context.retry_number)
            raise error

    job = dg.Definitions(assets=[busy], executor=dg.in_process_executor)
    result = job.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance, run_config=QUIET, raise_on_error=False
    )
    assert not result.success
    assert len(calls) == tries
