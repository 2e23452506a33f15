"""The schema `lakebed` and the tables: made once, compared afterwards, never altered silently."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import pandera.polars as pa
import polars as pl
import psycopg
import pytest

from lakebed.ingest.load import load_table
from lakebed.resources.postgres import (
    BASELINE,
    MIGRATIONS,
    MigrationError,
    Postgres,
    PostgresUnavailableError,
    UnreleasedSchemaError,
    migrate,
)
from lakebed.resources.settings import Settings
from lakebed.schema.ddl import DriftError, ensure_partition_tables, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, ParquetFiles, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform
from tests.conftest import Server, settings_for
from tests.support.catalog import catalog_of


class Model(pa.DataFrameModel):
    """It's a table; with "quotes"."""

    at: Annotated[pl.Datetime, "us", "UTC"] = pa.Field(description="when; it's UTC")
    weird: str = pa.Field(alias='Weird "Name"', nullable=True, description="ünïcödé")
    select: pl.Int64
    year: pl.Int32 = pa.Field(nullable=True)
    amount: Annotated[pl.Decimal, 12, 2] = pa.Field(nullable=True)


def table(**fields: object) -> SourceTable:
    given = {
        "name": "things",
        "model": Model,
        "partitioning": Partitioning(
            column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
        ),
        "tiering": Tiering(hot_for=timedelta(days=30)),
    }
    return SourceTable(**given | fields)  # type: ignore[arg-type]


def copied_migrations(folder: Path) -> Path:
    for file in MIGRATIONS.glob("*.sql"):
        (folder / file.name).write_text(file.read_text())
    return folder


@pytest.fixture
def connection(settings: Settings) -> psycopg.Connection:
    with Postgres(settings).connect(autocommit=True) as connection:
        yield connection


def test_migrations_run_once_each(server: Server) -> None:
    name = server.create()
    with psycopg.connect(server.url_of(name), autocommit=True) as connection:
        assert migrate(connection) == sorted(file.name for file in MIGRATIONS.glob("*.sql"))
        assert migrate(connection) == []
    server.drop(name)


def test_processes_that_migrate_at_once_do_not_disturb_each_other(server: Server) -> None:
    name = server.create()

    def run(_: int) -> list[str]:
        with psycopg.connect(server.url_of(name), autocommit=True) as connection:
            return migrate(connection)

    with ThreadPoolExecutor(4) as pool:
        ran = list(pool.map(run, range(4)))
    assert sorted(map(len, ran))[:3] == [0, 0, 0]
    assert max(map(len, ran)) == len(list(MIGRATIONS.glob("*.sql")))
    server.drop(name)


