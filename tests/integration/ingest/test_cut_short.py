"""A full extract that may have been cut off deletes nothing, whatever it is written in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
import pyarrow as arrow
import pytest

from lakebed.spec.table import ArrowFiles, CsvFiles, JsonFiles, ParquetFiles, SourceTable
from lakebed.store.platform import Platform
from tests.support.queried import ask, load, load_well

Make = Callable[..., Platform]
ROWS = 400


class Item(pa.DataFrameModel):
    id: pl.Int64
    name: str


def _csv(rows: list[dict[str, Any]]) -> bytes:
    return b"id,name\n" + b"".join(b"%d,%s\n" % (r["id"], r["name"].encode()) for r in rows)


def _json(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _stream(rows: list[dict[str, Any]], whole: bool = True) -> bytes:
    """Return an Arrow stream of batches of ten rows, with its end mark or without it."""
    sink = arrow.BufferOutputStream()
    table = arrow.Table.from_pylist(rows)
    with arrow.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=10):
            writer.write_batch(batch)
        end = sink.tell()
    data: bytes = sink.getvalue().to_pybytes()
    return data if whole else data[:end]


CASES: dict[str, tuple[Any, Callable[..., bytes], Callable[[bytes], bytes]]] = {
    "csv": (CsvFiles, _csv, lambda data: data[: data.rindex(b",", 0, len(data) * 9 // 10)]),
    "csv quote": (CsvFiles, _csv, lambda data: data[: len(data) * 9 // 10] + b'\n399,"nam'),
    "json": (JsonFiles, _json, lambda data: data[: len(data) * 9 // 10]),
    "parquet": (ParquetFiles, lambda rows: b"", lambda data: data[: len(data) // 2]),
    "arrow": (ArrowFiles, _stream, lambda data: data),
}


def extract(path: Path, case: str, rows: list[dict[str, Any]], *, filter: bool) -> None:
    _, write, cutting = CASES[case]
    path.parent.mkdir(exist_ok=True)
    if case == "parquet":
        pl.DataFrame(rows).write_parquet(path)
        data = path.read_bytes()
    elif case == "arrow" and filter:
        data = _stream(rows[: ROWS * 9 // 10], whole=False)
    else:
        data = write(rows)
    path.write_bytes(cutting(data) if filter else data)


@pytest.mark.parametrize(
    "how", [{"deletes": "full_extract", "write_mode": "merge"}, {"write_mode": "replace"}]
)
@pytest.mark.parametrize("case", list(CASES))
def test_a_full_extract_that_may_be_cut_off_deletes_nothing(
    platform_of: Make, case: str, how: dict[str, Any]
) -> None:
    kind = CASES[case][0]
    suffix = {"csv": "csv", "json": "jsonl", "parquet": "parquet", "arrow": "arrows"}
    name = f"items/a.{suffix[case.split()[0]]}"
    table = SourceTable(name="items", model=Item, source=kind(glob=name), key=("id",), **how)
    platform = platform_of(table)
    path = platform.settings.data / name
    rows = [{"id": number, "name": f"name {number}"} for number in range(ROWS)]
    extract(path, case, rows, filter=False)
    assert load_well(platform, "items").inserted == ROWS
    extract(path, case, rows, filter=True)
    report = load(platform, "items")
    assert [refused.path for refused in report.refused] == [str(path)]
    assert ask(platform, "select count(*) from items") == [(ROWS,)]
    extract(path, case, rows[:-1], filter=False)
    load_well(platform, "items")
    assert ask(platform, "select count(*) from items") == [(ROWS - 1,)]


def test_an_append_takes_what_is_whole_of_a_file_whose_last_line_is_not(platform_of: Make) -> None:
    table = SourceTable(name="items", model=Item, source=JsonFiles(glob="items/*.jsonl"))
    platform = platform_of(table)
    rows = [{"id": number, "name": f"name {number}"} for number in range(ROWS)]
    extract(platform.settings.data / "items/a.jsonl", "json", rows, filter=True)
    report = load_well(platform, "items")
    assert report.rejected == 1
    assert report.inserted == report.rows_read - 1 > ROWS // 2
