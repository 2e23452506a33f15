"""A value becomes its column's type unchanged, or is told apart."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakebed.ingest.casts import cast

INT, FLOAT, TEXT, BYTES = pl.Int64(), pl.Float64(), pl.String(), pl.Binary()
MONEY = pl.Decimal(12, 2)
STAMP = pl.Datetime("us", "UTC")
NAIVE = pl.Datetime("us")
NAN, INF = float("nan"), float("inf")
NOON = datetime(2024, 1, 31, 12, tzinfo=UTC)
LAST = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def outcome(
    values: list[Any], source: Any, target: pl.DataType, literal: str | None = None
) -> list[Any]:
    """Return each value after the cast, or its reason, as text, where it was told apart."""
    done = cast(pl.Series("c", values, dtype=source), target, literal)
    found: list[Any] = done.series.to_list()
    for reason, bad, _ in done.problems:
        for index in bad.arg_true():
            found[index] = f"! {reason}"
    return found


def same(found: Any, expected: Any) -> bool:
    return repr(found) == repr(expected) if isinstance(expected, float) else found == expected


@pytest.mark.parametrize(
    ("target", "text", "expected"),
    [
        (INT, "5", 5),
        (INT, " 007 ", 7),
        (INT, "-9223372036854775808", -(2**63)),
        (INT, "9223372036854775808", "! does not fit a whole number"),
        (INT, "1.0", "! is not a whole number"),
        (INT, "1_000", "! is not a whole number"),
        (INT, "1,000", "! is not a whole number"),
        (INT, "", "! is not a whole number"),
        (INT, "a word", "! is not a whole number"),
        (pl.UInt8(), "256", "! does not fit a whole number"),
        (pl.UInt8(), "-1", "! does not fit a whole number"),
        (FLOAT, "1.5e3", 1500.0),
        (FLOAT, "-0.0", -0.0),
        (FLOAT, "nan", NAN),
        (FLOAT, "-inf", -INF),
        (FLOAT, "1e400", "! does not fit a number"),
        (FLOAT, "1e-400", "! does not fit a number"),
        (FLOAT, "-0.001e-999", "! does not fit a number"),
        (FLOAT, "5e-324", 5e-324),
        (FLOAT, "-0e-999", -0.0),
        (FLOAT, "0.000", 0.0),
        (FLOAT, "1,5", "! is not a number"),
        (pl.Float32(), "1e39", "! does not fit a number"),
        (pl.Float32(), "1e-50", "! does not fit a number"),
        (MONEY, "1.50", Decimal("1.50")),
        (MONEY, "1.500", Decimal("1.50")),
        (MONEY, ".5", Decimal("0.50")),
        (MONEY, "1.005", "! does not fit a number"),
        (MONEY, "10000000000", "! does not fit a number"),
        (MONEY, "1e2", Decimal("100.00")),
        (MONEY, "-1.50E-1", Decimal("-0.15")),
        (MONEY, "1e-3", "! does not fit a number"),
        (MONEY, "1312e31", "! does not fit a number"),
        (MONEY, "743089.7E-35", "! does not fit a number"),
        (MONEY, "e2", "! is not a number"),
        (pl.Decimal(38, 0), "1" * 39, "! does not fit a number"),
        (pl.Boolean(), "Yes", True),
        (pl.Boolean(), "0", False),
        (pl.Boolean(), "2", "! is not a truth value"),
        (pl.Date(), "2024-02-29", date(2024, 2, 29)),
        (pl.Date(), "0001-01-01", date(1, 1, 1)),
        (pl.Date(), "9999-12-31", date(9999, 12, 31)),
        (pl.Date(), "2023-02-29", "! is not a date"),
        (pl.Date(), "24-01-31", "! is not a date"),
        (pl.Date(), "0024-01-31", date(24, 1, 31)),
        (pl.Date(), "0000-01-01", "! lies outside the years"),
        (pl.Date(), "+12000-01-01", "! lies outside the years"),
        (pl.Time(), "23:59:59.999999", time(23, 59, 59, 999999)),
        (pl.Time(), "12:00", time(12)),
        (pl.Time(), "9:05", time(9, 5)),
        (pl.Time(), "12", "! is not a time of day"),
        (pl.Time(), "24:00:00", "! is not a time of day"),
        (pl.Time(), "24:00", "! is not a time of day"),
        (pl.Time(), "12:00:00.1234567", "! is not a time of day"),
        (STAMP, "2024-01-31T12:00:00Z", NOON),
        (STAMP, "2024-01-31 12:00", NOON),
        (STAMP, "2024-01-31T14:00:00+02:00", NOON),
        (STAMP, "2024-01-31 07:00:00-05", NOON),
        (STAMP, "2024-01-31", NOON.replace(hour=0)),
        (STAMP, "2024-01-31T12:00:00.000000000Z", NOON),
        (STAMP, "2024-01-31T12:00:00.0000001Z", "! is not a time such as"),
        (STAMP, "9999-12-31T23:59:59.999999Z", LAST),
        (STAMP, "9999-12-31T23:59:59-01:00", "! lies outside the years"),
        (STAMP, "0000-12-31T23:59:59Z", "! lies outside the years"),
        (STAMP, "infinity", "! is not a time such as"),
        (STAMP, "31.01.2024", "! is not a time such as"),
        (STAMP, "24-01-31", "! is not a time such as"),
        (STAMP, "24-01-31T12:00:00Z", "! is not a time such as"),
        (STAMP, "0024-01-31T12:00:00Z", NOON.replace(year=24)),
        (STAMP, "1000-01-01T00:00:00+02:00", datetime(999, 12, 31, 22, tzinfo=UTC)),
        (NAIVE, "2024-01-31 12:00:00", NOON.replace(tzinfo=None)),
        (NAIVE, "2024-01-31 12:00:00Z", "! is not a time such as"),
        (NAIVE, "24-01-31 12:00", "! is not a time such as"),
        (TEXT, "ünïcödé \U0001f600", "ünïcödé \U0001f600"),
        (TEXT, "a\0b", "! holds a NUL byte"),
        (BYTES, "a\0b", b"a\0b"),
        (BYTES, r"\x00ff48", b"\x00\xffH"),
        (BYTES, r"\x00FF", b"\x00\xff"),
        (BYTES, r"\x", b""),
        (BYTES, r"\x00f", "! begins with"),
        (BYTES, r"\xyz", "! begins with"),
        (BYTES, r"a\x00", rb"a\x00"),
    ],
    ids=str,
)
def test_text_is_read_strictly(target: pl.DataType, text: str, expected: Any) -> None:
    found = outcome([None, text, None], pl.String, target)
    assert found[0] is None
    assert found[2] is None
    if isinstance(expected, str) and expected.startswith("!"):
        assert str(found[1]).startswith(expected)
    else:
        assert same(found[1], expected)


@pytest.mark.parametrize(
    ("source", "target", "good", "bad"),
    [
        (pl.Int64, FLOAT, [2**53, -1], [2**53 + 1, 2**63 - 1]),
        (pl.Float64, INT, [1.0, -0.0, 2.0**62], [1.5, NAN, INF, 2.0**63, 1e300]),
        (pl.Float64, pl.Float32(), [0.1, INF, 1e38, -0.0], [1e39, -1e300, 1e-50]),
        (pl.Int64, pl.Int32(), [2**31 - 1], [2**31, -(2**31) - 1]),
        (pl.Int64, pl.UInt8(), [255, 0], [256, -1]),
        (pl.UInt64, INT, [2**63 - 1], [2**63]),
        (pl.Int64, MONEY, [10**10 - 1], [10**10]),
        (pl.Float64, MONEY, [0.1, 2.5], [1.005, NAN, INF, 1e30]),
        (pl.Decimal(38, 3), MONEY, [Decimal("1.01")], [Decimal("1.005"), Decimal(10**11)]),
        (pl.Int64, pl.Boolean(), [0, 1], [2, -1]),
        (pl.Boolean, INT, [True, False], []),
        (
            pl.Datetime("us"),
            pl.Date(),
            [datetime(2024, 1, 1)],  # noqa: DTZ001
            [datetime(2024, 1, 1, 0, 0, 1)],  # noqa: DTZ001
        ),
        (pl.Binary, TEXT, [b"ok", "ü".encode()], [b"\xff", b"a\xc3", b"a\0b"]),
        (pl.Binary, INT, [b"5"], [b"\xff", b"x"]),
    ],
    ids=str,
)
def test_a_value_that_another_type_would_change_is_told_apart(
    source: Any, target: pl.DataType, good: list[Any], bad: list[Any]
) -> None:
    found = outcome([None, *good, *bad], source, target)
    told = [isinstance(value, str) and value.startswith("! ") for value in found]
    assert told == [False] * (1 + len(good)) + [True] * len(bad)


@pytest.mark.parametrize(
    ("physical", "dtype", "target", "told"),
    [
        ([1_000, 1_500], pl.Datetime("ns"), STAMP, [False, True]),
        ([1, 2**62], pl.Datetime("ms"), STAMP, [False, True]),
        ([1_000, 1_500], pl.Time(), pl.Time(), [False, True]),
        ([0, 2**62], STAMP, STAMP, [False, True]),
        ([2**63 - 1, -(2**63) + 1], NAIVE, NAIVE, [True, True]),
    ],
)
def test_a_time_that_postgres_cannot_hold_is_told_apart(
    physical: list[int], dtype: pl.DataType, target: pl.DataType, told: list[bool]
) -> None:
    done = cast(pl.Series("c", physical, dtype=pl.Int64).cast(dtype), target)
    bad = [any(mask[i] for _, mask, _ in done.problems) for i in range(len(physical))]
    assert bad == told


@pytest.mark.parametrize(
    ("dtype", "scale", "value", "expected"),
    [
        (pl.Float64, 18, 0.07, "0.07"),
        (pl.Float64, 18, 598431.19, "598431.19"),
        (pl.Float64, 10, 598431.19, "598431.19"),
        (pl.Float64, 2, 97734019406575.23, "97734019406575.23"),
        (pl.Float64, 2, 4503599627370498.0, "4503599627370498"),
        (pl.Float64, 2, 35558695953310.27, "35558695953310.27"),
        (pl.Float64, 10, 1.5e-7, "0.00000015"),
        (pl.Float64, 2, 1e20, "100000000000000000000"),
        (pl.Float64, 2, -0.0, "0"),
        (pl.Float32, 18, 0.1, "0.1"),
    ],
)
def test_a_float_becomes_the_shortest_decimal_that_names_it(
    dtype: Any, scale: int, value: float, expected: str
) -> None:
    assert outcome([value], dtype, pl.Decimal(38, scale)) == [Decimal(expected)]


def test_bytes_in_a_file_of_text_are_read_as_postgres_writes_them_and_others_are_not() -> None:
    given = [b"\\x00ff", b"\\xq", b"\xff", b"text", None]
    values = pl.Series(given, dtype=pl.Binary)
    done = cast(values, pl.Binary(), written=True)
    assert done.series.to_list() == [b"\x00\xff", None, b"\xff", b"text", None]
    assert [bad.to_list() for _, bad, _ in done.problems] == [[False, True, False, False, False]]
    assert values.to_list() == cast(values, pl.Binary()).series.to_list() == given


def test_times_of_another_zone_are_the_same_moments_in_utc() -> None:
    berlin = pl.Series([NOON]).dt.convert_time_zone("Europe/Berlin")
    assert cast(berlin, STAMP).series.to_list() == [NOON]
    assert not cast(berlin, STAMP).problems


@pytest.mark.parametrize(
    ("series", "target"),
    [
        (pl.Series([[1]]), INT),
        (pl.Series([{"a": 1}]), TEXT),
        (pl.Series([NOON]), NAIVE),
        (pl.Series([timedelta(1)]), TEXT),
    ],
)
def test_there_is_no_way_between_some_types(series: pl.Series, target: pl.DataType) -> None:
    with pytest.raises(pl.exceptions.PolarsError):
        cast(series, target)


TEXTS, INTS = pl.List(pl.String), pl.List(pl.Int16)
BAD_ARRAY = "! is not an array such as {1,2} or [1, 2]"


@pytest.mark.parametrize(
    ("target", "text", "expected"),
    [
        (INTS, "{}", []),
        (INTS, " [ ] ", []),
        (INTS, "{1,NULL, -2 }", [1, None, -2]),
        (INTS, "[1, null,-2]", [1, None, -2]),
        (
            INTS,
            "{1,40000}",
            "! has an element that does not fit a whole number (Int16) without loss",
        ),
        (INTS, "{1,}", BAD_ARRAY),
        (INTS, "{{1},{2}}", BAD_ARRAY),
        (INTS, "[[1]]", BAD_ARRAY),
        (INTS, "1,2", BAD_ARRAY),
        (INTS, "", BAD_ARRAY),
        (TEXTS, r"""{a b,"c,\"}\\","NULL",null,""}""", ["a b", 'c,"}\\', "NULL", None, ""]),
        (
            TEXTS,
            r"""["a\n\u00e9", "\ud83d\ude00", "null", null, 1.50, true]""",
            ["a\né", "\U0001f600", "null", None, "1.50", "true"],
        ),
        (TEXTS, r"""["\ud83d"]""", BAD_ARRAY),
        (TEXTS, r"""["\u0000"]""", BAD_ARRAY),
        (TEXTS, "{'a}", ["'a"]),
        (TEXTS, '{"a}', BAD_ARRAY),
        (TEXTS, "{a\nb}", ["a\nb"]),
        (pl.List(pl.Float64), "[1.5, -Infinity, Infinity,null]", [1.5, -INF, INF, None]),
        (pl.List(pl.Float64), "{1.5,-Infinity,Infinity,NULL}", [1.5, -INF, INF, None]),
        (INTS, "[Infinity]", "! has an element that is not a whole number (Int16)"),
        (pl.List(STAMP), "{2024-01-31T12:00:00Z}", [NOON]),
        (pl.List(pl.Boolean), "{t,f,NULL}", [True, False, None]),
    ],
    ids=str,
)
def test_an_array_is_read_as_psql_or_json_writes_it(
    target: pl.DataType, text: str, expected: Any
) -> None:
    assert outcome([None, text, "{}"], pl.String, target) == [None, expected, []]


@pytest.mark.parametrize(
    ("source", "target", "good", "bad"),
    [
        (pl.List(pl.Int64), INTS, [[1, None], [], [2**15 - 1]], [[1, 2**15], [2**40]]),
        (pl.Array(pl.Int64, 2), INTS, [[1, None]], [[1, 2**15]]),
        (pl.List(pl.Binary), TEXTS, [[b"a", None]], [[b"a", b"\xff"], [b"\0"]]),
        (pl.List(pl.Float64), pl.List(pl.Int64), [[1.0]], [[1.5], [NAN]]),
        (pl.String, pl.Enum(["a", "b"]), ["a", "b"], ["A", "a ", ""]),
        (pl.Categorical, pl.Enum(["a", "b"]), ["a"], ["c"]),
        (pl.Binary, pl.Enum(["a", "ü"]), ["ü".encode()], [b"c", b"\xff"]),
    ],
    ids=str,
)
def test_each_element_and_label_is_judged(
    source: Any, target: pl.DataType, good: list[Any], bad: list[Any]
) -> None:
    found = outcome([None, *good, *bad], source, target)
    told = [isinstance(value, str) and value.startswith("! ") for value in found]
    assert told == [False] * (1 + len(good)) + [True] * len(bad)


@pytest.mark.parametrize(
    ("literal", "source", "value", "expected"),
    [
        ("numeric", pl.Int64, 5, "5"),
        ("numeric", pl.Decimal(10, 3), Decimal("1.500"), "1.500"),
        ("numeric", pl.Float64, 1e300, "1" + "0" * 300),
        ("numeric", pl.Float64, NAN, "NaN"),
        ("interval", pl.Duration("us"), timedelta(days=-1), "0 months 0 days -86400000000 micros"),
        ("interval", pl.Duration("ms"), timedelta(seconds=1), "0 months 0 days 1000000 micros"),
        ("uuid", pl.Array(pl.UInt8, 16), [1] * 16, "01010101-0101-0101-0101-010101010101"),
        ("uuid", pl.Binary, b"0123456789abcdef", "! is not a uuid"),
        ("json", pl.Binary, b"[1]", "[1]"),
        ("json", pl.Binary, b"\xff", "! is not valid UTF-8"),
        ("jsonb", pl.Null, None, None),
    ],
    ids=str,
)
def test_other_types_become_text_of_a_type_that_polars_has_not(
    literal: str, source: Any, value: Any, expected: Any
) -> None:
    found = outcome([None, value], source, pl.String(), literal)
    assert found[0] is None
    assert found[1] == expected or str(found[1]).startswith(expected)


def test_a_duration_finer_than_a_microsecond_is_told_apart() -> None:
    done = cast(pl.Series([1_000, 1_500], dtype=pl.Duration("ns")), pl.String(), "interval")
    assert [(why, bad.to_list()) for why, bad, _ in done.problems] == [
        ("is finer than a microsecond", [False, True])
    ]


@pytest.mark.parametrize(
    ("source", "literal"), [(pl.Int64, "uuid"), (pl.Boolean, "jsonb"), (pl.Float64, "interval")]
)
def test_there_is_no_way_from_some_types_to_text_of_another(source: Any, literal: str) -> None:
    with pytest.raises(pl.exceptions.InvalidOperationError, match=literal):
        cast(pl.Series([1], dtype=pl.Int64).cast(source), pl.String(), literal)


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_any_whole_number_survives_as_text(numbers: list[int]) -> None:
    assert outcome([str(n) for n in numbers], pl.String, INT) == numbers


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_a_whole_number_is_a_float_only_where_it_is_the_same_number(numbers: list[int]) -> None:
    for number, found in zip(numbers, outcome(numbers, pl.Int64, FLOAT), strict=True):
        exact = float(number) == number and -(2**63) <= float(number) < 2**63
        assert found == float(number) if exact else str(found).startswith("! ")


@given(st.lists(st.floats()))
def test_a_float_is_a_whole_number_only_where_it_is_the_same_number(numbers: list[float]) -> None:
    for number, found in zip(numbers, outcome(numbers, pl.Float64, INT), strict=True):
        exact = number.is_integer() and -(2.0**63) <= number < 2.0**63
        assert found == number if exact else str(found).startswith("! ")


@given(st.lists(st.floats()))
def test_any_float_survives_as_text(numbers: list[float]) -> None:
    found = outcome([repr(n) for n in numbers], pl.String, FLOAT)
    assert [repr(f) for f in found] == [repr(n) for n in numbers]


@given(st.lists(st.decimals(-(10**10) + 1, 10**10 - 1, places=2)))
def test_any_decimal_that_fits_survives_as_text(numbers: list[Decimal]) -> None:
    assert outcome([f"{n:f}" for n in numbers], pl.String, MONEY) == numbers


@given(
    st.lists(
        st.datetimes(
            datetime(1, 1, 2),  # noqa: DTZ001
            datetime(9999, 12, 30),  # noqa: DTZ001
            timezones=st.timezones(),
            allow_imaginary=False,
        )
    )
)
def test_any_time_with_a_zone_survives_as_text(moments: list[datetime]) -> None:
    whole = [m for m in moments if m.utcoffset() % timedelta(minutes=1) == timedelta(0)]  # type: ignore[operator]
    # In UTC: to Python a moment of an hour that comes twice equals none of another zone.
    moments = [m.astimezone(UTC) for m in whole]
    assert outcome([m.isoformat() for m in whole], pl.String, STAMP) == moments


@given(st.lists(st.binary()))
def test_bytes_are_text_only_where_they_are_utf_8_without_nul(values: list[bytes]) -> None:
    for value, found in zip(values, outcome(values, pl.Binary, TEXT), strict=True):
        try:
            text = value.decode()
        except UnicodeDecodeError:
            assert str(found) == "! is not valid UTF-8"
        else:
            assert found == text or ("\0" in text and str(found).startswith("! holds a NUL"))


DIGITS = st.from_regex(
    r"[ ]?[-+]?[0-9]{0,7}\.?[0-9]{0,4}([eE][-+]?[0-9]{0,2})?[ ]?", fullmatch=True
)


@given(st.sampled_from([(5, 2), (4, 0), (3, 3), (38, 10)]), DIGITS)
def test_a_decimal_is_what_its_digits_say_whatever_is_beside_it(
    size: tuple[int, int], text: str
) -> None:
    target = pl.Decimal(*size)
    problem = f"! is not a number ({target})"
    try:
        number = Decimal(text.strip())
        problem = f"! does not fit a number ({target}) without loss"
        exact = number.quantize(Decimal(1).scaleb(-size[1]), context=Context(prec=200))
        fits = exact == number and abs(exact) < 10 ** (size[0] - size[1])
    except InvalidOperation:
        fits = False
    for beside in ([], ["bad"]):
        found = outcome([text, *beside], pl.String, target)[0]
        assert found == (exact if fits else problem)
