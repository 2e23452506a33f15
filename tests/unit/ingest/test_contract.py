"""Every bad row is told apart with its number, its column, a reason and itself; good rows go on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.ingest.contract import Checked, check, columns_to_read, rejects_at, to_arrow
from lakebed.ingest.package import format_cursor, parse_cursor
from lakebed.ingest.sources.reader import Batch, SourceError, SourceItem, listed
from lakebed.spec.table import Grain, Partitioning, SourceTable
from lakebed.store.rejects import Fault, Malformed, RejectKind

FILE = SourceItem("f.csv", "1-1", 1, "f.csv")
START = datetime(2024, 1, 1, tzinfo=UTC)


class Model(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64 = pa.Field(gt=0, unique=True)
    kind: str = pa.Field(isin=["a", "b"], nullable=True)
    value: pl.Float64 = pa.Field(le=10, nullable=True)


def table(**fields: Any) -> SourceTable:
    by = Partitioning(
        column="at", grain=Grain.MONTH, start=START, end=datetime(2025, 1, 1, tzinfo=UTC)
    )
    return SourceTable(**{"name": "t", "model": Model, "partitioning": by} | fields)


def checked(first: int = 1, **columns: list[Any]) -> Checked:
    rows = len(next(iter(columns.values())))
    frame = pl.DataFrame(
        {
            "at": columns.get("at", ["2024-02-01"] * rows),
            "id": columns.get("id", [str(i + 1) for i in range(rows)]),
            "kind": columns.get("kind", ["a"] * rows),
            "value": columns.get("value", ["1"] * rows),
        },
        strict=False,
    )
    numbers = pl.int_range(first, first + rows, eager=True)
    return check(table(), FILE, Batch(frame, numbers))


def test_a_good_batch_has_the_contracts_types_and_no_reject() -> None:
    result = checked(value=["1.5", None])
    assert result.rejects == []
    assert result.good.schema == {
        "at": pl.Datetime("us", "UTC"),
        "id": pl.Int64(),
        "kind": pl.String(),
        "value": pl.Float64(),
    }
    assert to_arrow(table(), result.good).num_rows == 2


@pytest.mark.parametrize(
    ("column", "value", "kind", "rule"),
    [
        ("id", "x", "type", "bigint"),
        ("id", None, "required", "not_nullable"),
        ("id", "0", "rule", "greater_than(0)"),
        ("kind", "c", "rule", "isin(['a', 'b'])"),
        ("value", "10.5", "rule", "less_than_or_equal_to(10)"),
        ("value", "ten", "type", "double precision"),
        ("at", None, "required", "not_nullable"),
        ("at", "2023-12-31T23:59:59.999999Z", "rule", "partitioning.start"),
        ("at", "2025-01-01", "rule", "partitioning.end"),
        ("at", "noon", "type", "timestamp with time zone"),
    ],
)
def test_a_bad_value_fails_and_its_row_is_told_apart(
    column: str, value: str | None, kind: str, rule: str
) -> None:
    good = {"at": "2024-02-01", "kind": "a", "value": None, "id": None}[column]
    values = [good or str(n) for n in (1, 2, 3, 4)]
    values[2] = value
    result = checked(first=101, **{column: values})
    assert result.good.height == 3
    (reject,) = result.rejects
    assert (reject.source_file, reject.row_number, reject.column) == ("f.csv", 103, column)
    assert (reject.kind, reject.rule) == (kind, rule)
    assert column in reject.message
    row = json.loads(reject.row)
    assert list(row) == ["at", "id", "kind", "value"]
    assert row[column] == value


def test_nulls_before_a_bad_value_do_not_shift_its_row_number() -> None:
    result = checked(
        value=[None, None, "11", None, "12", "1"], kind=[None, "c", "a", "a", "a", "b"]
    )
    assert [(r.row_number, r.column) for r in result.rejects] == [
        (2, "kind"),
        (3, "value"),
        (5, "value"),
    ]
    assert result.good["id"].to_list() == [1, 4, 6]


def test_all_that_is_wrong_with_a_row_is_said_at_once() -> None:
    (reject,) = checked(id=["0"], kind=["c"], value=["x"]).rejects
    assert all(f"{name}: " in reject.message for name in ("id", "kind", "value"))


def test_values_that_are_twice_in_a_batch_break_a_rule_that_wants_them_once() -> None:
    result = checked(id=["1", "2", "2", "3"])
    assert {r.row_number for r in result.rejects} <= {2, 3}
    assert result.rejects
    assert result.good["id"].is_unique().all()


def test_nan_counts_as_missing_where_null_is_refused_and_fits_no_range() -> None:
    assert checked(value=["nan", "1"]).good.height == 1  # NaN <= 10 is not true

    class Strict(pa.DataFrameModel):
        value: pl.Float64

    batch = Batch(pl.DataFrame({"value": ["nan", "1", None]}), pl.Series([1, 2, 3]))
    result = check(SourceTable(name="s", model=Strict), FILE, batch)
    assert [r.row_number for r in result.rejects] == [1, 3]


def test_rows_that_postgres_refuses_become_rejects_by_their_number() -> None:
    batch = Batch(pl.DataFrame({"a": [b"x", b"y", b"z"]}), pl.Series([5, 6, 9]))
    broken = Fault(RejectKind.CONSTRAINT, "c", "a", "breaks the constraint c")
    refused = Fault(RejectKind.CONSTRAINT, "P0001", None, "refused")
    bad = {9: broken, 5: refused, 77: broken}
    assert [(r.row_number, r.fault, json.loads(r.row)) for r in rejects_at(FILE, batch, bad)] == [
        (5, refused, {"a": "x"}),
        (9, broken, {"a": "z"}),
    ]


def test_lines_that_are_no_rows_are_rejected_with_their_text() -> None:
    batch = Batch(
        pl.DataFrame(schema=dict.fromkeys(table().column_names, pl.Binary)),
        pl.Series([], dtype=pl.Int64),
        ((7, Malformed("value_count", "1 values for 4 columns"), "a\0b"),),
    )
    (reject,) = check(table(), FILE, batch).rejects
    assert (reject.row_number, reject.kind, reject.rule, reject.column) == (
        7, RejectKind.MALFORMED, "value_count", None
    )  # fmt: skip
    assert json.loads(reject.row) == {"line": "a\N{REPLACEMENT CHARACTER}b"}


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"a": [b"\xff\0x"], "b": [float("nan")]}),
        pl.DataFrame({"a": [2**63 - 1], "b": [None]}),
        pl.DataFrame({"a": [2**62], "b": [2**62]}).select(
            pl.col("a").cast(pl.Datetime("us", "UTC")), pl.col("b").cast(pl.Datetime("ns"))
        ),
        pl.DataFrame({"a": [Decimal("1.5")], "b": [timedelta(days=1)]}),
        pl.DataFrame({"a": ["x" * 10_000], "b": ["\ud7ff\U0001f600"]}),
    ],
)
def test_any_bad_row_can_be_stored_as_json(frame: pl.DataFrame) -> None:
    with_word = frame.with_columns(pl.lit("word").alias("c"))

    class Words(pa.DataFrameModel):
        c: pl.Int64

    text = check(
        SourceTable(name="w", model=Words), FILE, Batch(with_word, pl.Series([1]))
    ).rejects[0]
    assert "\\u0000" not in text.row
    assert json.loads(text.row)["c"] == "word"


def test_a_nested_column_refuses_the_file() -> None:
    frame = pl.DataFrame({"at": ["2024-02-01"], "id": [[1]], "kind": ["a"], "value": ["1"]})
    with pytest.raises(SourceError, match=r"f\.csv: column 'id' is List"):
        check(table(), FILE, Batch(frame, pl.Series([1])))


def test_a_missing_column_refuses_the_file() -> None:
    with pytest.raises(SourceError, match=r"'kind' is missing.*at, id, value"):
        columns_to_read(table(), FILE, ["at", "id", "value"])


def test_a_new_column_is_refused_left_out_or_ignored_as_the_table_says() -> None:
    there = ["extra", "at", "id", "kind", "value"]
    with pytest.raises(SourceError, match=r"'extra' is not in the contract.*ignored"):
        columns_to_read(table(), FILE, there)
    expected = ["at", "id", "kind", "value"]
    assert columns_to_read(table(new_columns="discard"), FILE, there) == expected
    assert columns_to_read(table(ignored=("extra",)), FILE, there) == expected


class Cursors(pa.DataFrameModel):
    number: pl.Int64
    real: pl.Float64
    exact: Annotated[pl.Decimal, 12, 2]
    text: str
    day: pl.Date
    clock: pl.Time
    naive: Annotated[pl.Datetime, "us", None]
    at: Annotated[pl.Datetime, "us", "UTC"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", -5),
        ("real", 0.1),
        ("exact", Decimal("1.10")),
        ("text", "it's"),
        ("day", datetime(2024, 1, 1, tzinfo=UTC).date()),
        ("clock", datetime(2024, 1, 1, 12, 0, 0, 5, tzinfo=UTC).time()),
        ("naive", datetime(2024, 1, 1, 12, 0, 0, 5)),  # noqa: DTZ001
        ("at", datetime(2024, 1, 1, 12, 0, 0, 5, tzinfo=UTC)),
    ],
)
def test_a_cursor_comes_back_from_the_ledger_as_it_went_in(column: str, value: Any) -> None:
    table = SourceTable(name="c", model=Cursors, cursor=column)
    assert parse_cursor(table, format_cursor(value)) == value
    assert parse_cursor(table, format_cursor(None)) is None


@pytest.mark.parametrize("there", [["x" * 3_000_000], [f"column {n}" for n in range(100_000)]])
@pytest.mark.parametrize("fields", [{}, {"new_columns": "freeze"}], ids=["missing", "unknown"])
def test_what_a_file_has_is_quoted_in_short(there: list[str], fields: dict[str, Any]) -> None:
    known = ["at", "id", "kind", "value"] if fields else []
    with pytest.raises(SourceError) as told:
        columns_to_read(table(**fields), FILE, [*known, *there])
    assert len(str(told.value)) < 1000
    assert ("add it to the model" if fields else "deliver the file again") in str(told.value)


def test_names_are_listed_whole_where_they_are_few_and_short() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["x" * 61]) == f"{'x' * 60}... (61 characters)"
    assert listed(["x"] * 31) == ", ".join(["x"] * 30) + " and 1 more"


def test_a_problem_of_any_length_keeps_its_beginning_and_its_way_out() -> None:
    problem = str(SourceError("f.csv", f"it says {'x' * 3_000_000}; deliver it again"))
    assert len(problem) < 2100
    assert problem.startswith("f.csv: it says x")
    assert problem.endswith("x; deliver it again")
