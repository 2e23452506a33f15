"""Columns come out of the source as the table file says; what cannot is told apart, row by row."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.contract import check, columns_to_read
from lakebed.ingest.incremental import Loaded, Pending
from lakebed.ingest.package import FileRead
from lakebed.ingest.resume_point import ResumePoint
from lakebed.ingest.sources.parquet import ParquetReader
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem
from lakebed.spec.sources import ParquetFiles
from lakebed.spec.table import CsvFiles, Mapped, SourceTable, TableError

FILE = SourceItem("f.csv", "1-1", 1, "f.csv")
CSV = CsvFiles(glob="*.csv")


class Order(pa.DataFrameModel):
    id: pl.Int64
    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(nullable=True)
    day: pl.Date = pa.Field(nullable=True)
    clock: pl.Time = pa.Field(nullable=True)
    country: str = pa.Field(nullable=True)
    price: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    qty: pl.Int64 = pa.Field(nullable=True)
    total: pl.Float64 = pa.Field(nullable=True)
    paid: bool = pa.Field(nullable=True)


NAMES = ("id", "at", "day", "clock", "country", "price", "qty", "total", "paid")


def table(**transforms: Mapped) -> SourceTable:
    return SourceTable(name="orders", model=Order, source=CSV, transforms=transforms)


def outcome(column: str, how: Mapped, values: list[Any], **others: list[Any]) -> list[Any]:
    """Return a column after its shape; where a row was rejected, the reason as "! ..."."""
    frame = pl.DataFrame(
        {"id": range(len(values)), "src": values} | others, strict=False
    ).with_columns(pl.lit(None).alias(name) for name in NAMES if name not in {"id", *others})
    transform = table(**{column: how})
    result = check(transform, FILE, Batch(frame, pl.int_range(0, frame.height, eager=True)))
    found: dict[int, Any] = dict(result.good.select("id", column).iter_rows())
    found |= {reject.row_number: f"! {reject.message}" for reject in result.rejects}
    return [found[i] for i in range(len(values))]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("column", "how", "values", "expected"),
    [
        ("country", Mapped("src"), [" a ", None], [" a ", None]),
        ("country", Mapped("src", trim=True, case="upper"), [" \tde ", None], ["DE", None]),
        ("country", Mapped("src", null_strings=("-", "n/a")), ["-", "n/a", " -"], [None, None, " -"]),  # noqa: E501
        ("country", Mapped("src", trim=True, null_strings=("-",)), [" - "], [None]),
        (
            "country",
            Mapped("src", trim=True, case="upper", null_strings=("-",), values={"GERMANY": "DE"}),
            [" Germany", "france", "-", None],
            ["DE", "FRANCE", None, None],
        ),
        ("country", Mapped("src", values={None: "?", "x": None}), [None, "x", "y"], ["?", None, "y"]),  # noqa: E501
        ("country", Mapped("src", values={1: "one", 2: "two"}), [1, 2, 3], ["one", "two", "3"]),
        ("paid", Mapped("src", values={"ja": True, "nein": False}), ["ja", "nein"], [True, False]),
        ("paid", Mapped("src", case="lower", values={"j": True}), [b"J", b"no"], [True, False]),
        (
            "price",
            Mapped("src", decimal=",", thousands="."),
            ["1.234,56", "1234,5", "-7", ",5", None],
            [Decimal("1234.56"), Decimal("1234.50"), Decimal(-7), Decimal("0.5"), None],
        ),
        ("qty", Mapped("src", thousands="'"), ["1'000'000", "12"], [1_000_000, 12]),
        (
            "at",
            Mapped("src", format="%d.%m.%Y %H:%M", time_zone="Europe/Berlin"),
            ["01.02.2024 12:30", "01.07.2024 12:30", None],
            [utc(2024, 2, 1, 11, 30), utc(2024, 7, 1, 10, 30), None],
        ),
        ("at", Mapped("src", format="%d/%b/%Y:%T %z"), ["10/Oct/2000:13:55:36 -0700"],
         [utc(2000, 10, 10, 20, 55, 36)]),
        ("at", Mapped("src", format="%d.%m.%Y"), ["01.02.2024"], [utc(2024, 2, 1)]),
        ("at", Mapped("src", format="%Y%m%d"), [20240201], [utc(2024, 2, 1)]),
        ("at", Mapped("src", time_zone="Asia/Kolkata"), ["2024-02-01 05:30", "2024-02-01T00:00:00Z"],  # noqa: E501
         [utc(2024, 2, 1), utc(2024, 2, 1)]),
        ("at", Mapped("src", time_zone="Asia/Kolkata"), [datetime(2024, 2, 1, 5, 30)],  # noqa: DTZ001
         [utc(2024, 2, 1)]),
        ("at", Mapped("src", time_zone="Asia/Kolkata"), [utc(2024, 2, 1)], [utc(2024, 2, 1)]),
        ("at", Mapped("src", format="unix"), ["0", "1700000000.000001", "-1"],
         [utc(1970, 1, 1), utc(2023, 11, 14, 22, 13, 20, 1), utc(1969, 12, 31, 23, 59, 59)]),
        ("at", Mapped("src", format="unix_ms"), [1_700_000_000_000, None],
         [utc(2023, 11, 14, 22, 13, 20), None]),
        ("at", Mapped("src", format="unix"), [1_700_000_000.25],
         [utc(2023, 11, 14, 22, 13, 20, 250_000)]),
        ("day", Mapped("src", format="%m/%d/%y"), ["12/31/24"], [date(2024, 12, 31)]),
        ("day", Mapped("src", format="%d.%m.%y"), ["31.12.68", "1.2.69", "31.12.99", "1.1.00"],
         [date(2068, 12, 31), date(1969, 2, 1), date(1999, 12, 31), date(2000, 1, 1)]),
        ("day", Mapped("src", format="%D"), ["12/31/69"], [date(1969, 12, 31)]),
        ("day", Mapped("src", format="%d.%m.%Y"), ["1.2.0024", "1.2.1000"],
         [date(24, 2, 1), date(1000, 2, 1)]),
        ("day", Mapped("src", format="%Y%m%d"), ["00240201"], [date(24, 2, 1)]),
        ("at", Mapped("src", format="%d.%m.%y %H:%M %z"),
         ["01.01.69 00:30 +0200", "31.12.68 23:30 -0200", "31.12.69 23:30 -0200"],
         [utc(1968, 12, 31, 22, 30), utc(2069, 1, 1, 1, 30), utc(1970, 1, 1, 1, 30)]),
        ("at", Mapped("src", format="%F %T%z"),
         ["1000-01-01 01:00:00+0200", "0999-12-31 23:00:00-0200"],
         [utc(999, 12, 31, 23), utc(1000, 1, 1, 1)]),
        ("clock", Mapped("src", format="%I:%M %p"), ["01:05 PM"], [time(13, 5)]),
        ("total", Mapped(expr=pl.lit(1.5)), ["a", "b"], [1.5, 1.5]),
        ("total", Mapped(expr=pl.col("id") + 0.5), ["a", "b"], [0.5, 1.5]),
        ("at", Mapped(expr="src || ' 12:00'", format="%d.%m.%Y %H:%M"), [b"01.02.2024"],
         [utc(2024, 2, 1, 12)]),
    ],
)  # fmt: skip
def test_a_value_is_shaped(
    column: str, how: Mapped, values: list[Any], expected: list[Any]
) -> None:
    assert outcome(column, how, values) == expected


@pytest.mark.parametrize(
    ("column", "how", "value", "reason"),
    [
        ("country", Mapped("src", values={"a": "b"}, strict=True), "c", "not one of the values"),
        ("country", Mapped("src", trim=True), b"\xff", "not valid UTF-8"),
        ("price", Mapped("src", decimal=","), "1.5", "is not a number with ','"),
        ("price", Mapped("src", decimal=",", thousands="."), "1.5", "between thousands"),
        ("price", Mapped("src", decimal=",", thousands="."), "1,5,5", "is not a number with"),
        ("price", Mapped("src", decimal=","), "1,005", "does not fit"),
        ("day", Mapped("src", format="%d.%m.%Y"), "31.02.2024", "is not a time such as %d.%m.%Y"),
        ("day", Mapped("src", format="%d.%m.%Y"), "01.02.2024 x", "is not a time such as"),
        ("day", Mapped("src", format="%d.%m.%Y"), "31.12.24", "is not a time such as %d.%m.%Y"),
        ("day", Mapped("src", format="%d.%m.%Y"), "31.12.024", "is not a time such as %d.%m.%Y"),
        ("day", Mapped("src", format="%d.%m.%Y"), "31.12.12024", "is not a time such as %d.%m.%Y"),
        ("day", Mapped("src", format="%d.%m.%y"), "31.12.2024", "is not a time such as %d.%m.%y"),
        ("day", Mapped("src", format="%F"), "24-12-31", "is not a time such as %F"),
        ("day", Mapped("src", format="%v"), "31-Dec-24", "is not a time such as %v"),
        ("day", Mapped("src", format="%G-W%V-%u"), "24-W01-1", "is not a time such as %G"),
        ("day", Mapped("src", format="%Y-%j"), "24-001", "is not a time such as %Y"),
        (
            "at",
            Mapped("src", format="%d.%m.%Y %T%.f"),
            "31.12.24 00:00:00.0024",
            "is not a time such as",
        ),
        ("at", Mapped("src", format="%+"), "24-12-31T00:00:00+00:00", "is not a time such as"),
        ("day", Mapped("src", format="%d.%m.%Y %H:%M"), "01.02.2024 12:00", "without loss"),
        (
            "at",
            Mapped("src", format="%d.%m.%Y %H:%M:%S"),
            "01.02.2024 12:00:60",
            "is not a time such as",
        ),
        (
            "at",
            Mapped("src", format="%Y%m%d %H%M%S%.f"),
            "20240201 120000.1234567",
            "is not a time",
        ),
        ("clock", Mapped("src", format="%H:%M:%S"), "12:00:60", "is not a time such as"),
        ("at", Mapped("src", time_zone="Europe/Berlin"), "2024-03-31 02:30", "clocks go forward"),
        ("at", Mapped("src", time_zone="Europe/Berlin"), "2024-10-27 02:30", "clocks go back"),
        ("at", Mapped("src", time_zone="Europe/Berlin"), "noon", "is not a time"),
        ("at", Mapped("src", format="unix"), "1700000000.0000001", "is not a count since 1970"),
        ("at", Mapped("src", format="unix"), "soon", "is not a count since 1970"),
        ("at", Mapped("src", format="unix"), 10**12, "outside the years"),
        ("qty", Mapped(expr=pl.col("src").cast(pl.Int64)), "x", "cannot be computed"),
        ("qty", Mapped(expr="cast(src as bigint)"), "x", "cannot be computed"),
    ],
)
def test_a_value_that_a_step_cannot_read_rejects_its_row_alone(
    column: str, how: Mapped, value: Any, reason: str
) -> None:
    for before, after in ((0, 0), (3, 2)):
        values = [None] * before + [value] + [None] * after
        found = outcome(column, how, values)
        assert reason in found[before]
        assert found[before].startswith(f"! {column}: ")
        assert "'src' is" in found[before]
        assert found[:before] + found[before + 1 :] == [None] * (before + after)


def test_a_second_sixty_is_told_from_the_year_sixty() -> None:
    how = Mapped("src", format="%d.%m.%y %H.%M.%S")
    assert outcome("at", how, ["01.02.60 12.30.00"]) == [utc(2060, 2, 1, 12, 30)]
    assert "is not a time" in outcome("at", how, ["01.02.60 12.30.60"])[0]


def test_an_expression_sees_the_shaped_columns_and_the_sources_others() -> None:
    transform = table(
        price=Mapped("Preis", decimal=","),
        total=Mapped(expr="price * qty"),
        qty=Mapped(expr=pl.col("qty").cast(pl.Int64) * pl.col("boxes").cast(pl.Int64)),
        country=Mapped(expr=pl.concat_str("a", pl.lit("/"), "country")),
    )
    read = ("id", "at", "day", "clock", "a", "country", "Preis", "qty", "boxes", "paid")
    assert columns_to_read(transform, FILE, list(read)) == list(read)
    frame = pl.DataFrame(
        {"id": [1], "Preis": [b"2,50"], "qty": [b"3"], "boxes": [b"2"], "a": ["x"]}
        | {"country": ["y"], "at": [None], "day": [None], "clock": [None], "paid": [None]}
    )
    result = check(transform, FILE, Batch(frame, pl.Series([1])))
    assert result.rejects == []
    row = result.good.row(0, named=True)
    assert (row["qty"], row["total"], row["country"]) == (6, 15.0, "x/y")


def test_a_rejected_row_is_kept_as_it_was_read_under_the_sources_names() -> None:
    class Small(pa.DataFrameModel):
        id: pl.Int64 = pa.Field(gt=0)
        twice: pl.Int64 = pa.Field(lt=10)

    transform = SourceTable(
        name="small", model=Small, source=CSV,
        transforms={"id": Mapped("Order ID"), "twice": Mapped(expr="id * 2")},
    )  # fmt: skip
    frame = pl.DataFrame({"Order ID": [b"4", b"9", b"0"]})
    rejects = check(transform, FILE, Batch(frame, pl.Series([1, 2, 3]))).rejects
    assert [(r.row_number, r.column, json.loads(r.row)) for r in rejects] == [
        (2, "twice", {"Order ID": "9"}),
        (3, "id", {"Order ID": "0"}),
    ]
    assert "'Order ID' is '9'" in rejects[0].message


def test_columns_are_missing_and_unknown_by_the_sources_names() -> None:
    class Small(pa.DataFrameModel):
        id: pl.Int64

    def small(**more: Any) -> SourceTable:
        transforms = {"id": Mapped("Order ID")}
        return SourceTable(
            **{"name": "s", "model": Small, "source": CSV, "transforms": transforms} | more
        )

    with pytest.raises(SourceError, match="column 'Order ID' is missing"):
        columns_to_read(small(), FILE, ["id"])
    with pytest.raises(SourceError, match="'id' is not in the contract"):
        columns_to_read(small(), FILE, ["Order ID", "id"])
    for more in ({"ignored": ("id",)}, {"new_columns": "discard"}):
        assert columns_to_read(small(**more), FILE, ["Order ID", "id"]) == ["Order ID"]


@pytest.mark.parametrize(
    ("expr", "problem"),
    [
        (pl.col("qty") + pl.col("country"), "fails"),
        (pl.col("qty").sum(), "looks at other rows"),
        (pl.col("qty").shift(), "looks at other rows"),
        (pl.col("qty").cum_sum(), "looks at other rows"),
        ("sum(qty)", "looks at other rows"),
    ],
)
def test_an_expression_that_fails_for_all_refuses_the_file_by_name(
    expr: pl.Expr | str, problem: str
) -> None:
    with pytest.raises(SourceError, match=problem) as error:
        outcome("total", Mapped(expr=expr), ["a", "b", "c"], qty=[1, 2, 3], country=["x", "y", "z"])
    assert "table orders, column 'total': the expression" in str(error.value)
    assert re.search("qty", str(error.value))


def test_many_rows_in_which_an_expression_fails_refuse_the_file() -> None:
    with pytest.raises(SourceError, match="fails in too many rows"):
        outcome("qty", Mapped(expr="cast(src as bigint)"), ["x"] * 3000)


@pytest.mark.parametrize(
    ("column", "how", "problem"),
    [
        ("none", Mapped("a"), "the model has no such column"),
        ("total", Mapped("a", expr="b"), "remove one of the two"),
        ("total", Mapped(expr="price *"), "cannot be read"),
        ("total", Mapped(expr=pl.all()), "several columns"),
        ("total", Mapped(expr=pl.col("a", "b")), "several columns"),
        ("country", Mapped("a", case="title"), "Expected 'upper'"),  # type: ignore[arg-type]
        ("country", Mapped("a", null_strings="n/a"), r"write \('n/a',\)"),  # type: ignore[arg-type]
        ("country", Mapped("a", strict=True), "strict needs values"),
        ("country", Mapped("a", format="%Y"), "format needs a time"),
        ("country", Mapped("a", decimal=","), "need a number"),
        ("price", Mapped("a", thousands="."), "another part of a number"),
        ("at", Mapped("a", format="%H:%M"), "does not read all parts"),
        ("at", Mapped("a", format="%d.%m.%Y %H:%M:%S.%f"), r"write %\.f"),
        ("at", Mapped("a", format="%d.%m.%Y %Z"), "use %z"),
        ("at", Mapped("a", format="%d.%m.%Y %Q"), "format"),
        ("at", Mapped("a", time_zone="Europe/Atlantis"), "unknown time zone"),
        ("at", Mapped("a", format="%F %T%z", time_zone="UTC"), "remove time_zone"),
        ("at", Mapped("a", format="unix", time_zone="UTC"), "remove time_zone"),
        ("day", Mapped("a", time_zone="UTC"), "time_zone needs a time in UTC"),
        ("day", Mapped("a", format="unix"), "an epoch"),
    ],
)
def test_transforms_with_a_contradiction_cannot_be_constructed(
    column: str, how: Mapped, problem: str
) -> None:
    with pytest.raises(TableError, match=rf"table 'orders': transforms\['{column}'\].*{problem}"):
        table(**{column: how})


def test_expressions_that_need_each_other_and_ignored_sources_are_refused() -> None:
    with pytest.raises(TableError, match="break the cycle"):
        table(total=Mapped(expr="qty * 2"), qty=Mapped(expr="total / 2"))
    with pytest.raises(TableError, match="ignored"):
        SourceTable(
            name="o", model=Order, source=CSV, transforms={"id": Mapped("n")}, ignored=("n",)
        )
    with pytest.raises(TableError, match="need a source"):
        SourceTable(name="o", model=Order, transforms={"id": Mapped("n")})


def test_tables_with_transforms_are_compared_and_hashed() -> None:
    one, same, other = (table(total=Mapped(expr=pl.col("qty") * n)) for n in (2, 2, 3))
    assert one == same
    assert one != other
    assert hash(one) == hash(same)


@pytest.mark.parametrize(
    ("how", "pushed"),
    [
        (Mapped("moment"), "moment"),
        (Mapped("moment", time_zone="Europe/Berlin"), None),
        (Mapped(expr=pl.col("moment")), None),
    ],
)
def test_a_cursor_is_asked_of_the_source_by_its_name_there_or_not_at_all(
    how: Mapped, pushed: str | None, tmp_path: Any
) -> None:
    source = ParquetFiles(glob="*.parquet")
    by_cursor = SourceTable(
        name="o", model=Order, source=source, cursor="id", changed_files="grown",
        transforms={"id": Mapped("number"), "at": how},
    )  # fmt: skip
    item = Pending(FILE, Loaded(2, "5", 1, None, None, 1))
    start = ResumePoint(by_cursor, ParquetReader(source, tmp_path), item)
    assert start.newer == ("number", 5)
    read, timed_read = FileRead(FILE), FileRead(FILE)
    frame = pl.DataFrame({"number": [4, 5, 5, 6]})
    rest = start.filter(Batch(frame, pl.Series([1, 2, 3, 4])), read)
    assert rest.frame["number"].to_list() == [5, 6]
    assert read.cursor_max == 6

    class Timed(pa.DataFrameModel):
        at: Annotated[pl.Datetime, "us", "UTC"]

    timed = SourceTable(
        name="t",
        model=Timed,
        source=source,
        cursor="at",
        changed_files="grown",
        transforms={"at": how},
    )
    before = Loaded(1, "2024-02-01T11:00:00+00:00", 1, None, None, 1)
    start = ResumePoint(timed, ParquetReader(source, tmp_path), Pending(FILE, before))
    assert (start.newer[0] if start.newer else None) == pushed
    hour = 12 if how.time_zone else 11
    text = [f"2024-02-01 {hour}:00", f"2024-02-01 {hour + 1}:00"]
    rest = start.filter(Batch(pl.DataFrame({"moment": text}), pl.Series([1, 2])), timed_read)
    assert rest.numbers.to_list() == [2]
