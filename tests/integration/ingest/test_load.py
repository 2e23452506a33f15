"""A load takes what is new, once, and says what became of every row."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.ingest.sources.delimited import _Parse
from lakebed.spec.table import CsvFiles, ParquetFiles, SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.support.processes import move_key
from tests.tables.readings import readings as declared_readings

START = datetime(2024, 2, 1, tzinfo=UTC)
Row = tuple[int, str, float | None, int]


def readings(rows: list[Row]) -> pl.DataFrame:
    """Rows as (hours after the start, sensor, value, number)."""
    return pl.DataFrame(
        [(START + timedelta(hours=hours), *rest) for hours, *rest in rows],
        schema={
            "at": pl.Datetime("us", "UTC"),
            "sensor": pl.String,
            "value": pl.Float64,
            "number": pl.Int64,
        },
        orient="row",
    )


def deliver(platform: Platform, name: str, frame: pl.DataFrame, **options: Any) -> Path:
    path = platform.settings.data / name
    path.parent.mkdir(exist_ok=True)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path, **options)
    return path


def load(platform: Platform, name: str) -> LoadReport:
    report = load_table(platform.settings, platform.postgres, platform.clock, platform.table(name))
    assert report.balanced, report
    return report


def ask(platform: Platform, query: str) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(query).fetchall()


def numbers(platform: Platform) -> list[int]:
    return [row[0] for row in ask(platform, "select number from readings order by number")]


def accounts(*rows: tuple[int, str, str, int]) -> pl.DataFrame:
    """Rows as (id, owner, balance, day of change)."""
    return pl.DataFrame(
        [
            ("2024-02-01", id, owner, balance, f"2024-03-{day:02d}")
            for id, owner, balance, day in rows
        ],
        schema=["opened", "id", "owner", "balance", "changed"],
        orient="row",
    )


def balances(platform: Platform) -> dict[int, str]:
    return {id: str(b) for id, b in ask(platform, "select id, balance from accounts order by id")}


def test_a_second_load_finds_nothing_new_and_a_new_file_is_found(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1), (1, "a", None, 2)]))
    first = load(platform, "readings")
    assert (first.files, first.rows_read, first.inserted) == (1, 2, 2)
    assert first.cursor_to == "2024-02-01T01:00:00+00:00"
    second = load(platform, "readings")
    assert (second.load_id, second.files, second.rows_read) == (None, 0, 0)
    deliver(platform, "readings/2.parquet", readings([(0, "b", 1.0, 3)]))
    third = load(platform, "readings")
    assert (third.files, third.inserted, third.cursor_from) == (1, 1, first.cursor_to)
    assert numbers(platform) == [1, 2, 3]


def test_the_ledger_says_what_the_report_says(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1)]))
    report = load(platform, "readings")
    assert ask(
        platform, "select load_id, files, bytes, rows_read, inserted, rejected from lakebed.load"
    ) == [(report.load_id, 1, report.bytes, 1, 1, 0)]


@pytest.mark.parametrize("row_group_size", [2, 100])
def test_of_a_grown_file_only_the_rows_beyond_the_cursor_are_loaded(
    platform: Platform, row_group_size: int
) -> None:
    rows: list[Row] = [(0, "a", 1.0, 1), (1, "a", 1.0, 2), (1, "b", 1.0, 3)]
    deliver(platform, "readings/1.parquet", readings(rows), row_group_size=row_group_size)
    load(platform, "readings")
    more: list[Row] = [(1, "c", 1.0, 4), (1, "d", None, 5), (2, "a", 1.0, 6)]
    deliver(platform, "readings/1.parquet", readings(rows + more), row_group_size=row_group_size)
    assert load(platform, "readings").inserted == 3
    assert numbers(platform) == [1, 2, 3, 4, 5, 6]
    even_more: list[Row] = [(2, "b", 1.0, 7), (3, "a", 1.0, 8)]
    deliver(platform, "readings/1.parquet", readings(rows + more + even_more))
    assert load(platform, "readings").inserted == 2
    assert numbers(platform) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_grown_file_with_nanoseconds_is_read_beyond_the_cursor(platform: Platform) -> None:
    rows: list[Row] = [(0, "a", 1.0, 1), (1, "a", 1.0, 2)]
    for grown in (rows, [*rows, (2, "a", 1.0, 3)]):
        table = (
            readings(grown)
            .to_arrow()
            .cast(
                pa.schema(
                    [
                        ("at", pa.timestamp("ns", "UTC")),
                        ("sensor", pa.string()),
                        ("value", pa.float64()),
                        ("number", pa.int64()),
                    ]
                )
            )
        )
        (platform.settings.data / "readings").mkdir(exist_ok=True)
        pq.write_table(table, platform.settings.data / "readings" / "1.parquet", row_group_size=1)
        load(platform, "readings")
    assert numbers(platform) == [1, 2, 3]


def test_a_row_without_a_cursor_in_a_file_that_grows_is_quarantined_once(
    platform_of: Callable[..., Platform],
) -> None:
    from tests.tables.readings import readings as declared

    table = replace(declared, reject_share=0.5)
    platform = platform_of(table)
    found = []
    for count in (4, 8, 12, 16):
        rows = readings([(i, "a", 1.0, i) for i in range(count)])
        unreadable = pl.col("number").is_in([1, 9, 10])
        rows = rows.with_columns(at=pl.when(unreadable).then(None).otherwise("at"))
        deliver(platform, "readings/1.parquet", rows, row_group_size=5)
        report = load(platform, "readings")
        found.append((report.rows_read, report.inserted, report.rejected, len(report.refused)))
    assert found == [(4, 3, 1, 0), (4, 4, 0, 0), (4, 2, 2, 0), (4, 4, 0, 0)]
    rejected = "select row_number, source_row ->> 'number' from lakebed.rejected_row order by 1"
    assert ask(platform, rejected) == [(2, "1"), (10, "9"), (11, "10")]
    assert numbers(platform) == [0, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15]


def test_another_row_without_a_cursor_in_the_place_of_a_rejected_one_is_not_lost(
    platform_of: Callable[..., Platform],
) -> None:
    from tests.tables.readings import readings as declared

    platform = platform_of(replace(declared, reject_share=0.9))
    nothing = pl.lit(None, pl.Datetime("us", "UTC"))
    for bad in ([7], [8, 7]):
        rows = readings([(0, "a", 1.0, number) for number in bad]).with_columns(at=nothing)
        good = readings([(i, "a", 1.0, i) for i in range(2 * len(bad))])
        deliver(platform, "readings/1.parquet", pl.concat([rows, good]))
        report = load(platform, "readings")
        assert report.refused == ()
    kept = "select distinct source_row ->> 'number' from lakebed.rejected_row order by 1"
    assert ask(platform, kept) == [("7",), ("8",)]
    assert numbers(platform) == [0, 1, 2, 3]


def test_a_file_that_is_touched_or_replaced_by_its_like_loads_nothing(platform: Platform) -> None:
    rows: list[Row] = [(0, "a", 1.0, 1), (0, "a", 1.0, 1)]
    path = deliver(platform, "readings/1.parquet", readings(rows))
    load(platform, "readings")
    path.touch()
    report = load(platform, "readings")
    assert (report.inserted, report.rows_read) == (0, 0)
    assert numbers(platform) == [1, 1]


def test_a_grown_csv_is_read_beyond_its_cursor(platform_of: Callable[..., Platform]) -> None:
    from lakebed.spec.table import CsvFiles
    from tests.tables.readings import readings as declared

    platform = platform_of(replace(declared, source=CsvFiles(glob="readings/*.csv")))
    rows: list[Row] = [(0, "a", 1.0, 1), (1, "b", 1.0, 2), (1, "b", 1.0, 2)]
    deliver(platform, "readings/1.csv", readings(rows))
    load(platform, "readings")
    deliver(platform, "readings/1.csv", readings([*rows, (1, "b", 1.0, 2), (2, "a", 1.0, 4)]))
    assert load(platform, "readings").inserted == 2
    assert numbers(platform) == [1, 2, 2, 2, 4]


def test_of_a_grown_csv_only_the_new_lines_are_parsed(
    platform_of: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_of(replace(declared_readings, source=CsvFiles(glob="readings/*.csv")))
    rows: list[Row] = [(0, "a", 1.0, number) for number in range(500)]
    deliver(platform, "readings/1.csv", readings(rows))
    load(platform, "readings")
    deliver(platform, "readings/1.csv", readings([*rows, (2, "a", 1.0, 500)]))
    parsed: list[int] = []
    frame_of = _Parse._frame

    def counted(self: _Parse, data: bytes, convert: Any) -> pl.DataFrame:
        parsed.append(data.count(b"\n"))
        return frame_of(self, data, convert)

    monkeypatch.setattr(_Parse, "_frame", counted)
    assert load(platform, "readings").inserted == 1
    assert parsed == [1]
    assert numbers(platform) == list(range(501))


@pytest.mark.parametrize("behind", ["", "2024-02-01T00:00:00Z,c,1.0,9\n"])
def test_a_quote_that_was_open_at_the_end_of_a_csv_and_is_closed_by_what_follows_refuses_it(
    platform_of: Callable[..., Platform], behind: str
) -> None:
    platform = platform_of(
        replace(declared_readings, source=CsvFiles(glob="readings/*.csv"), reject_share=0.9)
    )
    file = platform.settings.data / "readings/1.csv"
    file.parent.mkdir(parents=True)
    header = "at,sensor,value,number\n"
    open_end = '2024-02-01T00:00:00Z,a,1.0,1\n2024-02-01T00:00:00Z,"b\n' + behind
    file.write_text(header + open_end)
    assert load(platform, "readings").rejected == 1
    before = numbers(platform)
    file.write_text(header + open_end + "2024-02-01T00:00:00Z,d,1.0,3\n")
    assert load(platform, "readings").inserted == 1
    closed = header + open_end + '2024-02-01T00:00:00Z,d,1.0,3\nc",1.0,2\n'
    file.write_text(closed)
    (refused,) = load(platform, "readings").refused
    assert "row 2 is in quarantine because its quote was not closed" in refused.problem
    assert numbers(platform) == sorted([*before, 3])


def test_a_changed_file_is_refused_where_the_table_says_so(
    platform_of: Callable[..., Platform],
) -> None:
    from tests.tables.readings import readings as declared

    platform = platform_of(replace(declared, changed_files="refuse"))
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1)]))
    load(platform, "readings")
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1), (1, "a", 1.0, 2)]))
    deliver(platform, "readings/2.parquet", readings([(0, "b", 1.0, 3)]))
    report = load(platform, "readings")
    assert [Path(refused.path).name for refused in report.refused] == ["1.parquet"]
    assert "has changed since" in report.refused[0].problem
    assert numbers(platform) == [1, 3]


def test_the_newest_row_of_a_key_wins_in_a_load_and_against_the_table(platform: Platform) -> None:
    deliver(platform, "accounts/1.csv", accounts((1, "a", "1.00", 2), (1, "a", "2.00", 3)))
    deliver(platform, "accounts/2.csv", accounts((1, "a", "3.00", 1), (2, "b", "5.00", 1)))
    report = load(platform, "accounts")
    assert (report.rows_read, report.inserted, report.superseded) == (4, 2, 2)
    assert balances(platform) == {1: "2.00", 2: "5.00"}
    deliver(platform, "accounts/3.csv", accounts((1, "a", "9.00", 2), (2, "b", "6.00", 1)))
    report = load(platform, "accounts")
    assert (report.updated, report.unchanged) == (1, 1)
    assert balances(platform) == {1: "2.00", 2: "6.00"}


def test_a_reloaded_file_counts_what_is_unchanged(platform: Platform) -> None:
    deliver(platform, "accounts/1.csv", accounts((1, "a", "1.00", 1), (2, "b", "2.00", 1)))
    load(platform, "accounts")
    changed = accounts((1, "a", "1.00", 1), (2, "b", "2.50", 2), (3, "c", "3.00", 1))
    deliver(platform, "accounts/1.csv", changed)
    report = load(platform, "accounts")
    assert (report.unchanged, report.updated, report.inserted) == (1, 1, 1)
    assert balances(platform) == {1: "1.00", 2: "2.50", 3: "3.00"}


def test_the_version_before_last_of_a_file_is_not_loaded_again(platform: Platform) -> None:
    one = deliver(platform, "accounts/1.csv", accounts((1, "a", "1.00", 1)))
    text, stat = one.read_text(), one.stat()
    load(platform, "accounts")
    deliver(platform, "accounts/1.csv", accounts((1, "a", "7.00", 2)))
    load(platform, "accounts")
    one.write_text(text)
    import os

    os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert load(platform, "accounts").load_id is None
    assert balances(platform) == {1: "7.00"}


def test_a_row_of_a_settled_partition_stays_visible_once_when_it_is_merged_again(
    platform: Platform,
) -> None:
    deliver(platform, "accounts/1.csv", accounts((1, "a", "1.00", 1), (2, "b", "2.00", 1)))
    load(platform, "accounts")
    move_key(platform, "accounts", "2024-02")
    deliver(platform, "accounts/2.csv", accounts((2, "b", "8.00", 2)))
    load(platform, "accounts")
    with platform.lake.session() as session:
        found = session.sql("select id, balance::varchar from accounts order by id").fetchall()
    assert found == [(1, "1.00"), (2, "8.00")]


def test_a_load_writes_no_file_that_stays(platform: Platform) -> None:
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1)]))
    load(platform, "readings")
    left = [p for p in (platform.settings.home / "dlt").rglob("*") if p.is_file()]
    assert left == []


def test_a_data_folder_with_an_odd_name_is_searched(platform: Platform, tmp_path: Path) -> None:
    data = tmp_path / "data [2024] *"
    odd = replace(platform, settings=replace(platform.settings, data=data))
    data.mkdir()
    deliver(odd, "readings/1.parquet", readings([(0, "a", 1.0, 1)]))
    assert load(odd, "readings").inserted == 1


def test_an_absolute_glob_is_searched_where_it_points(
    platform_of: Callable[..., Platform], tmp_path: Path
) -> None:
    from tests.tables.readings import readings as declared

    table: SourceTable = replace(declared, source=ParquetFiles(glob=str(tmp_path / "x/*.parquet")))
    platform = platform_of(table)
    (tmp_path / "x").mkdir()
    readings([(0, "a", 1.0, 1)]).write_parquet(tmp_path / "x" / "1.parquet")
    assert load(platform, "readings").inserted == 1


GROWN = "at,sensor,value,number\n2024-01-01T00:00:00Z,a,1.0,1\n2024-01-01T01:00:00Z,b,1.0,2\n"


NOT_ONLY_ADDED_TO = {
    "corrected": (GROWN, GROWN.replace(",1\n", ",9\n"), "does not begin as it did"),
    "added to in front": (
        GROWN,
        GROWN.replace("number\n", "number\n2024-01-01,c,1.0,0\n"),
        "begin",
    ),
    "a torn last line": (
        GROWN + "2024-01-01T02:00:00Z,a,1.0,12",
        GROWN + "2024-01-01T02:00:00Z,a,1.0,1234\n",
        "not yet finished",
    ),
    "cut": (GROWN, GROWN[:-10], "does not begin as it did"),
}


@pytest.mark.parametrize(
    ("first", "then", "problem"), NOT_ONLY_ADDED_TO.values(), ids=NOT_ONLY_ADDED_TO
)
def test_a_csv_that_was_not_only_added_to_is_refused(
    platform_of: Callable[..., Platform], first: str, then: str, problem: str
) -> None:
    platform = csv_readings(platform_of)
    file = platform.settings.data / "1.csv"
    file.write_text(first)
    load(platform, "readings")
    before = numbers(platform)
    file.write_text(then)
    report = load(platform, "readings")
    assert [problem in refused.problem for refused in report.refused] == [True]
    assert numbers(platform) == before


def test_a_packed_csv_whose_last_row_was_unfinished_and_has_grown_is_refused(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(replace(declared_readings, source=CsvFiles(glob="*.csv.gz")))
    file = platform.settings.data / "1.csv.gz"
    file.write_bytes(gzip.compress((GROWN + "2024-01-01T02:00:00Z,a,1.0,12").encode()))
    assert load(platform, "readings").inserted == 3
    whole = file.read_bytes() + gzip.compress(b"34\n2024-01-01T03:00:00Z,a,1.0,5\n")
    file.write_bytes(whole)
    (refused,) = load(platform, "readings").refused
    assert "row 3 was loaded when its line was not yet finished" in refused.problem
    assert numbers(platform) == [1, 2, 12]


def test_a_csv_that_was_packed_anew_is_refused_for_what_it_is(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(replace(declared_readings, source=CsvFiles(glob="*.csv.gz")))
    file = platform.settings.data / "1.csv.gz"
    file.write_bytes(gzip.compress(GROWN.encode(), mtime=0))
    load(platform, "readings")
    added = b"2024-01-01T03:00:00Z,a,1.0,5\n"
    file.write_bytes(gzip.compress(GROWN.encode() + added))
    (refused,) = load(platform, "readings").refused
    assert "compressed again" in refused.problem
    assert "a new file" in refused.problem
    file.write_bytes(gzip.compress(GROWN.encode(), mtime=0) + gzip.compress(added))
    assert load(platform, "readings").inserted == 1


@pytest.mark.parametrize("case", ["corrected", "added to in front", "a torn last line"])
def test_rows_are_wrong_without_a_word_where_nobody_looks_at_what_a_csv_began_with(
    platform_of: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    monkeypatch.setattr("lakebed.ingest.resume_point._check_beginning", lambda *args: None)
    platform = csv_readings(platform_of)
    file = platform.settings.data / "1.csv"
    for text in NOT_ONLY_ADDED_TO[case][:2]:
        file.write_text(text)
        assert load(platform, "readings").refused == ()
    assert numbers(platform) != sorted(pl.read_csv(file)["number"])


def csv_readings(platform_of: Callable[..., Platform]) -> Platform:
    from lakebed.spec.table import CsvFiles
    from tests.tables.readings import readings as declared

    return platform_of(replace(declared, source=CsvFiles(glob="*.csv")))


def test_data_that_are_mounted_elsewhere_are_not_loaded_again(
    platform: Platform,
) -> None:
    deliver(platform, "readings/1.parquet", readings([(0, "a", 1.0, 1)]))
    assert load(platform, "readings").inserted == 1
    elsewhere = platform.settings.data.with_name("elsewhere")
    platform.settings.data.rename(elsewhere)
    moved = open_platform(replace(platform.settings, data=elsewhere), platform.tables)
    assert load(moved, "readings").load_id is None
    assert numbers(platform) == [1]


def test_paths_that_are_longer_than_an_index_entry_load_once(
    platform_of: Callable[..., Platform],
) -> None:
    """Members of archives have names of any length; letters that do not compress fill an index."""
    table = replace(declared_readings, source=CsvFiles(glob="*.zip"), changed_files="refuse")
    platform = platform_of(table)
    letters = "".join(chr(0x4E00 + (i * 7919) % 20_000) for i in range(3_000))
    header = "at,sensor,value,number\n"
    with zipfile.ZipFile(platform.settings.data / "1.zip", "w") as archive:
        archive.writestr(f"{letters}1.csv", f"{header}2024-01-01T00:00:00Z,a,1.0,1\n")
        archive.writestr(f"{letters}2.csv", f"{header}2024-01-01T01:00:00Z,a,-5000,2\n"
                         "2024-01-01T01:00:00Z,a,1.0,2\n" * 1)  # fmt: skip
        archive.writestr(f"{letters}\\x.csv", f"{header}2024-01-01T02:00:00Z,a,1.0,3\n")
    table = replace(table, reject_share=0.9)
    report = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (report.refused, report.inserted, report.rejected) == ((), 3, 1)
    again = load_table(platform.settings, platform.postgres, platform.clock, table)
    assert (again.load_ids, again.refused) == ((), ())
