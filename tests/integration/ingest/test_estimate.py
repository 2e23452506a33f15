"""An estimate says what a load would take, and leaves nothing behind."""

from __future__ import annotations

import gzip
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakebed.ingest.estimate import Estimate, estimate
from lakebed.ingest.sources.reader import SourceError
from lakebed.spec.table import CsvFiles
from lakebed.store.platform import Platform
from tests.integration.recovery.test_rollback import DELIVERIES, readings
from tests.support.modes import ask, deliver, load

LEFT = """
select 'table ' || relname from pg_class where relname like 'lakebed_estimate%'
union all select 'load' from lakebed.load
union all select 'file' from lakebed.loaded_file
union all select 'reject' from lakebed.rejected_row
"""


def guess(platform: Platform, name: str, rows: int = 100_000) -> Estimate:
    table = platform.table(name)
    return estimate(platform.settings, platform.postgres, platform.clock, table, rows)


def test_a_sample_tells_of_the_whole(platform: Platform) -> None:
    for number in (1, 2):
        rows = readings(*range(number * 20_000, (number + 1) * 20_000))
        bad = [{**row, "value": -5000.0} for row in rows[:10]]
        deliver(platform, f"readings/{number}.parquet", [*bad, *rows[10:]])
    found = guess(platform, "readings", 5_000)
    assert (found.files, found.rows, found.rows_exact, found.sampled) == (2, 40_000, True, 5_000)
    assert found.rejected == 10
    assert found.reasons == (("value: rule greater_than_or_equal_to(-1000)", 10),)
    assert ask(platform, LEFT) == []
    assert not list((platform.settings.home / "dlt").iterdir())
    load(platform, "readings")
    (size,) = ask(
        platform,
        "select sum(pg_total_relation_size(inhrelid))::int from pg_inherits"
        " where inhparent = 'readings'::regclass",
    )[0]
    assert found.hot_bytes is not None
    assert 0.5 < found.hot_bytes / size < 2
    assert found.seconds is not None
    assert found.seconds == pytest.approx(found.sample_seconds * 8, abs=0.01)
    assert found.cold_bytes is not None
    assert found.cold_bytes > 0


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "csv.zst"])
def test_rows_of_text_are_told_from_its_beginning(platform: Platform, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "opened": ["2024-02-01"] * 150_000,
            "id": range(150_000),
            "owner": ["somebody"] * 150_000,
            "balance": ["1.00"] * 150_000,
            "changed": ["2024-03-01"] * 150_000,
        }
    )
    text = frame.write_csv().encode()
    folder = platform.settings.data / "accounts"
    folder.mkdir()
    packed: Any = {
        "csv": lambda: text,
        "csv.gz": lambda: gzip.compress(text),
        "csv.zst": lambda: pa.compress(text, "zstd", asbytes=True),
    }[suffix]
    name = "1.csv" if suffix == "csv" else f"1.{suffix}"
    (folder / name).write_bytes(packed())
    table = platform.table("accounts")
    table = replace(table, source=CsvFiles(glob="accounts/*"))
    found = estimate(platform.settings, platform.postgres, platform.clock, table, 1_000)
    assert not found.rows_exact
    assert found.rows == pytest.approx(150_000, rel=0.05)
    assert ask(platform, LEFT) == []


@pytest.mark.parametrize("name", DELIVERIES)
def test_every_way_to_write_can_be_estimated(
    platform: Platform, of_modes: Platform, name: str
) -> None:
    if name not in ("readings", "accounts"):
        platform = of_modes
    file, rows = DELIVERIES[name][1]
    deliver(platform, f"{name}/{file}", rows)
    found = guess(platform, name)
    assert (found.rows, found.sampled, found.rows_exact) == (len(rows), len(rows), True)
    assert ask(platform, LEFT) == []


def test_a_source_without_a_row_cannot_be_estimated(platform: Platform) -> None:
    with pytest.raises(SourceError, match="the source is empty"):
        guess(platform, "readings")
