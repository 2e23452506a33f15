"""A run that fails is told to a webhook: what, why, and no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import dagster as dg
import pytest

from lakebed.build import build_defs
from lakebed.orchestration.sensors import failure_sensor
from lakebed.store.platform import open_platform
from tests.dagster.conftest import Project, asset_key
from tests.support.locks import move_held

PASSWORD = "hunter2"  # noqa: S105


class Webhook(ThreadingHTTPServer):
    """A webhook on this machine that remembers what was posted to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posted: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/alerts"


class _Handler(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append(json.loads(body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def alert(project: Project, result: dg.ExecuteInProcessResult) -> None:
    """Call the failure sensor as the daemon does after a failed run."""
    with dg.build_run_status_sensor_context(
        sensor_name="alert_on_failure",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=project.instance,
        dagster_run=result.dagster_run,
    ) as context:
        failure_sensor(project.platform)(context.for_run_failure())


def test_a_failed_run_is_posted_with_its_reason_and_without_the_password(
    project: Project, webhook: Webhook
) -> None:
    url = project.platform.settings.postgres_url
    assert url is not None
    settings = replace(
        project.platform.settings,
        postgres_url=url.replace("postgres:@", f"postgres:{PASSWORD}@"),
        alert_url=webhook.url,
        ui_url="https://lakebed.example/",
    )
    project.platform, project.defs = open_platform(settings), build_defs(settings)
    bad = project.data / "readings" / f"{PASSWORD}.parquet"
    bad.parent.mkdir()
    bad.write_bytes(b"no Parquet at all")
    result = project.run("hot/readings", raise_on_error=False)
    alert(project, result)
    (posted,) = webhook.posted
    assert posted["run_id"] == result.run_id
    assert posted["assets"] == ["hot/readings"]
    assert posted["partition"] is None
    assert posted["error"].startswith("1 files were refused. All other files were loaded. ")
    assert "/readings/***.parquet: " in posted["error"]
    link = f"https://lakebed.example/runs/{result.run_id}"
    assert posted["link"] == link
    assert posted["text"] == f"Lakebed: hot/readings failed: {posted['error']} <{link}|the run>"
    assert PASSWORD not in str(posted)


def test_a_failed_move_is_posted_with_the_range_of_its_partitions(
    project: Project, webhook: Webhook
) -> None:
    settings = replace(project.platform.settings, alert_url=webhook.url)
    project.platform, project.defs = open_platform(settings), build_defs(settings)
    project.deliver_readings("1.parquet")
    project.run("hot/readings")
    with move_held(project.platform, "readings", "2024-03"):
        result = project.run(
            "cold/readings", partitions=("2024-01", "2024-05"), raise_on_error=False
        )
    alert(project, result)
    (posted,) = webhook.posted
    assert (posted["assets"], posted["partition"]) == (["cold/readings"], "2024-01...2024-05")
    assert "1 of 5 partitions failed: 2024-03: " in posted["error"]


def test_without_a_webhook_a_failed_run_posts_nothing(project: Project) -> None:
    (project.data / "readings").mkdir()
    (project.data / "readings" / "1.parquet").write_bytes(b"no Parquet at all")
    result = project.run("hot/readings", raise_on_error=False)
    assert not result.success
    alert(project, result)


def test_a_run_without_a_code_location_is_posted_and_a_killed_one_says_so(
    project: Project, webhook: Webhook
) -> None:
    settings = replace(project.platform.settings, alert_url=webhook.url)
    sensor = failure_sensor(open_platform(settings))
    cursor = None
    for failed in range(2):
        if failed:
            run = project.instance.create_run_for_job(
                project.defs.resolve_implicit_global_asset_job_def(),
                status=dg.DagsterRunStatus.STARTED,
                asset_selection=frozenset([asset_key("hot/readings")]),
            )
            project.instance.report_run_failed(run, "Its process is gone.")
        # The daemon's context: runs of its own location have an origin, those of a command none.
        with dg.build_sensor_context(
            instance=project.instance, cursor=cursor, repository_name="lakebed"
        ) as context:
            sensor.evaluate_tick(context)
            cursor = context.cursor
    (posted,) = webhook.posted
    assert posted["assets"] == ["hot/readings"]
    assert posted["error"] == (
        "the run was killed or stopped before it was done: Its process is gone. "
        "It is not tried again; run it again yourself."
    )
