"""`lakebed plan` and `lakebed apply` on a real PostgreSQL: in short locks, all of it or nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pandera.polars as pa
import polars as pl
import psycopg
import pytest

import lakebed.resources.lake as lake_module
from lakebed.cli import main as cli
from lakebed.ingest.load import load_table
from lakebed.resources.postgres import LockWaitError
from lakebed.resources.session import LakeReadError
from lakebed.resources.settings import Settings
from lakebed.schema import plan as planner
from lakebed.schema.apply import ApplyError, apply_plan, read_plan
from lakebed.schema.ddl import DriftError, ensure_table
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import Grain, ParquetFiles, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform
from lakebed.tiering.move import move

NOW = datetime(2024, 7, 1, tzinfo=UTC)
BY_MONTH = Partitioning(column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC))


class Narrow(pa.DataFrameModel):
    """Old."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    n: pl.Int32
    share: pl.Float32 = pa.Field(nullable=True)
    odd: str = pa.Field(alias='Odd "Name"; --', nullable=True)


class Wide(pa.DataFrameModel):
    """New."""

    at: Annotated[pl.Datetime, "us", "UTC"]
    n: pl.Int64
    share: pl.Float64 = pa.Field(nullable=True, description='of %s it\'s "all"')
    odd: str = pa.Field(alias='Odd "Name"; --')
    more: Annotated[pl.Decimal, 9, 2] = pa.Field(nullable=True)


def table(model: type[pa.DataFrameModel] = Wide, **fields: Any) -> SourceTable:
    given = {
        "name": "things",
        "model": model,
        "source": ParquetFiles(glob="*.parquet"),
        "partitioning": BY_MONTH,
        "tiering": Tiering(hot_for=timedelta(days=1)),
    }
    return SourceTable(**given | fields)


