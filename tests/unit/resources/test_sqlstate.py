"""Which error of PostgreSQL it is that DuckDB passes on."""

from __future__ import annotations

import duckdb
import pytest

from lakebed.resources.sqlstate import UNKNOWN, sqlstate_of

COPY = 'Failed to prepare COPY "COPY (SELECT 1) TO STDOUT": '


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            'Failed to execute query "delete from t": ERROR:  could not serialize access due to '
            "concurrent update\n",
            "40001",
        ),
        (COPY + "ERROR:  deadlock detected\nDETAIL:  Process 1 waits", "40P01"),
        (
            'Binder Error: Failed to prepare query "select 1": ERROR:  canceling statement due to '
            "lock timeout\nLINE 1: select 1",
            "55P03",
        ),
        (
            "Failed to copy data: ERROR:  duplicate key value violates unique constraint "
            '"t_live"\nDETAIL:  Key (a)=(3) already exists.',
            "23505",
        ),
        ('Failed to execute query "select 1 / 0": ERROR:  division by zero', None),
        # Of a user's own text, or DuckDB's own.
        (
            "Failed to execute query \"select 'deadlock detected'\": ERROR:  division by zero",
            None,
        ),
        ("Invalid Input Error: could not serialize access", None),
        ("Catalog Error: Table with name t does not exist!", None),
    ],
)
def test_postgresql_s_own_texts_stand_for_their_sqlstate(text: str, state: str | None) -> None:
    assert sqlstate_of(duckdb.Error(text), translated=False) == state


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Failed to copy data: FEHLER:  Verklemmung entdeckt", UNKNOWN),
        ('Failed to execute query "select 1": ОШИБКА:  обнаружена взаимоблокировка', UNKNOWN),
        ("Catalog Error: Table with name t does not exist!", None),
    ],
)
def test_in_another_language_an_error_of_postgresql_is_unknown(
    text: str, state: str | None
) -> None:
    assert sqlstate_of(duckdb.Error(text), translated=True) == state
