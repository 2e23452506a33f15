"""Columns that are called like a word of SQL are named, so that their queries can be written."""

from __future__ import annotations

import duckdb
import pytest

from lakebed.resources.keywords import names_to_quote, quoting_note, reserved_words, unquoted

IN_QUERIES = (
    "select {} from t",
    "select sum({}) from t group by {}",
    "from t where {} > 1 order by {}",
    "select a, {} as b from t where a = 1 and {} is null",
    "select t.{} from t where t.{} in (1)",
)


def parses(query: str) -> bool:
    try:
        return bool(duckdb.extract_statements(query))
    except duckdb.ParserException:
        return False


def test_reserved_words_are_those_that_no_query_takes_bare() -> None:
    with duckdb.connect() as connection:
        words = connection.execute("select keyword_name from duckdb_keywords()").fetchall()
    taken = {word for (word,) in words if all(parses(q.replace("{}", word)) for q in IN_QUERIES)}
    assert {word for (word,) in words} - taken <= reserved_words()
    # These are taken for a value or a type, not for the column.
    assert {"default", "false", "null", "true"} <= reserved_words() & taken
    assert {"at", "end", "order"}.isdisjoint(taken)
    assert all(parses(q.replace("{}", f'"{w}"')) for q in IN_QUERIES for w in reserved_words())


def test_names_to_quote_keep_their_spelling_and_order() -> None:
    assert names_to_quote(["id", "AT", "value", "Order", "user", "time"]) == ["AT", "Order"]
    assert quoting_note(["id", "value"]) is None
    assert '"AT"' in str(quoting_note(["AT"]))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("select at from t", ["at"]),
        ('select AT from t -- "at"', ["at"]),
        ("select max(at), end from t", ["at"]),
        ("select x from t group by end", ["end"]),
        ("select x, 'äöü€😀' as y, at from t", ["at"]),
        ("select x from t order by at", ["at"]),
        ("select \"at\" from t where x = 'at' -- at", []),
        ("select whatever", []),
        ("select x y z from t order by x", []),
        ("select x from t where", []),
        ("select 'open", []),
        ("selec x from t", []),
    ],
)
def test_what_a_query_leaves_unquoted_is_found(text: str, found: list[str]) -> None:
    assert unquoted(text, ["id", "at", "end", "whatever", "select", "from"]) == found
