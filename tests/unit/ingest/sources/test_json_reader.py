"""JSON lines are read as the text that is written; what is no object is told apart alone."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import JsonFiles
from tests.unit.ingest.sources.conftest import Read

SOURCE = JsonFiles(glob="f.jsonl")
BLOCK = "lakebed.ingest.sources.json_lines.JSON_BLOCK_BYTES"


@pytest.fixture
def read_text(read: Callable[..., Read], tmp_path: Path) -> Callable[..., Read]:
    def run(text: str | bytes, columns: list[str] | None = None) -> Read:
        (tmp_path / "f.jsonl").write_bytes(text.encode() if isinstance(text, str) else text)
        return read(SOURCE, columns)

    return run


TEXT = st.text(st.sampled_from('ab"\\{}[]:,\n\té\U0001f600null '), max_size=6)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    TEXT,
    st.lists(TEXT, max_size=2),
    st.dictionaries(TEXT, st.integers(0, 9), max_size=2),
)


@given(
    rows=st.lists(st.dictionaries(st.sampled_from(["a", 'b"', "c:{"]), VALUES), max_size=8),
    ascii_only=st.booleans(),
    block=st.integers(1, 60),
)
def test_whatever_is_written_is_read(
    read_text: Callable[..., Read],
    monkeypatch: pytest.MonkeyPatch,
    rows: list[dict[str, object]],
    ascii_only: bool,
    block: int,
) -> None:
    monkeypatch.setattr(BLOCK, block)
    columns = ["a", 'b"', "c:{"]
    text = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows)
    found = read_text(text, columns)
    assert (found.malformed, found.others) == ({}, set())
    assert found.numbers == list(range(1, len(rows) + 1))
    for row, values in zip(rows, found.rows, strict=True):
        for name, value in zip(columns, values, strict=True):
            expected = row.get(name)
            if expected is None or isinstance(expected, str):
                assert value == expected
            else:
                assert json.loads(value) == expected


def test_numbers_and_nested_values_stay_as_they_are_written(read_text: Callable[..., Read]) -> None:
    text = '{"n":12345678901234567890.1234567890, "o" : {"k":[1, 2.50]} , "s":"\\u00e9\\n"}'
    assert read_text(text).rows == [("12345678901234567890.1234567890", '{"k":[1, 2.50]}', "é\n")]


def test_lines_that_are_no_objects_are_told_apart_one_by_one(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BLOCK, 64)
    lines = [b'{"a":%d}' % i for i in range(100)]
    lines[10] = b'{"a":'
    lines[20] = b"[1]"
    lines[30] = b'{"a":"\xff"}'
    lines[40] = b'{"a":1}{"a":2}'
    lines[50] = b""
    lines[60] = b'{"a":"{"'
    found = read_text(b"\n".join(lines))
    assert list(found.malformed) == [11, 21, 31, 41, 60]
    assert (found.malformed[11][0].rule, found.malformed[11][1]) == ("not_an_object", '{"a":')
    assert sorted([*found.numbers, *found.malformed]) == list(range(1, 100))
    assert found.rows[-1] == ("99",)


def test_keys_that_were_not_asked_for_are_named_wherever_they_come(
    read_text: Callable[..., Read],
) -> None:
    found = read_text('{"a":1}\n{"b":{"c":1},"a":2}\n', ["a"])
    assert (found.rows, found.others) == ([("1",), ("2",)], {"b"})


def test_of_a_key_that_stands_twice_the_last_counts(read_text: Callable[..., Read]) -> None:
    assert read_text('{"a":1,"a":2}\n{"a":null}\n{"a":"null"}\n').rows == [
        ("2",),
        (None,),
        ("null",),
    ]


def test_compressed_lines(read: Callable[..., Read], tmp_path: Path) -> None:
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf{"a":1}\r\n{"a":2}\r\n'))
    assert read(JsonFiles(glob="f.jsonl.gz")).rows == [("1",), ("2",)]


def test_one_great_document_is_refused_with_what_is_asked_for(
    read_text: Callable[..., Read], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BLOCK, 100)
    monkeypatch.setattr("lakebed.ingest.sources.json_lines.LONGEST_LINE_BYTES", 1000)
    with pytest.raises(SourceError, match="must be JSON lines"):
        read_text(b'[{"a":1}' + b',{"a":1}' * 1000, ["a"])
