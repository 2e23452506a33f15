"""Which rule a reject names, and what an example may show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakebed.ingest.reject_groups import redacted, rule_of, without_values
from lakebed.spec.table import From, TableError
from tests.tables.readings import readings


@pytest.mark.parametrize(
    ("why", "kind", "check"),
    [
        ("value: breaks the rule in_range(0, 10)", "values", "in_range(0, 10)"),
        ("value: breaks the rule not_nullable", "required", "not_nullable"),
        ("breaks the rule adds_up", "values", "adds_up"),
        ("number: does not fit whole number", "types", "does not fit whole number"),
        ("a line that is no JSON object", "types", "a line that is no JSON object"),
        ("breaks the constraint positive: (x > 0)", "constraints", "positive"),
        (
            'new row for relation "t" violates check constraint "positive"',
            "constraints",
            "positive",
        ),
        ("country: no row of countries has it", "constraints", "no row of countries has it"),
        (
            "at: before the table's start, 2024-01-01T00:00:00+00:00",
            "values",
            "before the table's start, 2024-01-01T00:00:00+00:00",
        ),
        ("a: breaks the rule x; b: breaks the rule not_nullable", "values", "x"),
    ],
)
def test_the_first_reason_names_the_rule(why: str, kind: str, check: str) -> None:
    assert rule_of(why) == (kind, check)


def test_an_example_does_not_show_what_the_table_redacts() -> None:
    table = replace(readings, redact=("sensor",))
    shown = redacted(table, {"sensor": "Jane", "value": 1})
    assert shown == '{"sensor": "***", "value": 1}'
    assert redacted(readings, {"sensor": "Jane"}) == '{"sensor": "Jane"}'


def test_a_redacted_column_is_hidden_by_the_name_that_it_has_in_the_source() -> None:
    table = replace(readings, redact=("sensor",), shape={"sensor": From("who")})
    assert redacted(table, {"who": "Jane"}) == '{"who": "***"}'


def test_a_line_that_was_no_row_is_hidden_where_anything_is() -> None:
    assert redacted(replace(readings, redact=("sensor",)), {"line": "x;Jane"}) == '{"line": "***"}'
    assert redacted(readings, {"line": "x"}) == '{"line": "x"}'


def test_redact_names_columns_of_the_model() -> None:
    with pytest.raises(TableError, match="redact: 'nobody' is no column of the model"):
        replace(readings, redact=("nobody",))


@pytest.mark.parametrize(
    "reason",
    [
        "qty: does not fit whole number (it is '7 pcs')",
        "qty: does not fit whole number ('qty' is '7', 'unit' is 'pcs')",
        "qty: does not fit whole number ('qty' is 'a\nb'); id: breaks the rule x (it is 1)",
        "qty: does not fit whole number (a constant)",
    ],
)
def test_a_reason_without_its_values_is_alike_for_a_group(reason: str) -> None:
    assert without_values(reason) == "qty: does not fit whole number"
