"""What an example of a group of rejects may show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakebed.ingest.reject_groups import redacted
from lakebed.spec.table import Mapped, TableError
from tests.tables.readings import readings


def test_an_example_does_not_show_what_the_table_redacts() -> None:
    table = replace(readings, redact=("sensor",))
    shown = redacted(table, {"sensor": "Jane", "value": 1})
    assert shown == '{"sensor": "***", "value": 1}'
    assert redacted(readings, {"sensor": "Jane"}) == '{"sensor": "Jane"}'


def test_a_redacted_column_is_hidden_by_the_name_that_it_has_in_the_source() -> None:
    table = replace(readings, redact=("sensor",), transforms={"sensor": Mapped("who")})
    assert redacted(table, {"who": "Jane"}) == '{"who": "***"}'


def test_a_line_that_was_no_row_is_hidden_where_anything_is() -> None:
    assert redacted(replace(readings, redact=("sensor",)), {"line": "x;Jane"}) == '{"line": "***"}'
    assert redacted(readings, {"line": "x"}) == '{"line": "x"}'


def test_redact_names_columns_of_the_model() -> None:
    with pytest.raises(TableError, match="redact: the model has no column 'nobody'"):
        replace(readings, redact=("nobody",))
