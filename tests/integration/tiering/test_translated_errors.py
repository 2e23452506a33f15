"""A server whose messages are in another language: moves that meet other writers try again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import duckdb
import psycopg
import pytest

from lakebed.errors import TieringError
from lakebed.resources.sqlstate import UNKNOWN
from lakebed.schema.ddl import ensure_partition_tables, ensure_table
from lakebed.spec.partitions import Grain, window_for_key
from lakebed.store.platform import Platform, open_platform
from tests.conftest import open_folder, settings_for
from tests.support.debian import debian_server, speaks
from tests.support.processes import move_key
from tests.support.tiers import do

pytestmark = pytest.mark.skipif(
    not speaks("de"), reason="Debian's postgresql-15 with its German messages is not installed"
)

ROLES = {"postgres": False, "granted": False, "plain": True}
"""Whether PostgreSQL translates what it says to DuckDB's sessions of the role."""


@pytest.fixture(scope="module")
def german() -> Iterator[str]:
    with open_folder() as folder, debian_server(folder, language="de") as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for role in ("granted", "plain"):
                connection.execute(f"create role {role} login".encode())
            connection.execute("grant set on parameter lc_messages to granted")
        yield url


@pytest.fixture(params=ROLES)
def filled(german: str, tmp_path: Path, request: pytest.FixtureRequest) -> Platform:
    role, database = request.param, f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(german, autocommit=True) as connection:
        connection.execute(f"create database {database} owner {role}".encode())
    parts = urlsplit(german)
    netloc = parts.netloc.replace("postgres@", f"{role}@")
    url = urlunsplit(parts._replace(netloc=netloc, path=f"/{database}"))
    platform = open_platform(settings_for(tmp_path, url))
    table = platform.table("readings")
    with platform.postgres.connect(autocommit=True) as connection:
        ensure_table(connection, table)
        ensure_partition_tables(connection, table, [window_for_key(Grain.MONTH, "2024-02")])
        connection.execute(
            "insert into readings select '2024-02-01Z'::timestamptz + i * interval '1 s', 'a', i, i"
            " from generate_series(1, 100) i"
        )
    assert platform.postgres.translates is ROLES[role]
    return platform


def test_a_row_changed_during_the_move_makes_it_start_again(filled: Platform) -> None:
    steps: list[str] = []

    def write(step: str) -> None:
        steps.append(step)
        if steps.count("copied") == 1 and step == "copied":
            do(filled, "delete from readings where number = 7")

    assert move_key(filled, "readings", "2024-02", on_step=write).moved == 99
    assert steps.count("copied") == 2


def test_what_cannot_succeed_ends_with_what_postgresql_says(filled: Platform) -> None:
    do(
        filled,
        "create function no() returns trigger language plpgsql as"
        " $$ begin raise exception 'hands off'; end $$",
        "create trigger no before delete on readings for each row execute function no()",
    )
    with pytest.raises(TieringError, match="hands off"):
        move_key(filled, "readings", "2024-02")


def test_an_error_of_postgresql_has_its_sqlstate(filled: Platform) -> None:
    with (
        filled.postgres.connect() as other,
        filled.lake.attached(read_only=False) as connection,
    ):
        other.execute("lock table readings in access exclusive mode")
        connection.execute("begin")  # one session of PostgreSQL for both
        connection.execute("call postgres_execute('pg', 'set local lock_timeout = 50')")
        with pytest.raises(duckdb.Error) as caught:
            connection.execute("from postgres_query('pg', 'select * from readings')")
    expected = UNKNOWN if filled.postgres.translates else "55P03"
    assert filled.lake.sqlstate(caught.value) == expected
