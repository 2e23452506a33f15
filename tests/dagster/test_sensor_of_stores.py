"""The sensor of new files over object stores: seldom listed, and none of them stops the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import fsspec
import pytest

from lakebed.orchestration import sensors
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform


@pytest.fixture
def store() -> Iterator[Any]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()


def test_a_store_is_listed_once_a_minute_and_a_broken_one_ends_red_alone(
    platform_of: Callable[..., Platform], store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.tables.readings import readings

    def table(name: str, glob: str) -> SourceTable:
        return replace(readings, name=name, source=CsvFiles(glob=glob))

    tables = [
        table("broken", "nosuch://b/*.csv"),
        table("there", "memory://b/*.csv"),
        table("local", "*.csv"),
    ]
    platform = platform_of(*tables)
    now = 0.0
    monkeypatch.setattr("lakebed.ingest.sources.files.monotonic", lambda: now)
    sensor = sensors.new_files_sensor(platform, tables)
    cursor = None
    listed = 0
    glob = store.glob

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal listed
        listed += 1
        return glob(*args, **options)

    monkeypatch.setattr(type(store), "glob", lambda self, *args, **more: counted(*args, **more))

    def tick() -> list[str]:
        nonlocal cursor
        result = sensor(dg.build_sensor_context(cursor=cursor))
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        return [str(request.run_key).partition(":")[0] for request in result.run_requests or []]

    store.pipe("/b/1.csv", b"at\n")
    (platform.settings.data / "1.csv").write_text("at\n")
    assert tick() == ["broken", "there", "local"]
    asked = listed
    assert asked
    assert tick() == ["broken", "there", "local"]
    assert listed == asked
    now += 61
    assert tick() == ["broken", "there", "local"]
    assert listed > asked
