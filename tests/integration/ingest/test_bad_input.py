"""Whatever a source delivers: a clear error or quarantine, nothing half done, the next loads."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.spec.table import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform
from tests.support.processes import all_rows, move_key

HEADER = "at,name,number\n"


class Model(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    name: str = pa.Field(nullable=True)
    number: pl.Int64


BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))


def table(**fields: Any) -> SourceTable:
    given = {
        "name": "things",
        "model": Model,
        "source": CsvFiles(glob="*.csv*"),
        "partitioning": BY_MONTH,
        "tiering": Tiering(hot_for=timedelta(days=1)),
        "reject_share": 0.2,
    }
    return SourceTable(**given | fields)


Load = Callable[..., LoadReport]


@pytest.fixture
def load(platform_of: Callable[..., Platform]) -> Load:
    """Deliver files as bytes, load them into a table, return the report."""

    def run(files: dict[str, bytes | str], **fields: Any) -> LoadReport:
        platform = platform_of(table(**fields))
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (platform.settings.data / name).write_bytes(data)
        return load_table(
            platform.settings, platform.postgres, platform.clock, platform.table("things")
        )

    return run


@pytest.fixture
def ask(platform_of: Callable[..., Platform]) -> Callable[[str], list[Any]]:
    def run(query: str) -> list[Any]:
        with platform_of().postgres.connect() as connection:
            return connection.execute(query).fetchall()

    return run


def csv(*rows: str) -> str:
    return HEADER + "".join(f"{row}\n" for row in rows)


def good(count: int, first: int = 1) -> list[str]:
    return [f"2024-02-01T00:00:00Z,n{i},{i}" for i in range(first, first + count)]


def parquet(rows: int = 10, **more: Any) -> bytes:
    import io

    start = datetime(2024, 2, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {"at": [start] * rows, "name": ["n"] * rows, "number": list(range(rows))} | more,
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


NEXT = csv(*good(3, first=1000))


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("empty.csv", b"", "empty"),
        ("blank.csv", b"\n\n", "no header"),
        ("missing.csv", "at,name\n2024-02-01,x\n", "column 'number' is missing"),
        ("extra.csv", "at,name,number,x\n2024-02-01,x,1,2\n", "'x' is not in the contract"),
        ("twice.csv", "at,name,number,name\n", "it has column 'name' twice"),
        ("utf16.csv", csv(*good(3)).encode("utf-16"), "header cannot be read"),
        ("no.csv.gz", b"no gzip at all", "cannot be read"),
        ("cut.csv.gz", gzip.compress(csv(*good(40_000)).encode())[:-1000], "cannot be read"),
        ("words.csv", csv(*(f"2024-02-01,x,{w}" for w in "abcde")), "break the contract"),
        ("many.csv", csv(*good(7), "2024-02-01,x,a", "x,x,8", "x,x,9"), "3 of 10 rows break"),
        ("quote.csv", csv(*good(3), '2024-02-01,"open,4'), "never closed"),
        ("old.csv", csv("1999-01-01,x,1"), "before the table's start"),
        ("far.csv", csv("9999-12-31,x,1"), "9998"),
    ],
)
def test_a_csv_file_that_cannot_be_loaded_is_refused_whole_and_the_next_one_loads(
    load: Load, ask: Callable[[str], list[Any]], name: str, content: bytes | str, problem: str
) -> None:
    import re

    report = load({name: content, "zz_next.csv": NEXT})
    (refused,) = report.refused
    assert Path(refused.path).name == name
    assert re.search(problem, refused.problem), refused.problem
    assert (report.files, report.inserted, report.rejected) == (1, 3, 0)
    assert report.balanced
    assert ask("select min(number), count(*) from things") == [(1000, 3)]
    assert ask("select count(*) from lakebed.rejected_row") == [(0,)]
    assert ask("select count(*) from lakebed.loaded_file") == [(1,)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "empty"),
        (parquet()[:-100], "not a whole Parquet file"),
        (parquet()[:50], "not a whole Parquet file"),
        (b"PAR1 this is not Parquet PAR1", "not a whole Parquet file"),
        (parquet(number=["x"] * 10), "break the contract"),
        (parquet(number=[[1]] * 10), "cannot become"),
        (parquet(other=[1] * 10), "not in the contract"),
    ],
)
def test_a_parquet_file_that_cannot_be_loaded_is_refused_whole_and_the_next_one_loads(
    load: Load, ask: Callable[[str], list[Any]], content: bytes, problem: str
) -> None:
    source = ParquetFiles(glob="*.parquet")
    report = load({"a.parquet": content, "b.parquet": parquet()}, source=source)
    (refused,) = report.refused
    assert Path(refused.path).name == "a.parquet"
    assert problem in refused.problem
    assert (report.inserted, report.rejected) == (10, 0)
    assert ask("select count(*) from things") == [(10,)]


def test_a_parquet_file_that_is_damaged_inside_is_refused_whole(
    load: Load, ask: Callable[[str], list[Any]]
) -> None:
    content = bytearray(parquet(5000, name=[f"name {i}" for i in range(5000)]))
    content[40:4000] = b"\xff" * 3960
    report = load(
        {"a.parquet": bytes(content), "b.parquet": parquet()}, source=ParquetFiles(glob="*.parquet")
    )
    assert [Path(r.path).name for r in report.refused] == ["a.parquet"]
    assert ask("select count(*) from things") == [(10,)]


def test_a_refused_file_loads_once_it_is_mended(load: Load) -> None:
    assert load({"a.csv": "at,name\n"}).refused
    assert load({"a.csv": csv(*good(2))}).inserted == 2
    assert load({}).load_id is None


@pytest.mark.parametrize("content", [HEADER, HEADER.strip()])
def test_a_file_with_a_header_only_is_loaded_as_nothing(load: Load, content: str) -> None:
    report = load({"a.csv": content, "b.csv": NEXT})
    assert (report.files, report.inserted, report.refused) == (2, 3, ())
    alone = load({"c.csv": content})
    assert (alone.files, alone.rows_read, alone.refused) == (1, 0, ())
    assert load({}).load_id is None


def test_a_parquet_file_without_rows_is_loaded_as_nothing(load: Load) -> None:
    report = load({"a.parquet": parquet(0)}, source=ParquetFiles(glob="*.parquet"))
    assert (report.files, report.rows_read, report.refused) == (1, 0, ())


def test_bad_rows_below_the_share_go_to_quarantine_with_all_that_is_known(
    load: Load, ask: Callable[[str], list[Any]]
) -> None:
    rows = good(20)
    rows[4] = "2024-02-01,x,word"
    rows[9] = "only two,values"
    rows[14] = "2024-02-01,a\0b,15"
    report = load({"a.csv": csv(*rows)})
    assert (report.rows_read, report.inserted, report.rejected) == (20, 17, 3)
    assert report.balanced
    found = ask(
        "select row_number, column_name, message, source_row, load_id, kind, rule"
        " from lakebed.rejected_row"
        " order by row_number"
    )
    assert [row[:2] for row in found] == [(5, "number"), (10, None), (15, "name")]
    assert "is not a whole number" in found[0][2]
    assert found[0][3] == {"at": "2024-02-01", "name": "x", "number": "word"}
    assert found[1][2:4] == ("2 values for 3 columns", {"line": "only two,values"})
    assert "NUL" in found[2][2]
    assert {row[4] for row in found} == {report.load_id}
    assert [row[5:] for row in found] == [
        ("type", "bigint"),
        ("malformed", "value_count"),
        ("type", "nul_byte"),
    ]


def test_broken_utf_8_goes_to_quarantine(load: Load, ask: Callable[[str], list[Any]]) -> None:
    content = csv(*good(20)).encode().replace(b"n7", b"n\xff")
    report = load({"a.csv": content})
    assert (report.inserted, report.rejected) == (19, 1)
    assert ask("select row_number, column_name from lakebed.rejected_row") == [(7, "name")]


def test_a_line_that_is_both_no_row_and_no_utf_8_goes_to_quarantine(
    load: Load, ask: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebed.ingest.sources.delimited.CSV_BLOCK_BYTES", 200)
    content = csv(*good(30)).encode().replace(b"n7,7", b"n\xff\xfe,7,x").replace(b"n9", b"n\xff")
    report = load({"a.csv": content})
    assert (report.rows_read, report.inserted, report.rejected) == (30, 28, 2)
    assert report.refused == ()
    found = ask(
        "select row_number, column_name, message, source_row from lakebed.rejected_row order by 1"
    )
    assert found[0][::2] == (7, "4 values for 3 columns")
    assert found[0][3] == {"line": "2024-02-01T00:00:00Z,n\ufffd\ufffd,7,x"}
    assert found[1][:2] == (9, "name")
    assert found[1][3]["name"] == {"$base64": "bv8="}  # the very bytes, for a retry


def test_the_share_of_bad_rows_is_judged_file_by_file(load: Load) -> None:
    bad = csv(*good(2), "2024-02-01,x,a")
    report = load({"a.csv": bad, "b.csv": csv(*good(100))})
    assert [Path(r.path).name for r in report.refused] == ["a.csv"]
    assert report.inserted == 100


def test_a_table_may_take_any_share_of_bad_rows(
    load: Load, ask: Callable[[str], list[Any]]
) -> None:
    report = load({"a.csv": csv("x,x,x", "y,y,y")}, reject_share=1.0)
    assert (report.inserted, report.rejected, report.refused) == (0, 2, ())
    assert ask("select count(*) from lakebed.rejected_row") == [(2,)]
    assert load({}, reject_share=1.0).load_id is None


def test_row_numbers_are_right_across_blocks_and_between_malformed_lines(
    load: Load, ask: Callable[[str], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakebed.ingest.sources.delimited.CSV_BLOCK_BYTES", 1000)
    rows = good(500)
    for i in range(0, 500, 10):
        rows[i] = "too,few" if i % 20 else f"2024-02-01,x,word{i}"
    load({"a.csv": csv(*rows)})
    found = ask("select row_number, source_row from lakebed.rejected_row order by row_number")
    assert [number for number, _ in found] == list(range(1, 501, 10))
    assert all(row.get("number", f"word{n - 1}") == f"word{n - 1}" for n, row in found)


def test_unknown_columns_are_left_out_where_the_table_discards_them(load: Load) -> None:
    content = "x,number,name,at\n1,5,n,2024-02-01\n"
    report = load({"a.csv": content}, new_columns="discard")
    assert (report.inserted, report.refused) == (1, ())


class Odd(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(alias="At Time")
    year: pl.Int64
    month: str
    select: str
    quoted: str = pa.Field(alias='Weird "Name"')
    upper: str = pa.Field(alias="UPPER")
    uni: str = pa.Field(alias="größe \U0001f600")
    percent: str = pa.Field(alias="50%s {x} :y")
    hot: str
    table: str = pa.Field(alias="things")


@pytest.mark.parametrize("keyed", [False, True])
def test_columns_with_odd_names_go_through_load_move_fold_and_query(
    platform_of: Callable[..., Platform], keyed: bool
) -> None:
    key = ("At Time", 'Weird "Name"', "50%s {x} :y")
    odd = SourceTable(
        name="things",
        model=Odd,
        source=CsvFiles(glob="*.csv"),
        partitioning=replace(BY_MONTH, column="At Time"),
        tiering=Tiering(hot_for=timedelta(days=1), sort=("select", 'Weird "Name"')),
        key=key if keyed else (),
        write_mode="merge" if keyed else "append",
    )
    platform = platform_of(odd)
    header = ",".join('"' + name.replace('"', '""') + '"' for name in odd.column_names)
    for number in (1, 2):
        text = f"{header}\n2024-02-01,{number},b,c,d{number},e,f,g,h,i\n"
        (platform.settings.data / f"{number}.csv").write_text(text)
        report = load_table(platform.settings, platform.postgres, platform.clock, odd)
        assert (report.inserted, report.refused) == (1, ())
        before = all_rows(platform, "things")
        assert move_key(platform, "things", "2024-02").moved == 1
        assert all_rows(platform, "things") == before
    query = (
        'select year, month, "select", "Weird ""Name""" from things'
        " where \"At Time\" < '2024-03-01' order by 1"
    )
    with platform.lake.session() as session:
        found = session.sql(query).fetchall()
    assert found == [(1, "b", "c", "d1"), (2, "b", "c", "d2")]
