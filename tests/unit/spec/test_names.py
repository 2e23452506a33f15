"""Names are built and read by one grammar."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.spec.names import (
    ColdFileName,
    cold_key,
    cold_path,
    hot_key,
    is_name,
    lake_copy_path,
    parse_cold_path,
    parse_lake_copy_path,
    partition_table_name,
    source_key,
)
from lakebed.spec.partitions import Grain, window_for_key, window_of

names = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
moments = st.datetimes(
    datetime(1900, 1, 1),  # noqa: DTZ001
    datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(names, st.integers(1, 10**6))
def test_the_path_of_a_snapshot_says_what_it_was_made_from(table: str, generation: int) -> None:
    path = lake_copy_path(table, generation)
    assert parse_lake_copy_path(path) == (table, generation)
    for other in ("other" / path, path.with_suffix(".csv"), "x" + path.name):
        with pytest.raises(ValueError, match="not the path of a lake copy"):
            parse_lake_copy_path(PurePosixPath(other))


@given(names, st.sampled_from(list(Grain)), moments, st.integers(1, 10**6))
def test_a_cold_path_says_what_it_was_made_from(
    table: str, grain: Grain, moment: datetime, generation: int
) -> None:
    name = ColdFileName(table, window_of(grain, moment), generation)
    assert parse_cold_path(cold_path(name), grain) == name


@given(names, st.sampled_from(list(Grain)), moments)
def test_the_name_of_a_leaf_fits_into_postgres(table: str, grain: Grain, moment: datetime) -> None:
    assert len(partition_table_name(table, window_of(grain, moment)).encode()) <= 63


def test_a_cold_file_lies_in_hive_folders() -> None:
    name = ColdFileName("flights", window_for_key(Grain.DAY, "2024-01-05"), 1)
    path = PurePosixPath("flights/year=2024/month=01/day=05/flights_2024_01_05_g0001.parquet")
    assert cold_path(name) == path


def test_hive_levels_give_way_to_the_tables_own_columns() -> None:
    name = ColdFileName("flights", window_for_key(Grain.MONTH, "2024-01"), 2)
    assert str(cold_path(name, ["month", "carrier"])) == (
        "flights/lake_year=2024/lake_month=01/flights_2024_01_g0002.parquet"
    )
    assert parse_cold_path(cold_path(name, ["month"]), Grain.MONTH) == name


@pytest.mark.parametrize(
    "path",
    ["flights/x.csv", "flights/flights_2024_01.parquet", "flights/flights_g0001.parquet", "a_g1"],
)
def test_a_path_of_another_kind_is_no_cold_file(path: str) -> None:
    with pytest.raises(ValueError, match="not the path of a cold file"):
        parse_cold_path(PurePosixPath(path), Grain.MONTH)


@pytest.mark.parametrize("text", ["", "1a", "A", "a-b", "a b", "ä", "a" * 41, "a;drop", "_a"])
def test_what_needs_quotes_is_no_name(text: str) -> None:
    assert not is_name(text)


def test_asset_keys_name_the_tier_first() -> None:
    assert [source_key("a"), hot_key("a"), cold_key("a")] == [
        ["source", "a"],
        ["hot", "a"],
        ["cold", "a"],
    ]
