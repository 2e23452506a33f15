"""What the tests of the readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.sources.reader import Reader
from lakebed.ingest.sources.readers import reader_of
from lakebed.resources.settings import read_settings
from lakebed.spec.sources import Source
from lakebed.spec.table import SourceTable
from lakebed.store.rejects import Malformed


class Model(pa.DataFrameModel):
    number: pl.Int64


@dataclass
class Read:
    """What a reader gave of a file: rows as tuples, their numbers, malformed lines by number."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    numbers: list[int]
    malformed: dict[int, tuple[Malformed, str]]
    others: set[str]
    left_out: int


@pytest.fixture
def reader(tmp_path: Path) -> Callable[[Source], Reader]:
    """Make a reader of a source below tmp_path."""
    settings = read_settings(
        {"LAKEBED_HOME": str(tmp_path / "home"), "LAKEBED_DATA": str(tmp_path)}, folder=tmp_path
    )
    return lambda source: reader_of(
        SourceTable(name="things", model=Model, source=source), settings
    )


@pytest.fixture
def read(reader: Callable[[Source], Reader]) -> Callable[..., Read]:
    """Read the only file of a source whole."""

    def run(source: Source, columns: list[str] | None = None, newer: Any = None) -> Read:
        reading = reader(source)
        (item,) = reading.find()
        there = reading.columns(item)
        found = Read(there, [], [], {}, set(), 0)
        for batch in reading.batches(item, columns=columns or there, newer=newer):
            assert batch.frame.columns == (columns or there)
            assert len(batch.numbers) == batch.frame.height
            found.rows += batch.frame.rows()
            found.numbers += batch.numbers.to_list()
            found.malformed |= {n: (problem, text) for n, problem, text in batch.malformed}
            found.others |= set(batch.others)
            found.left_out += batch.left_out
        reading.check_unchanged(item)
        return found

    return run
