"""What is to be erased is said in a few words that PostgreSQL and DuckDB read alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import duckdb
import pandera.polars as pa
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.spec.partitions import Grain
from lakebed.spec.table import CsvFiles, Mapped, Partitioning, SourceTable, Tiering
from lakebed.tiering.literals import PredicateError
from lakebed.tiering.predicate import predicate_of


class Event(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    user_id: pl.Int64
    email: str = pa.Field(nullable=True)
    Name: str = pa.Field(nullable=True, alias='Full "Name"')
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)
    ratio: pl.Float64 = pa.Field(nullable=True)
    share: pl.Float32 = pa.Field(nullable=True)
    active: bool
    day: pl.Date
    id: str = pa.Field(metadata={"postgres": "uuid"})
    mood: Annotated[pl.Enum, ["sad", "glad"]] = pa.Field(metadata={"postgres": "mood"})
    body: pl.Binary
    data: str = pa.Field(metadata={"postgres": "jsonb"})


events = SourceTable(
    name="events",
    model=Event,
    source=CsvFiles(glob="*.csv"),
    transforms={"user_id": Mapped("User"), "email": Mapped(expr="lower(email)")},
    partitioning=Partitioning(
        column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
    ),
    tiering=Tiering(hot_for=timedelta(days=1)),
)


def written(text: str) -> str:
    return predicate_of(events, text).postgres.as_string().replace('"', "")


AT = "at >= cast('2024-01-01T00:00:00+00:00' as timestamp with time zone)"
ID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"


@pytest.mark.parametrize(
    ("text", "postgres"),
    [
        ("user_id = 42", "user_id = cast('42' as bigint)"),
        ("42 < USER_ID", "user_id > cast('42' as bigint)"),
        ("user_id = -1", "user_id = cast('-1' as bigint)"),
        ("user_id IN (1, '2')", "user_id in (cast('1' as bigint), cast('2' as bigint))"),
        ("user_id not in (1)", "(not user_id in (cast('1' as bigint)))"),
        ("events.active", "active"),
        ("not active", "(not active)"),
        ("email is null", "(email is null)"),
        ("email is not null", "(email is not null)"),
        ("lower(email) = 'a@b.c'", "lower(email) = cast('a@b.c' as text)"),
        ("email like 'a%'", "(email like cast('a%' as text))"),
        ("email not like 'a%'", "(email not like cast('a%' as text))"),
        ("email = 'x'' or ''1'", "email = cast('x'' or ''1' as text)"),
        ('"Full ""Name""" = \'x\'', "Full Name = cast('x' as text)"),
        (
            "not day between '2024-01-01' and date '2024-02-01'",
            "(not day between cast('2024-01-01' as date) and cast('2024-02-01' as date))",
        ),
        ("at >= '2024-01-01'", AT),
        (f"id = '{ID.upper()}'::uuid", f"id = cast('{ID}' as uuid)"),
        ("at >= timestamptz '2024-01-01'", AT),
        ("email = 'a'::text", "email = cast('a' as text)"),
        ("mood = 'sad'::public.mood", "mood = cast('sad' as public.mood)"),
        ("share = 1.5", "share = cast('1.5' as real)"),
        ("amount = -9999999999.99", "amount = cast('-9999999999.99' as numeric(12,2))"),
        ("mood = 'sad'", "mood = cast('sad' as public.mood)"),
        ("amount = 1.50", "amount = cast('1.50' as numeric(12,2))"),
        (
            "active and (day = '2024-01-01' or active)",
            "(active and (day = cast('2024-01-01' as date) or active))",
        ),
    ],
)
def test_a_condition_is_written_anew_with_typed_literals(text: str, postgres: str) -> None:
    assert written(text) == postgres


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("user_id = 42; drop table events", "not one condition"),
        ("", "not one condition"),
        ("user_id = ", "not a condition"),
        ("true", "comparisons of a column"),
        ("1 = 1", "one side of a comparison is a column"),
        ("user_id = amount", "is not a literal"),
        ("user_id in (select user_id from others)", "list the values"),
        ("exists (select 1)", "no subqueries"),
        ("user_id = (delete from events returning 1)", ""),
        ("count(*) > 1", "one side of a comparison is a column"),
        ("random() < 0.5", "one side of a comparison is a column"),
        ("pg_sleep(1) is null", "one side of a comparison is a column"),
        ("upper(email) = 'A'", "one side of a comparison is a column"),
        ("name = 'x'", "not a column of events"),
        ("others.user_id = 1", "not a column of events"),
        ("email", "is text"),
        ("email < 'm'", "same order"),
        ("email between 'a' and 'b'", "same order"),
        ("id > 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "same order"),
        ("mood > 'sad'", "same order"),
        ("lower(email) = 'É'", "read it differently"),
        (r"email like 'a\_b'", "without a backslash"),
        ("user_id like '4%'", "for a column of text"),
        ("user_id = 42.5", "(bigint"),
        ("user_id = 'x'", "(bigint"),
        ("user_id = 99999999999999999999", "(bigint"),
        ("amount = 0.005", "(numeric"),
        ("amount = 10000000000", "(numeric"),
        ("share = 1e39", "(real"),
        ("share = 1e-50", "(real"),
        ("ratio = 1e400", "(double"),
        ("ratio = 1e-400", "(double"),
        ("email = 'abcdef'::varchar(3)", "remove the cast"),
        ("amount = 1.239::numeric(12,2)", "(numeric"),
        ("amount = 1.239::numeric(12,1)", "remove the cast"),
        ("at >= '2024-01-01 10:00'::date", "remove the cast"),
        ("at >= '2024-01-01 10:00'::date::timestamptz", "remove the cast"),
        ("user_id in (1, 2.7::int)", "remove the cast"),
        ("ratio = 'nan'", "(double"),
        ("id = 'x'", "(uuid"),
        ("mood = 'angry'", "(public.mood"),
        ("day = 'yesterday'", "(date"),
        ("body = 'x'", "(bytea"),
        ("data = '{}'", "(jsonb"),
        ("user_id is true", "only IS NULL"),
        ("user_id is not true", "only IS NULL"),
        ("user_id between symmetric 2 and 1", "not take this form"),
        ("email like 'a' escape 'b'", "an erasure takes"),
        ("email like any(array['a'])", "without a backslash"),
        ("user_id = any(array[1])", "is not a literal"),
        ("user_id is distinct from 1", "an erasure takes"),
        ("other.public.events.user_id = 1", "not take this form"),
        ("user_id in unnest(user_id)", "not take this form"),
    ],
)
def test_whatever_else_sql_can_say_is_refused(text: str, why: str) -> None:
    with pytest.raises(PredicateError) as refused:
        predicate_of(events, text)
    assert why in str(refused.value)


