"""A JSON string of a JSON source stays one in a json column; text that holds JSON is declared."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.spec.table import (
    CsvFiles,
    DltResource,
    JsonFiles,
    Mapped,
    ParquetFiles,
    SourceTable,
    TableError,
)
from lakebed.store.platform import Platform
from tests.support import feeds
from tests.support.queried import ask, load, load_well

Make = Callable[..., Platform]
VALUES: list[Any] = [
    {"a": 1, "b": "1"},
    "12",
    "1e5",
    "true",
    "null",
    "plain text",
    "00123",
    'a "quoted" word\n',
    "",
    ["x", None, "2"],
    12,
    1.5,
    True,
    None,
]


class Event(pa.DataFrameModel):
    id: pl.Int64
    payload: str = pa.Field(nullable=True, metadata={"postgres": "jsonb"})


class TextEvent(pa.DataFrameModel):
    id: pl.Int64
    payload: str = pa.Field(nullable=True, metadata={"postgres": "json"})


def events(source: Any, model: Any = Event, **more: Any) -> SourceTable:
    options = {"key": ("id",), "write_mode": "merge", "reject_share": 0.9} | more
    return SourceTable(name="events", model=model, source=source, **options)


def rows() -> list[dict[str, Any]]:
    return [{"id": number, "payload": value} for number, value in enumerate(VALUES)]


def write_lines(platform: Platform, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (platform.settings.data / "events.jsonl").write_text(text)


def payloads(platform: Platform) -> list[Any]:
    found = ask(platform, "select payload::text from events order by id")
    return [None if text is None else json.loads(text) for (text,) in found]


@pytest.mark.parametrize("model", [Event, TextEvent])
@pytest.mark.parametrize("kind", ["file", "resource"])
def test_each_value_of_a_json_source_keeps_its_type(
    platform_of: Make, monkeypatch: pytest.MonkeyPatch, kind: str, model: Any
) -> None:
    monkeypatch.setattr(feeds, "ROWS", rows())
    resource = DltResource(resource="tests.support.feeds:given")
    source = JsonFiles(glob="events.jsonl") if kind == "file" else resource
    platform = platform_of(events(source, model))
    write_lines(platform, rows())
    assert load_well(platform, "events").rejected == 0
    found = payloads(platform)
    assert found == VALUES
    assert [type(value) for value in found] == [type(value) for value in VALUES]
    with platform.lake.session() as session:
        read = session.sql("select id, json_type(payload) from events where id in (1, 10)")
        assert sorted(read.fetchall()) == [(1, "VARCHAR"), (10, "UBIGINT")]


def test_text_that_holds_json_is_declared(platform_of: Make) -> None:
    transforms = {"payload": Mapped(json_text=True)}
    platform = platform_of(events(JsonFiles(glob="events.jsonl"), transforms=transforms))
    write_lines(
        platform,
        [{"id": 1, "payload": '{"a": 1}'}, {"id": 2, "payload": "12"}, {"id": 3, "payload": "no"}],
    )
    assert load_well(platform, "events").rejected == 1
    assert payloads(platform) == [{"a": 1}, 12]


def test_json_text_is_for_columns_of_json() -> None:
    with pytest.raises(TableError, match="json_text"):
        events(JsonFiles(glob="events.jsonl"), transforms={"id": Mapped(json_text=True)})


def test_a_source_column_that_another_column_is_made_of_is_text(platform_of: Make) -> None:
    class Both(Event):
        word: str = pa.Field(nullable=True)

    table = events(
        JsonFiles(glob="events.jsonl"), Both, transforms={"word": Mapped("payload", trim=True)}
    )
    platform = platform_of(table)
    write_lines(platform, [{"id": 1, "payload": " true "}])
    load_well(platform, "events")
    assert ask(platform, "select payload::text, word from events") == [("true", "true")]


@pytest.mark.parametrize("kind", [CsvFiles, ParquetFiles])
def test_other_files_hold_json_as_text(platform_of: Make, kind: Any) -> None:
    platform = platform_of(events(kind(glob="events.x")))
    frame = pl.DataFrame({"id": [1, 2], "payload": ['{"a": 1}', '"12"']})
    path = platform.settings.data / "events.x"
    frame.write_csv(path) if kind is CsvFiles else frame.write_parquet(path)
    load_well(platform, "events")
    assert payloads(platform) == [{"a": 1}, "12"]


def test_a_rejected_row_is_loaded_again_with_its_string(platform_of: Make) -> None:
    from lakebed.ingest.retry import retry_rejects

    class Strict(Event):
        id: pl.Int64 = pa.Field(ge=5)

    source = JsonFiles(glob="events.jsonl")
    platform = platform_of(events(source, Strict))
    write_lines(platform, [{"id": 1, "payload": "12"}, {"id": 5, "payload": 12}])
    assert load(platform, "events").rejected == 1
    loose = platform_of(events(source))
    given = (loose.settings, loose.postgres, loose.clock)
    assert retry_rejects(*given, loose.table("events")).inserted == 1
    assert payloads(loose) == ["12", 12]
