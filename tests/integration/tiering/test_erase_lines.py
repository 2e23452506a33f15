"""An erasure searches the lines of the quarantine that are no rows by the values it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.load import load_table
from lakebed.resources.patience import Patience
from lakebed.resources.settings import Settings
from lakebed.spec.table import CsvFiles, Mapped, SourceTable
from lakebed.store.platform import Platform
from lakebed.tiering.erase import Erased, erase, would_erase
from lakebed.tiering.line_fields import field_pattern


class Order(pa.DataFrameModel):
    id: pl.Int64
    customer: str = pa.Field(nullable=True)
    price: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    status: str = pa.Field(nullable=True)
    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(nullable=True)


ORDERS = SourceTable(
    name="orders",
    model=Order,
    source=CsvFiles(glob="orders.csv", delimiter=";"),
    transforms={
        "customer": Mapped("Kunde", trim=True),
        "price": Mapped(decimal=",", thousands="."),
        "status": Mapped(values={"P": "paid"}),
    },
    reject_share=1,
)
LINES = [
    "155485;C00042;1.234,50;P;2026-01-11;too much",
    '155486;"C00042 ;1;P',
    "155487;C000421;C00043 C00042;P;2026-01-11;no field of it",
    "155488; c00043 ;42,50;P;2026-01-11;x",
    "42;C00044;1,00;P;2026-01-11;x",
]
HEADER = "id;Kunde;price;status;at\n"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Where nobody is waited for long."""
    return replace(settings, patience=Patience(for_readers=0.2))


@pytest.fixture
def orders(platform_of: Callable[..., Platform]) -> Platform:
    """A row that is good, one that is rejected, and LINES, which are none."""
    unquoted = replace(ORDERS, source=replace(ORDERS.source, multiline=False))
    platform = platform_of(unquoted)
    rows = ["1;C00001;2,00;P;2026-01-11", "2;C00042;cheap;P;2026-01-11"]
    text = HEADER + "".join(f"{line}\n" for line in [*rows, *LINES])
    (platform.settings.data / "orders.csv").write_text(text)
    report = load_table(platform.settings, platform.postgres, platform.clock, unquoted)
    assert (report.inserted, report.rejected) == (1, 1 + len(LINES))
    return platform


def lines(platform: Platform) -> list[str]:
    with platform.postgres.connect() as connection:
        rows = connection.execute(
            "select source_row ->> 'line' from lakebed.rejected_row where source_row ? 'line'"
            " order by row_number"
        ).fetchall()
    return [row[0] for row in rows]


def erased(platform: Platform, where: str) -> Erased:
    """Erase; make sure that the same was told beforehand."""
    (table,) = platform.tables
    told = would_erase(platform, table, where)
    assert set(lines(platform)) == set(LINES)
    done = erase(platform, table, where)
    assert done.failed == ()
    assert done.rejected_rows == told.rejected_rows
    assert done.unsearched_lines == told.unsearched_lines
    return done


@pytest.mark.parametrize(
    ("where", "rows", "gone"),
    [
        ("customer = 'C00042'", 1, [0, 1]),
        ("lower(customer) in ('c00043', 'c00044')", 0, [3, 4]),
        ("price = 1234.5", 0, [0]),
        ("id = 42", 0, [3, 4]),  # a comma may end a field: rather too much
        ("'C00042' = customer and (id = 155486 or id = 7)", 0, [1]),
        ("customer = 'C00042' or price = 42.5", 1, [0, 1, 3]),
        ("customer = '.*' or customer = 'C0004.'", 0, []),
    ],
)
def test_a_line_that_holds_the_values_as_fields_is_erased_and_no_other(
    orders: Platform, where: str, rows: int, gone: list[int]
) -> None:
    done = erased(orders, where)
    assert done.rejected_rows == rows + len(gone)
    assert done.unsearched_lines == 0
    assert lines(orders) == [line for n, line in enumerate(LINES) if n not in gone]


@pytest.mark.parametrize(
    "where",
    [
        "customer like 'C%'",
        "price < 10",
        "customer is null",
        "not customer = 'C00042'",
        "customer <> 'C00042'",
        "customer = 'C00042' and price < 10",
        "status = 'paid'",
        "at = '2026-01-11'",
        "customer = ''",
    ],
)
def test_lines_that_cannot_be_asked_stay_and_are_counted(orders: Platform, where: str) -> None:
    done = erased(orders, where)
    assert done.unsearched_lines == len(LINES)
    assert any(f"{len(LINES)} lines that are not rows" in copy for copy in done.copies)
    assert lines(orders) == LINES


@pytest.mark.parametrize(
    ("value", "number", "line", "found"),
    [
        ("42", True, '{"id":42,', True),
        ("42", True, '{"id": 0042.00}', True),
        ("42", True, "2026-01-42 10:42:00", False),
        ("42", True, "-42|142|42a|4.2|42.01", False),
        ("-42", True, "x|-42|y", True),
        ("0.50", True, "a;0,5;b", True),
        ("1234567", True, "a;1.234.567,00;b", True),
        ("0", True, "a;0;b", True),
        ("Ann O'Neil", False, "a,'Ann O''Neil',b", True),
        ('say "hi"', False, 'a,"say ""hi""",b', True),
        ('say "hi"', False, '{"x": "say \\"hi\\"" 1}', True),
        ("Ann", False, "a,Ann Smith,Joann,b", False),
        ("Ünal (Köln)", False, "x\tÜnal (Köln)\ty", True),
        ("a;b", False, "x;a\\;b;y", True),
        ("a.b@c.de", False, "1^a.b@c.de^2", True),
        ("a.b@c.de", False, "1^a-b@c.de^2", False),
        ("b", False, "a\nb\nc", True),
        ("z]^-", False, "1^z]^-^2", True),
    ],
)
def test_a_field_is_found_as_it_may_be_written(
    platform: Platform, value: str, number: bool, line: str, found: bool
) -> None:
    pattern = field_pattern(value, number=number, delimiter="^", thousands=".")
    with platform.postgres.connect() as connection:
        ((is_there,),) = connection.execute("select %s ~* %s", [line, pattern]).fetchall()
    assert is_there is found