def rows(*numbers: int, odd: str | None = "o") -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    return pl.DataFrame(
        {
            "at": [start + timedelta(hours=n) for n in numbers],
            "n": list(numbers),
            "share": [0.1] * len(numbers),
            'Odd "Name"; --': [odd] * len(numbers),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC"), "n": pl.Int32, "share": pl.Float32},
    )


def load(platform: Platform, frame: pl.DataFrame, name: str) -> int:
    frame.write_parquet(platform.settings.data / name)
    report = load_table(
        platform.settings, platform.postgres, platform.clock, platform.table("things")
    )
    assert report.refused == ()
    return report.inserted


@pytest.fixture
def connection(platform: Platform) -> Iterator[psycopg.Connection]:
    with platform.postgres.connect(autocommit=True) as connection:
        yield connection


def run(connection: psycopg.Connection, of: SourceTable, **options: Any) -> list[str]:
    """Plan and apply; return what was done."""
    plan = read_plan(connection, of, NOW)
    return [change.what for change in apply_plan(connection, of, plan, NOW, **options)]


def kinds(connection: psycopg.Connection) -> list[tuple[str, str, bool]]:
    return connection.execute(
        "select attname::text, format_type(atttypid, atttypmod), attnotnull from pg_attribute"
        " where attrelid = 'things'::regclass and attnum > 0 order by attnum"
    ).fetchall()


def constraints(connection: psycopg.Connection) -> list[Any]:
    return connection.execute(
        "select conname from pg_constraint where contype = 'c' and conrelid = 'things'::regclass"
    ).fetchall()


def test_a_table_is_widened_hot_and_cold_and_reads_the_same_before_and_after(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    before, after = platform_of(table(Narrow)), platform_of(table())
    assert load(before, rows(1, 2), "1.parquet") == 2
    january = window_for_key(Grain.MONTH, "2024-01")
    move(before.lake, before.table("things"), january)
    assert load(before, rows(3), "2.parquet") == 1

    def read(platform: Platform) -> list[Any]:
        with platform.lake.session() as session:
            return session.sql("select n, share, typeof(n) from things order by n").fetchall()

    tenth = pl.Series([0.1], dtype=pl.Float32).cast(pl.Float64)[0]
    expected = [(n, tenth, "BIGINT") for n in (1, 2, 3)]
    assert read(after) == expected
    with pytest.raises(DriftError, match=r"`lakebed plan things`.*`lakebed apply things`"):
        load(after, rows(4), "3.parquet")
    with pytest.raises(RuntimeError, match="`lakebed plan things`"):
        move(after.lake, after.table("things"), january)

    done = run(connection, after.table("things"))
    assert "column n is integer, the contract says bigint" in done[1]
    assert kinds(connection) == [
        ("at", "timestamp with time zone", True),
        ("n", "bigint", True),
        ("share", "double precision", False),
        ('Odd "Name"; --', "text", True),
        ("more", "numeric(9,2)", False),
    ]
    assert constraints(connection) == []
    comments = connection.execute(
        "select obj_description('things'::regclass), col_description('things'::regclass, 3)"
    ).fetchone()
    assert comments == ("New.", 'of %s it\'s "all"')
    assert run(connection, after.table("things")) == []
    assert read(after) == expected

    more = rows(5).with_columns(n=pl.lit(2**40), more=pl.lit("1.50"))
    file = rows(4).with_columns(pl.col("n").cast(pl.Int64), more=pl.lit(None, pl.String))
    assert load(after, pl.concat([file, more]), "3.parquet") == 2
    assert move(after.lake, after.table("things"), january).rows == 5
    assert [n for n, *_ in read(after)] == [1, 2, 3, 4, 2**40]
    assert read(after)[:3] == expected


def test_a_missing_table_is_made_with_leaves_and_then_there_is_nothing_to_do(
    connection: psycopg.Connection,
) -> None:
    assert run(connection, table()) == [
        "the table is missing",
        "partition tables are missing: 2024-07, 2024-08, 2024-09",
    ]
    assert run(connection, table()) == []
    assert connection.execute("select to_regclass('things_2024_09') is not null").fetchone() == (
        True,
    )


def test_what_is_created_needs_no_change_whatever_the_table(platform: Platform) -> None:
    with platform.postgres.connect(autocommit=True) as connection:
        for of in (*platform.tables, table(Narrow, key=("n", "at")), table()):
            connection.execute("drop table if exists things")
            ensure_table(connection, of)
            changes = read_plan(connection, of, NOW).changes
            assert [change.what[:28] for change in changes] == ["partition tables are missing"]


def test_a_null_keeps_a_column_as_it_is_and_the_rest_is_done(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    load(platform_of(table(Narrow)), rows(1, 2, odd=None), "1.parquet")
    with pytest.raises(ApplyError, match="is null in 2 rows, so it stays nullable"):
        run(connection, table())
    assert ('Odd "Name"; --', "text", False) in kinds(connection)
    assert ("n", "bigint", True) in kinds(connection)
    assert constraints(connection) == []
    connection.execute('update things set "Odd ""Name""; --" = \'\'')
    assert run(connection, table())[0].startswith('column Odd "Name"; -- may be null')
    assert ('Odd "Name"; --', "text", True) in kinds(connection)


def test_blocking_changes_are_left_unless_they_are_asked_for(
    platform_of: Callable[..., Platform],
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load(platform_of(table(Narrow)), rows(1), "1.parquet")
    monkeypatch.setattr(planner, "SMALL_BYTES", 0)
    run(connection, table())
    assert ("n", "integer", True) in kinds(connection)
    (left,) = read_plan(connection, table(), NOW).changes
    assert (left.safety, left.columns) == ("blocking", ("n", "share"))
    assert left.bytes > 0
    assert run(connection, table(), blocking=True) == [left.what]
    assert ("n", "bigint", True) in kinds(connection)


def test_a_long_reader_makes_apply_give_up_with_nothing_half_done(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    platform = platform_of(table(Narrow))
    load(platform, rows(1), "1.parquet")
    before = kinds(connection)
    with platform.postgres.connect() as reader:
        reader.execute("select * from things").fetchall()
        with pytest.raises(LockWaitError, match="nothing was changed"):
            run(connection, table(), attempts=3)
        # Nobody who comes after it waits for it either.
        with platform.postgres.connect() as other:
            other.execute("set statement_timeout = '1s'")
            assert other.execute("select count(*) from things").fetchone() == (1,)
    assert kinds(connection) == before
    assert constraints(connection) == []
    held = connection.execute("select count(*) from pg_locks where locktype = 'advisory'")
    assert held.fetchone() == (0,)
    assert len(run(connection, table())) > 3


def test_two_applies_at_once_do_it_once(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(table(Narrow))
    load(platform, rows(1), "1.parquet")
    planned = threading.Barrier(2)

    def one(_: int) -> list[Any]:
        with platform.postgres.connect(autocommit=True) as connection:
            plan = read_plan(connection, table(), NOW)
            planned.wait(20)
            return apply_plan(connection, table(), plan, NOW)

    with ThreadPoolExecutor(2) as pool:
        first, second = sorted(pool.map(one, range(2)), key=len)
    assert first == []
    assert len(second) > 3


def test_a_plan_that_is_out_of_date_is_not_applied(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    load(platform_of(table(Narrow)), rows(1), "1.parquet")
    plan = read_plan(connection, table(), NOW)
    connection.execute('alter table things rename "share" to part')
    before = kinds(connection)
    with pytest.raises(ApplyError, match="changed since the plan was made"):
        apply_plan(connection, table(), plan, NOW)
    assert kinds(connection) == before


def test_what_postgres_refuses_undoes_all_of_it(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    load(platform_of(table(Narrow)), rows(1), "1.parquet")
    connection.execute("create view seen as select n from things")
    before = kinds(connection)
    with pytest.raises(ApplyError, match=r"nothing was changed.*used by a view"):
        run(connection, table())
    assert kinds(connection) == before


def test_a_key_is_added_where_it_holds(
    platform_of: Callable[..., Platform], connection: psycopg.Connection
) -> None:
    platform = platform_of(table(Narrow))
    load(platform, rows(1, 2, 2), "1.parquet")
    keyed = table(Narrow, key=("at", "n"), write_mode="merge")
    with pytest.raises(ApplyError, match="could not create unique index"):
        run(connection, keyed)
    connection.execute("delete from things where n = 2")
    assert "the key (at, n) is missing" in run(connection, keyed)
    assert run(connection, keyed) == []
    assert load(platform_of(keyed), rows(1, 2), "2.parquet") == 1


def test_a_reader_whose_snapshot_is_too_old_for_a_rewritten_table_takes_another(
    platform_of: Callable[..., Platform],
    connection: psycopg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = table(Narrow, partitioning=None, tiering=None)
    platform = platform_of(plain)
    load(platform, rows(1, 2), "1.parquet")
    hot_tables, rewrites = lake_module._hot_tables, [1]

    def rewrite_after_the_snapshot(*of: Any) -> Any:
        hot = hot_tables(*of)
        if rewrites:
            rewrites.pop()
            connection.execute("alter table things alter n type bigint")
            connection.execute("alter table things alter n type integer")
        return hot

    monkeypatch.setattr(lake_module, "_hot_tables", rewrite_after_the_snapshot)
    with platform.lake.session() as session:
        assert session.sql("select count(*) from things").fetchall() == [(2,)]
    assert rewrites == []
    rewrites += [1] * 100
    with (
        pytest.raises(LakeReadError, match="things is being rewritten repeatedly"),
        platform.lake.session(),
    ):
        pass


FILE = '''
"""Things."""
from typing import Annotated
import pandera.polars as pa
import polars as pl
from lakebed.spec.table import SourceTable


class Thing(pa.DataFrameModel):
    """Things."""

    n: pl.{kind}
    label: {label} = pa.Field(nullable=True)


things = SourceTable(name="things", model=Thing)
'''


@pytest.fixture
def lakebed(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> Callable[..., tuple[int, str, str]]:
    assert settings.postgres_url is not None
    monkeypatch.setenv("LAKEBED_HOME", str(tmp_path))
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", settings.postgres_url)
    monkeypatch.setenv("LAKEBED_TABLES", str(tmp_path / "tables"))
    monkeypatch.setenv("LAKEBED_CLOCK", NOW.isoformat())
    (tmp_path / "tables").mkdir()

    def run(*arguments: str, kind: str = "Int32", label: str = "str") -> tuple[int, str, str]:
        (tmp_path / "tables" / "things.py").write_text(FILE.format(kind=kind, label=label))
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            raise SystemExit(0)
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_the_commands_show_ask_do_and_say_what_is_left(
    lakebed: Callable[..., tuple[int, str, str]], connection: psycopg.Connection
) -> None:
    code, out, _ = lakebed("plan")
    assert (code, "the table is missing" in out) == (0, True)
    assert lakebed("plan", "--check")[0] == 1
    code, _, err = lakebed("apply")
    assert (code, "Add --yes" in err) == (2, True)
    assert connection.execute("select to_regclass('things')").fetchone() == (None,)
    code, _, err = lakebed("apply", "--yes")
    assert (code, err.splitlines()[-1]) == (0, "things: done: the table is missing")
    assert lakebed("plan", "--check")[:2] == (0, "things: nothing to change\n")
    assert lakebed("apply")[0] == 0

    connection.execute("alter table things add theirs boolean")
    code, out, _ = lakebed("plan", "things", "--json", kind="Int64", label="pl.Int32")
    (plan,) = json.loads(out)
    assert [(c["safety"], c["columns"]) for c in plan["changes"]] == [
        ("instant", ["n"]),
        ("refused", ["label"]),
    ]
    assert plan["fields"] == ["theirs: pl.Boolean = pa.Field(nullable=True)"]
    code, out, err = lakebed("apply", "things", "--yes", "--json", kind="Int64", label="pl.Int32")
    assert code == 1
    (result,) = json.loads(out)
    assert [change["columns"] for change in result["done"]] == [["n"]]
    assert "1 left:" in err
    assert "column label is text, the contract says integer" in err
    assert lakebed("plan", "nothing")[0] == 2


def test_a_plan_names_the_columns_that_queries_must_quote(
    lakebed: Callable[..., tuple[int, str, str]],
) -> None:
    assert "things: note: " not in lakebed("plan")[2]
    code, _, err = lakebed("plan", label="str = pa.Field()\n    at: str")
    assert (code, "things: note: " in err, '"at"' in err) == (0, True, True)