def test_a_migration_that_was_changed_after_it_ran_is_refused(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    later = copied_migrations(tmp_path) / "002_later.sql"
    later.write_text("create table lakebed.later (a int)")
    assert migrate(connection, tmp_path) == [later.name]
    later.write_text("create table lakebed.later (a bigint)")
    with pytest.raises(MigrationError, match=r"002_later\.sql was changed"):
        migrate(connection, tmp_path)


def test_a_baseline_that_was_changed_is_another_schema(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    baseline = copied_migrations(tmp_path) / BASELINE
    baseline.write_text(baseline.read_text() + "-- a word more\n")
    with pytest.raises(UnreleasedSchemaError, match="Recreate the home"):
        migrate(connection, tmp_path)


def test_a_home_from_before_the_baseline_is_refused_and_left_as_it_is(server: Server) -> None:
    name = server.create()
    with psycopg.connect(server.url_of(name), autocommit=True) as connection:
        connection.execute("create schema lakebed")
        connection.execute(
            "create table lakebed.migration (name text primary key, sha256 text not null,"
            " applied_at timestamptz not null default now())"
        )
        connection.execute("insert into lakebed.migration values ('001_lakebed.sql', 'x', now())")
        before = catalog_of(connection)
        with pytest.raises(UnreleasedSchemaError, match=name):
            migrate(connection)
        assert catalog_of(connection) == before
    server.drop(name)


def test_a_fresh_schema_is_the_baseline_with_the_later_migrations(
    server: Server, tmp_path: Path
) -> None:
    """Nobody has another schema for having been there earlier."""
    (tmp_path / BASELINE).write_text((MIGRATIONS / BASELINE).read_text())
    catalogs = []
    for steps in ([MIGRATIONS], [tmp_path, MIGRATIONS]):
        name = server.create()
        with psycopg.connect(server.url_of(name), autocommit=True) as connection:
            for folder in steps:
                migrate(connection, folder)
            catalogs.append(catalog_of(connection))
            connection.execute("comment on table lakebed.load is 'another'")
            assert catalog_of(connection) != catalogs[-1], "a difference is seen"
        server.drop(name)
    assert catalogs[0] == catalogs[1]
    assert sum(line.startswith("table lakebed.") for line in catalogs[0]) > 20


def test_a_database_ahead_of_this_version_is_refused(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match=r"does not know.*install the version"):
        migrate(connection, tmp_path)


def test_a_migration_that_fails_leaves_nothing_behind(
    connection: psycopg.Connection, tmp_path: Path
) -> None:
    for file in MIGRATIONS.glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "999_bad.sql").write_text("create table lakebed.half (a int); select 1 / 0;")
    with pytest.raises(psycopg.errors.DivisionByZero):
        migrate(connection, tmp_path)
    assert connection.execute("select to_regclass('lakebed.half')").fetchone() == (None,)
    assert connection.execute("select pg_try_advisory_lock(1)").fetchone() == (True,)


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, "postgresql://me:s3cret@127.0.0.1:1/app")
    with pytest.raises(PostgresUnavailableError) as caught:
        Postgres(settings).connect()
    text = str(caught.value)
    assert "cannot reach PostgreSQL at 127.0.0.1:1/app" in text
    assert "LAKEBED_POSTGRES_URL" in text
    assert "s3cret" not in text
    assert caught.value.__cause__ is None


def test_a_sibling_database_is_made_once(settings: Settings) -> None:
    postgres = Postgres(settings)
    url = postgres.sibling_url("dagster", "postgresql+psycopg2")
    assert url == postgres.sibling_url("dagster", "postgresql+psycopg2")
    assert url.startswith("postgresql+psycopg2://")
    plain = url.replace("+psycopg2", "")
    with psycopg.connect(plain) as connection:
        assert connection.info.dbname.endswith("_dagster")


def test_a_table_is_made_as_its_contract_says_with_comments(connection: psycopg.Connection) -> None:
    ensure_table(connection, table())
    ensure_table(connection, table())
    columns = connection.execute(
        "select attname, format_type(atttypid, atttypmod), attnotnull,"
        " col_description(attrelid, attnum) from pg_attribute"
        " where attrelid = 'things'::regclass and attnum > 0 order by attnum"
    ).fetchall()
    assert columns == [
        ("at", "timestamp with time zone", True, "when; it's UTC"),
        ('Weird "Name"', "text", False, "ünïcödé"),
        ("select", "bigint", True, None),
        ("year", "integer", False, None),
        ("amount", "numeric(12,2)", False, None),
    ]
    comment = connection.execute("select obj_description('things'::regclass)").fetchone()
    assert comment == ('It\'s a table; with "quotes".',)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("drop column year", "column year is missing (integer)"),
        ("alter select type integer", "column select is integer, the contract says bigint"),
        ("alter year set not null", "column year is NOT NULL, the contract lets it be null"),
        ("add extra int not null", "column extra is NOT NULL"),
        ("alter amount type numeric(13,2)", "column amount is numeric(13,2)"),
    ],
)
def test_a_table_that_differs_from_its_contract_is_refused_with_the_difference(
    connection: psycopg.Connection, change: str, difference: str
) -> None:
    ensure_table(connection, table())
    connection.execute(
        f"alter table things {change.replace('select', chr(34) + 'select' + chr(34))}"
    )
    with pytest.raises(DriftError) as caught:
        ensure_table(connection, table())
    assert difference in str(caught.value)


