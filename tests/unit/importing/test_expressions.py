"""Expressions of a source become SQL of PostgreSQL, or are refused."""

from __future__ import annotations

import pytest

from lakebed.importing.expressions import UntranslatableError, translate
from lakebed.importing.statements import short_name

NAMES = {"a": "A", "open": "open"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A > 1 and [a] <> 'x;y'", '"A" > 1 AND "A" <> \'x;y\''),
        ("open in (0, 1)", '"open" IN (FALSE, TRUE)'),
        ('a = "plain text"', "\"A\" = 'plain text'"),
        ("coalesce(a, 'it''s')", "COALESCE(\"A\", 'it''s')"),
    ],
)
def test_columns_get_their_names_and_constants_stay(text: str, expected: str) -> None:
    assert translate(text, "sqlite", NAMES, {"open"}) == expected


@pytest.mark.parametrize(
    "text",
    [
        "(select 1)",
        "a in (select 1)",
        "pg_sleep(9)",
        "sum(a)",
        "b > 1",
        "1, 2",
        "1 from a",
        "1; drop table x",
        "?",
    ],
)
def test_what_has_no_sure_translation_is_refused(text: str) -> None:
    with pytest.raises(UntranslatableError):
        translate(text, "sqlite", NAMES)


def test_a_long_name_is_cut_and_stays_one_of_its_own() -> None:
    first, second = (short_name("é" * 40 + end) for end in "ab")
    assert first != second
    assert len(first.encode()) <= 63
    assert short_name("short") == "short"
