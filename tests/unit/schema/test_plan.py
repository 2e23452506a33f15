"""The plan: from a table file and PostgreSQL's catalog to SQL, each change with its safety."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.schema.evolved import evolved_column
from lakebed.schema.plan import SMALL_BYTES, Change, Found, FoundColumn, plan_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, Partitioning, SourceTable, Tiering


class Model(pa.DataFrameModel):
    """Things."""

    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(description="when")
    n: pl.Int64
    odd: str = pa.Field(alias='Odd "Name"', nullable=True)
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)


BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))
AT = FoundColumn("at", "timestamp with time zone", True, "when")
N = FoundColumn("n", "bigint", True)
ODD = FoundColumn('Odd "Name"', "text")
AMOUNT = FoundColumn("amount", "numeric(12,2)")
SAME = Found(columns=(AT, N, ODD, AMOUNT), comment="Things.", filled=True, rows=10, bytes=8192)
BIG = SMALL_BYTES + 1


def table(**fields: Any) -> SourceTable:
    return SourceTable(**{"name": "things", "model": Model} | fields)


def changes(found: Found | None, **fields: Any) -> tuple[Change, ...]:
    return plan_table(table(**fields), found).changes


def with_columns(*columns: FoundColumn, **fields: Any) -> Found:
    return replace(SAME, columns=columns, **fields)


def test_a_table_that_is_as_its_file_says_needs_nothing() -> None:
    assert plan_table(table(), SAME).changes == ()
    assert plan_table(table(), SAME).fields == ()


def test_a_missing_table_is_made_with_its_leaves() -> None:
    windows = [window_for_key(Grain.MONTH, key) for key in ("2024-02", "2024-01")]
    made, partition_tables = plan_table(table(partitioning=BY_MONTH), None, windows).changes
    assert (made.safety, partition_tables.safety) == ("instant", "instant")
    assert made.sql[0].startswith('create table if not exists "public"."things" ("at" timestamp')
    assert partition_tables.what == "partition tables are missing: 2024-01, 2024-02"
    assert 'create table "public"."things_2024_01"' in partition_tables.sql[0]


TYPE = 'alter table "public"."things" alter column "{}" type {}'


@pytest.mark.parametrize(
    ("found", "what", "safety", "statements"),
    [
        (
            with_columns(AT, N, AMOUNT),
            'column Odd "Name" is missing (text)',
            "instant",
            ['alter table "public"."things" add column "Odd ""Name""" text'],
        ),
        (
            with_columns(AT, ODD, AMOUNT),
            "column n is missing (bigint)",
            "refused",
            ['alter table "public"."things" add column "n" bigint not null default <value>'],
        ),
        (
            with_columns(AT, ODD, AMOUNT, filled=False),
            "column n is missing (bigint)",
            "instant",
            ['alter table "public"."things" add column "n" bigint not null'],
        ),
        (
            with_columns(AT, N, ODD, replace(AMOUNT, kind="numeric(10,2)"), bytes=BIG),
            "column amount is numeric(10,2), the contract says numeric(12,2)",
            "instant",
            [TYPE.format("amount", "numeric(12,2)")],
        ),
        (
            with_columns(AT, N, replace(ODD, kind="character varying(9)"), AMOUNT, bytes=BIG),
            'column Odd "Name" is character varying(9), the contract says text',
            "instant",
            [TYPE.format('Odd ""Name""', "text")],
        ),
        (
            with_columns(AT, replace(N, kind="integer"), ODD, AMOUNT),
            "column n is integer, the contract says bigint",
            "instant",  # of a table this small
            [TYPE.format("n", "bigint")],
        ),
        (
            with_columns(
                AT,
                replace(N, kind="integer"),
                ODD,
                replace(AMOUNT, kind="numeric(6,1)"),
                rows=7,
                bytes=BIG,
            ),
            "column n is integer, the contract says bigint; "
            "column amount is numeric(6,1), the contract says numeric(12,2)",
            "blocking",
            [TYPE.format("n", "bigint") + ', alter column "amount" type numeric(12,2)'],
        ),
        (
            with_columns(AT, replace(N, kind="numeric(30,0)"), ODD, AMOUNT),
            "column n is numeric(30,0), the contract says bigint",
            "refused",
            [TYPE.format("n", "bigint") + ' using "n"::bigint'],
        ),
        (
            with_columns(replace(AT, kind="timestamp without time zone"), N, ODD, AMOUNT),
            "column at is timestamp without time zone, the contract says timestamp with time zone",
            "refused",
            [TYPE.format("at", "timestamp with time zone") + " using \"at\" at time zone 'UTC'"],
        ),
        (
            with_columns(AT, N, ODD, replace(AMOUNT, not_null=True)),
            "column amount is NOT NULL, the contract lets it be null",
            "instant",
            ['alter table "public"."things" alter column "amount" drop not null'],
        ),
        (
            with_columns(AT, N, ODD, replace(AMOUNT, not_null=True), primary_key=("amount",)),
            "column amount is NOT NULL, the contract lets it be null",
            "refused",
            [],
        ),
        (
            replace(SAME, comment="Old."),
            "the table's comment differs",
            "instant",
            ['comment on table "public"."things" is \'Things.\''],
        ),
        (
            with_columns(replace(AT, comment=None), N, ODD, AMOUNT),
            "the comment of column at differs",
            "instant",
            ['comment on column "public"."things"."at" is \'when\''],
        ),
        (
            with_columns(AT, N, replace(ODD, comment="old"), AMOUNT),
            'the comment of column Odd "Name" differs',
            "instant",
            ['comment on column "public"."things"."Odd ""Name""" is NULL'],
        ),
        (
            with_columns(AT, N, ODD, AMOUNT, FoundColumn("extra", "integer", True)),
            "column extra (integer) is not in the contract",
            "refused",
            ['alter table "public"."things" alter column "extra" drop not null'],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_each_difference_has_its_sql_and_its_safety(
    found: Found, what: str, safety: str, statements: list[str]
) -> None:
    (change,) = changes(found)
    assert (change.what, change.safety, change.sql) == (what, safety, statements)
    assert bool(change.why) == (safety == "refused")
    if safety == "blocking":
        assert (change.rows, change.bytes) == (7, BIG)
        assert "no session reads or writes" in change.lock


def test_what_may_not_be_null_is_looked_through_in_short_locks() -> None:
    (change,) = changes(with_columns(AT, replace(N, not_null=False), ODD, AMOUNT))
    assert change.safety == "checked"
    words = [[statement.as_string() for statement in step] for step in change.steps]
    assert ["not valid" in words[0][1], "validate" in words[1][0], "set not null" in words[2][0]]
    assert "drop constraint" in words[2][1]


def test_a_missing_key_is_a_primary_key_or_else_a_unique_index() -> None:
    (change,) = changes(replace(SAME, bytes=BIG), key=("n",))
    assert (change.safety, change.sql) == (
        "blocking",
        ['alter table "public"."things" add primary key ("n")'],
    )
    (change,) = changes(replace(SAME, primary_key=("at",)), key=("n",))
    assert change.sql == ['create unique index on "public"."things" ("n")']
    for there in ({"primary_key": ("at", "n")}, {"unique": (("n",), ("at", "n"))}):
        assert changes(replace(SAME, **there), key=("n", "at")) == ()


def test_a_partitioned_table_needs_its_leaves_and_what_finds_its_rows() -> None:
    found = replace(SAME, require_partitioning=True, partition_tables=frozenset({"things_2024_01"}))
    windows = [window_for_key(Grain.MONTH, key) for key in ("2024-01", "2024-02")]
    index, partition_tables = plan_table(table(partitioning=BY_MONTH), found, windows).changes
    assert index.sql[0].startswith('create index if not exists "things_by_time"')
    assert [window.key for window in partition_tables.partition_tables] == ["2024-02"]
    plain = replace(SAME, require_partitioning=False)
    assert plan_table(table(partitioning=BY_MONTH), plain, windows).changes == ()


def test_the_column_that_partitions_a_table_cannot_be_altered() -> None:
    found = with_columns(
        replace(AT, kind="date"), N, ODD, AMOUNT, require_partitioning=True, time_indexed=True
    )
    (change,) = changes(found, partitioning=BY_MONTH)
    assert (change.safety, change.sql) == ("refused", [])
    assert "make another table" in change.why


def test_a_column_of_others_is_let_be_until_it_keeps_partitions_from_moving() -> None:
    extra = FoundColumn("extra", "bigint", comment="theirs")
    found = with_columns(AT, N, ODD, AMOUNT, extra)
    plan = plan_table(table(), found)
    assert plan.changes == ()
    assert plan.fields == ("extra: pl.Int64 = pa.Field(nullable=True, description='theirs')",)
    tiered = table(partitioning=BY_MONTH, tiering=Tiering(hot_for=timedelta(days=1)))
    (change,) = plan_table(tiered, found).changes
    assert (change.safety, change.sql) == (
        "refused",
        ['alter table "public"."things" drop column "extra"'],
    )


def test_an_evolved_column_is_proposed_for_the_model_and_made_where_it_is_missing() -> None:
    grown = table().extended([evolved_column("a b", "numeric(9,3)", "f.csv", "2024-07-01")])
    comment = grown.description
    assert comment == "Things.\nColumns added from the source: a b (numeric(9,3))."
    plan = plan_table(grown, replace(SAME, comment=comment))
    assert [change.what for change in plan.changes] == ["column a b is missing (numeric(9,3))"]
    assert plan.fields == (
        "a_b: Annotated[pl.Decimal, 9, 3] = pa.Field(alias='a b', nullable=True, "
        "description='brought by f.csv on 2024-07-01')",
    )


def test_blocking_changes_are_done_only_where_they_are_asked_for() -> None:
    columns = (AT, replace(N, kind="integer"), replace(ODD, kind="bytea"), AMOUNT)
    plan = plan_table(table(), with_columns(*columns, bytes=BIG, comment=None))
    assert [change.safety for change in plan.changes] == ["blocking", "refused", "instant"]
    assert [change.safety for change in plan.doable(blocking=False)] == ["instant"]
    assert [change.safety for change in plan.doable(blocking=True)] == ["blocking", "instant"]
