"""Times of 96 bits in Parquet, as Spark and Hive write them, are what the file holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.ingest.casts import cast
from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.sources import ParquetFiles
from tests.unit.ingest.sources.conftest import Read

STAMP = pl.Datetime("us", "UTC")
FAR = [
    datetime(9999, 12, 31, 23, 59, 59, 999999),  # noqa: DTZ001
    datetime(1500, 1, 1),  # noqa: DTZ001
    datetime(1, 1, 1),  # noqa: DTZ001
    datetime(2024, 1, 31, 12),  # noqa: DTZ001
    None,
]


@pytest.fixture
def written(read: Callable[..., Read], tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def run(**columns: pa.Array) -> pl.DataFrame:
        pq.write_table(
            pa.table({"id": range(len(next(iter(columns.values())))), **columns}),
            tmp_path / "f.parquet",
            use_deprecated_int96_timestamps=True,
            row_group_size=3,
        )
        assert pq.ParquetFile(tmp_path / "f.parquet").schema.column(1).physical_type == "INT96"
        found = read(ParquetFiles(glob="f.parquet"))
        return pl.DataFrame(found.rows, schema=found.columns, orient="row")

    return run


def test_times_beyond_what_nanoseconds_count_are_what_they_are(
    written: Callable[..., pl.DataFrame],
) -> None:
    frame = written(at=pa.array(FAR, pa.timestamp("us")), many=pa.array([FAR] * 5))
    assert frame["at"].to_list() == FAR
    assert frame["many"].to_list() == [FAR] * 5
    done = cast(frame["at"], STAMP)
    assert done.problems == []
    assert done.series.to_list() == [each and each.replace(tzinfo=UTC) for each in FAR]


def test_a_time_finer_than_a_microsecond_is_a_reject_with_its_own_value(
    written: Callable[..., pl.DataFrame],
) -> None:
    nanoseconds = [1_706_702_400_000_000_001, 1_706_702_400_000_001_000, -1, None]
    frame = written(at=pa.array(nanoseconds, pa.timestamp("ns")))
    assert frame["at"].to_list() == [
        "2024-01-31 12:00:00.000000001",
        "2024-01-31 12:00:00.000001000",
        "1969-12-31 23:59:59.999999999",
        None,
    ]
    done = cast(frame["at"], STAMP)
    assert [bad.to_list() for _, bad, _ in done.problems] == [[True, False, True, False]]
    assert done.series.to_list()[1] == datetime(2024, 1, 31, 12, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1_000], [1, None], None], pa.list_(pa.timestamp("ns"))),
        pa.array([{"a": 1}, None, None], pa.struct({"a": pa.timestamp("ns")})),
    ],
    ids=["list", "struct"],
)
def test_a_nested_time_finer_than_a_microsecond_refuses_the_file_by_its_column(
    written: Callable[..., pl.DataFrame], column: Any
) -> None:
    with pytest.raises(SourceError, match="'column'"):
        written(column=column)
