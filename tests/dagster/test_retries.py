"""Which runs the daemon of a home starts again: those that ended without an answer, twice."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster_shared.yaml_utils import load_yaml_from_path

from lakebed.orchestration import hot_assets as assets
from lakebed.orchestration.instance import prepare_instance
from tests.dagster.conftest import Project, asset_key


@pytest.fixture
def retrying(project: Project) -> Iterator[Project]:
    """The project over an instance that retries as that of a home does."""
    written = load_yaml_from_path(str(prepare_instance(project.platform) / "dagster.yaml"))
    assert isinstance(written, dict)
    with dg.instance_for_test(overrides={"run_retries": written["run_retries"]}) as instance:
        project.instance = instance
        yield project


def will_retry(project: Project, run_id: str) -> bool:
    run = project.instance.get_run_by_id(run_id)
    assert run is not None
    return run.tags.get("dagster/will_retry") == "true"


def begun(project: Project, before: dg.DagsterRun | None = None) -> dg.DagsterRun:
    """Return a run of a load under way; before: the run that it does again."""
    first = (before.root_run_id or before.run_id) if before else None
    tags = {"dagster/parent_run_id": before.run_id, "dagster/root_run_id": first} if before else {}
    return project.instance.create_run_for_job(
        project.defs.resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset([asset_key("hot/readings")]),
        parent_run_id=before.run_id if before else None,
        root_run_id=first,
        tags=tags,
    )


def test_a_run_that_died_is_run_again_twice_and_no_more(retrying: Project) -> None:
    run, answers = None, []
    for _ in range(3):
        run = begun(retrying, run)
        retrying.instance.report_run_failed(run, "Its process is gone.")
        answers.append(will_retry(retrying, run.run_id))
    assert answers == [True, True, False]


def test_a_run_that_was_canceled_is_not_run_again(retrying: Project) -> None:
    run = begun(retrying)
    retrying.instance.report_run_canceled(run)
    assert not will_retry(retrying, run.run_id)


def test_a_refused_file_is_an_answer(retrying: Project) -> None:
    (retrying.data / "readings").mkdir()
    (retrying.data / "readings" / "1.parquet").write_bytes(b"no Parquet at all")
    result = retrying.run("hot/readings", raise_on_error=False)
    assert not result.success
    assert not will_retry(retrying, result.run_id)


def test_a_load_that_was_interrupted_is_run_again(
    retrying: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(assets, "load_table", stopped)
    assert not retrying.run("hot/readings", raise_on_error=False).success
    (run,) = retrying.instance.get_runs()
    assert run.status == dg.DagsterRunStatus.FAILURE
    assert will_retry(retrying, run.run_id)