def test_a_merge_table_without_its_key_is_refused(connection: psycopg.Connection) -> None:
    ensure_table(connection, table())
    with pytest.raises(DriftError, match="key"):
        ensure_table(connection, table(key=("at", "select"), write_mode="merge"))


def test_a_column_that_others_added_is_let_be(
    connection: psycopg.Connection, platform_of: Callable[..., Platform]
) -> None:
    loaded = table(source=ParquetFiles(glob="*.parquet"))
    ensure_table(connection, loaded)
    ensure_partition_tables(connection, loaded, [window_for_key(Grain.MONTH, "2024-01")])
    connection.execute("alter table things add extra int default 7")
    connection.execute("insert into things (at, \"select\", extra) values ('2024-01-01Z', 1, 8)")
    platform = platform_of(loaded)
    rows = {"at": datetime(2024, 2, 1, tzinfo=UTC), 'Weird "Name"': "", "select": 2}
    frame = pl.DataFrame([rows | {"year": None, "amount": None}])
    frame.write_parquet(platform.settings.data / "1.parquet")
    report = load_table(platform.settings, platform.postgres, platform.clock, loaded)
    assert (report.inserted, report.refused) == (1, ())
    found = connection.execute('select "select", extra from things order by 1').fetchall()
    assert found == [(1, 8), (2, 7)]


def test_leaves_are_made_once_and_hold_their_window(connection: psycopg.Connection) -> None:
    ensure_table(connection, table())
    windows = [window_for_key(Grain.MONTH, key) for key in ("2024-02", "2024-01", "2024-02")]
    assert ensure_partition_tables(connection, table(), windows) == 2
    assert ensure_partition_tables(connection, table(), windows) == 0
    connection.execute(
        "insert into things values ('2024-01-01 00:00Z', '', 1), ('2024-01-31 23:59:59.999999Z',"
        " '', 2), ('2024-02-01 00:00Z', '', 3)"
    )
    assert connection.execute("select count(*) from things_2024_01").fetchone() == (2,)
    with pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("insert into things values ('2024-03-01 00:00Z', '', 1)")


def test_a_leaf_is_made_while_somebody_reads_and_somebody_writes(
    connection: psycopg.Connection, settings: Settings
) -> None:
    keyed = table(key=("at", "select"))
    ensure_table(connection, keyed)
    ensure_partition_tables(connection, keyed, [window_for_key(Grain.MONTH, "2024-01")])
    with Postgres(settings).connect() as other:
        other.execute("select * from things")
        other.execute("insert into things values ('2024-01-05 00:00Z', '', 1)")
        assert (
            ensure_partition_tables(connection, keyed, [window_for_key(Grain.MONTH, "2024-02")])
            == 1
        )
    keys = connection.execute(
        "select count(*) from pg_index where indrelid = 'things_2024_02'::regclass and indisprimary"
    )
    assert keys.fetchone() == (1,)


def test_a_table_that_has_the_name_of_a_leaf_is_not_mistaken_for_it(
    connection: psycopg.Connection,
) -> None:
    ensure_table(connection, table())
    connection.execute("create table things_2024_01 (a int)")
    with pytest.raises(DriftError, match=r"things_2024_01 exists and is not a partition"):
        ensure_partition_tables(connection, table(), [window_for_key(Grain.MONTH, "2024-01")])


def test_a_table_of_others_that_is_not_partitioned_gets_no_leaf(
    connection: psycopg.Connection, platform_of: Callable[..., Platform]
) -> None:
    connection.execute(
        'create table things ("at" timestamptz, "Weird ""Name""" text, "select" bigint,'
        " year int, amount numeric(12,2))"
    )
    ensure_table(connection, table())
    assert (
        ensure_partition_tables(connection, table(), [window_for_key(Grain.MONTH, "2024-01")]) == 0
    )
