"""What a table file of an adopted table says, and what such a table may not say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.scaffolding import adoption
from lakebed.spec.partitions import Grain
from lakebed.spec.postgres_types import field_line, found_type
from lakebed.spec.schema import Column, columns_of
from lakebed.spec.table import ParquetFiles, Partitioning, SourceTable, TableError, Tiering
from lakebed.spec.types import SchemaError

START = datetime(2024, 1, 1, tzinfo=UTC)


class Order(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    id: pl.Int64
    name: str = pa.Field(metadata={"postgres": "varchar(20)"})


def order(**more: Any) -> SourceTable:
    given: dict[str, Any] = {
        "name": "orders",
        "model": Order,
        "adopted": True,
        "partitioning": Partitioning(column="at", grain="month", start=START),
        "tiering": Tiering(hot_for=timedelta(days=1)),
    }
    return SourceTable(**given | more)


def test_an_adopted_table_may_be_in_any_schema_and_have_narrow_types() -> None:
    table = order(schema="shop")
    assert table.place == "shop.orders"
    assert table.column("name").postgres == "character varying(20)"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (
            {"adopted": False, "schema": "shop"},
            "schema: it is 'shop', but Lakebed creates tables in public",
        ),
        ({"adopted": False}, "only an adopted table may have"),
        ({"schema": "lakebed"}, "a reserved name"),
        ({"schema": "pg_catalog"}, "a reserved name"),
        ({"source": ParquetFiles(glob="*")}, "remove source"),
        (
            {"write_mode": "merge", "key": ("at", "id")},
            "write_mode, lookups and deletes are for loads",
        ),
        (
            {"tiering": Tiering(hot_for=timedelta(1), drop_emptied_after=timedelta(2))},
            "tiering.drop_emptied_after",
        ),
    ],
)
def test_what_an_adopted_table_may_not_say_is_refused(more: dict[str, Any], why: str) -> None:
    with pytest.raises(TableError, match=why):
        order(**more)


TYPES = [
    "bigint",
    "text",
    "character varying(20)",
    "character varying",
    "timestamp(3) with time zone",
    "timestamp without time zone",
    "time(0) without time zone",
    "numeric(12,2)",
    "uuid",
    "jsonb",
    "interval",
    "time with time zone",
    "inet",
    "double precision",
    "bytea",
    "date",
    "integer[]",
    "numeric(12,2)[]",
    "timestamp with time zone[]",
    "uuid[]",
]


def test_every_type_is_written_so_that_it_is_read_as_it_was() -> None:
    found = {f"c{n}": found_type(kind) for n, kind in enumerate(TYPES)}
    found["mood"] = found_type("shop.mood", ["it's", "sad"])
    found["class"] = found_type("text")
    columns = [
        Column(name, *types, nullable=name != "c0", unique=False, description='a "b"', checks=())
        for name, types in found.items()
    ]
    lines = "".join(f"    {field_line(column)}\n" for column in columns)
    space: dict[str, Any] = {"Annotated": Annotated, "pa": pa, "pl": pl}
    text = f"class Row(pa.DataFrameModel):\n{lines}"
    exec(compile(text, "row", "exec", dont_inherit=True), space)  # noqa: S102
    read = columns_of(space["Row"])
    assert [(c.name, c.postgres, c.nullable, c.description) for c in read] == [
        (c.name, c.postgres, c.nullable, c.description) for c in columns
    ]
    assert [c.postgres for c in read] == [*TYPES, "shop.mood", "text"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("numeric", r"numeric\(38, 10\)"),
        ("numeric(40,2)", "double"),
        ("character(3)", "PostgreSQL pads it"),
        ("character varying(3)[]", r"ALTER it to text\[\]"),
        ("citext", "no lossless form"),
        ("time(3) with time zone", "no lossless form"),
        ("tsrange", "no lossless form"),
    ],
)
def test_a_type_that_would_be_damaged_is_refused_with_the_way_out(kind: str, why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        found_type(kind)


@pytest.mark.parametrize(
    ("days", "grain"),
    [
        ([1 / 24], "hour"), ([1, 1, 1], "day"), ([0.25], "day"), ([7], "week"),
        ([31, 28, 31], "month"), ([10], "month"), ([91], "year"), ([365], "year"), ([], "month"),
    ],
)  # fmt: skip
def test_the_grain_is_one_that_holds_a_leaf(days: list[float], grain: str) -> None:
    spans = [(START, START + timedelta(days=length)) for length in days]
    assert adoption._grain(spans) == Grain(grain)


def column(name: str, kind: str, *, not_null: bool = True) -> adoption._Found:
    return adoption._Found(name, kind, not_null, "", (), True)


MOMENT = "timestamp with time zone"


def test_the_time_is_guessed_only_where_one_column_can_be_it() -> None:
    one = [column("id", "bigint"), column("at", MOMENT), column("seen", MOMENT, not_null=False)]
    two = [column("at", MOMENT), column("changed", MOMENT)]
    assert adoption._time("t", one, None, None) == "at"
    assert adoption._time("t", two, None, "changed") == "changed"
    assert adoption._time("t", two, "at", "changed") == "at"
    with pytest.raises(adoption.AdoptionError, match="--time at or --time changed"):
        adoption._time("t", two, None, None)
    with pytest.raises(adoption.AdoptionError, match="seen may be null"):
        adoption._time("t", [one[0], one[2]], None, None)
    with pytest.raises(
        adoption.AdoptionError, match=r"id is bigint\. Expected a timestamp with time zone"
    ):
        adoption._time("t", one, "id", None)
    with pytest.raises(adoption.AdoptionError, match="no column 'when'; it has id, at, seen"):
        adoption._time("t", one, "when", None)


def test_a_key_without_the_time_gets_it_and_that_is_said() -> None:
    columns = [column("id", "bigint"), column("at", MOMENT), column("doc", "jsonb")]
    maybe = [*columns, column("name", "text", not_null=False)]
    assert adoption._key(columns, [("at", "id")], "at") == (("at", "id"), [])
    key, (said,) = adoption._key(columns, [("id",)], "at")
    assert key == ("id", "at")
    assert "did not include at, which was added" in said
    key, (said,) = adoption._key(maybe, [("name",), ("doc",)], "at")
    assert key == ()
    assert "no key" in said