class Narrow(pa.DataFrameModel):
    at: Annotated[pl.Datetime, "us", "UTC"]
    code: str = pa.Field(metadata={"postgres": "character varying(3)"})
    seen: Annotated[pl.Datetime, "us", None] = pa.Field(
        metadata={"postgres": "timestamp(3) without time zone"}
    )


narrow = SourceTable(name="narrow", model=Narrow, adopted=True)


@pytest.mark.parametrize(
    ("text", "postgres"),
    [
        ("code = 'abcdef'", "\"code\" = cast('abcdef' as text)"),
        ("code like '%abc%'", "(\"code\" like cast('%abc%' as text))"),
        (
            "seen = '2024-01-01 00:00:00.123456'::timestamp",
            "\"seen\" = cast('2024-01-01T00:00:00.123456' as timestamp without time zone)",
        ),
    ],
)
def test_a_literal_is_not_cut_to_the_length_of_its_column(text: str, postgres: str) -> None:
    assert predicate_of(narrow, text).postgres.as_string() == postgres


@pytest.mark.parametrize(
    "text", ["code = 'abcdef'::varchar(3)", "seen = '2024-01-01'::timestamp(0)"]
)
def test_a_cast_that_cuts_a_literal_is_refused(text: str) -> None:
    with pytest.raises(PredicateError, match="remove the cast"):
        predicate_of(narrow, text)


def test_the_quarantine_is_asked_by_the_names_and_texts_of_the_source() -> None:
    found = predicate_of(events, "user_id = 42").quarantine
    assert found is not None
    assert found.as_string() == "trim(source_row ->> 'User') = cast('42' as text)"
    assert predicate_of(events, "user_id > 42").quarantine is None, "texts have another order"
    assert predicate_of(events, "active").quarantine is None, "a text is not a condition"
    assert predicate_of(events, "user_id = 42 and not active").quarantine is None
    assert predicate_of(events, "email = 'a'").quarantine is None, "an expression made it"


def test_a_digest_stands_for_the_text() -> None:
    one, other = (predicate_of(events, f"user_id = {n}") for n in (42, 43))
    assert one.sha256 == predicate_of(events, "user_id = 42").sha256 != other.sha256
    assert one.columns == {"user_id"}


@given(st.text(), st.sampled_from(["email = {}", "email in ({}, 'x')", "not (email <> {})"]))
def test_no_text_gets_out_of_its_literal(value: str, form: str) -> None:
    text = form.format("'" + value.replace("'", "''") + "'")
    try:
        found = predicate_of(events, text)
    except PredicateError:
        assert "\0" in value or "\\" in value or not value.isprintable()
        return
    with duckdb.connect() as connection:
        connection.execute("create table t (email varchar)")
        connection.execute("insert into t values ($1), ($1 || 'x'), (null)", [value])
        query = f"select email from t where {found.duckdb.as_string()}"  # noqa: S608
        rows = {row[0] for row in connection.execute(query).fetchall()}
    assert value in rows
    assert rows <= {value, "x"}
