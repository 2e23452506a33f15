"""What lies in the lake is held against the manifest: quickly by size, deeply by its content."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lakebed.store.platform import Platform
from lakebed.tiering.verify import CheckedFile, verify
from tests.support.tiers import EACH, MONTHS, do, fill, seen, settle


@pytest.fixture
def paths(platform: Platform) -> list[Path]:
    """The files of three settled months of `readings`."""
    fill(platform)
    return [platform.lake.files.root / path for path in settle(platform)]


def problems(platform: Platform, *, deep: bool = False) -> dict[str, str]:
    found = verify(platform, platform.table("readings"), deep=deep)
    assert [file.partition_key for file in found] == list(MONTHS)
    assert {file.rows for file in found} == {EACH}
    return {file.partition_key: file.problem for file in found if file.problem}


@pytest.mark.usefixtures("paths")
def test_a_lake_that_nobody_touched_is_as_the_manifest_says(platform: Platform) -> None:
    assert problems(platform) == {} == problems(platform, deep=True)


def test_a_file_that_is_gone_or_has_another_size_is_found_without_reading(
    platform: Platform, paths: list[Path]
) -> None:
    paths[0].unlink()
    os.truncate(paths[2], 1000)
    found = problems(platform)
    assert found["2024-01"] == "it is not there"
    assert found["2024-03"].startswith("it has 1,000 bytes, and had ")
    assert problems(platform, deep=True) == found


def test_a_flipped_bit_is_found_by_reading(platform: Platform, paths: list[Path]) -> None:
    data = bytearray(paths[1].read_bytes())
    data[200] ^= 1
    paths[1].write_bytes(data)
    assert problems(platform) == {}
    assert list(problems(platform, deep=True)) == ["2024-02"]
    assert "SHA-256" in problems(platform, deep=True)["2024-02"]


@pytest.mark.usefixtures("paths")
def test_a_file_whose_rows_are_others_than_its_fingerprint_says_is_found(
    platform: Platform,
) -> None:
    do(
        platform,
        "update lakebed.cold_file set fingerprint = jsonb_set(fingerprint, '{columns,number,1}',"
        " '\"7\"') where partition_key = '2024-02'",
    )
    assert "column number" in problems(platform, deep=True)["2024-02"]


@pytest.mark.usefixtures("paths")
def test_some_partitions_are_verified_alone(platform: Platform) -> None:
    (found,) = verify(platform, platform.table("readings"), ["2024-02"], deep=True)
    assert (found.partition_key, found.generation, found.problem) == ("2024-02", 1, None)


def test_an_older_file_is_read_with_the_columns_that_it_has(
    platform_of: Callable[..., Platform], platform: Platform, paths: list[Path]
) -> None:
    """A column that evolved since is in no older file, and one that was left out still is."""
    assert len(paths) == len(MONTHS)
    do(
        platform,
        "alter table readings add column more bigint",
        "insert into lakebed.evolved_column (table_name, column_name, postgres_type, duckdb_type,"
        " source, added_at) values ('readings', 'more', 'bigint', 'BIGINT', 'f', now())",
        "insert into readings values ('2024-02-02', 'late', 1, 1, 42)",
    )
    settle(platform, "readings", "2024-02")
    found = verify(platform, platform.table("readings"), deep=True)
    assert [(file.generation, file.problem) for file in found] == [(1, None), (2, None), (1, None)]
    assert seen(platform, "select sum(more) from readings") == [(42,)]


def test_a_file_that_is_taken_away_while_it_is_looked_for_is_no_problem(
    platform: Platform, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = platform.lake.files
    listing = files.listing

    def after_a_fold(under: str = "") -> list[object]:
        do(platform, "insert into readings values ('2024-01-02', 'late', 1, 1)")
        settle(platform, "readings", "2024-01")
        paths[0].unlink()
        return list(listing(under))

    monkeypatch.setattr(files, "listing", after_a_fold)
    found: list[CheckedFile] = verify(platform, platform.table("readings"))
    assert [(file.partition_key, file.problem) for file in found] == [
        ("2024-02", None),
        ("2024-03", None),
    ]
