"""`lakebed add` writes table files that load what a source holds, as it is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import psycopg
import pytest
from click.testing import CliRunner, Result

from lakebed import AddError, Lakebed
from lakebed.cli.main import group
from tests.conftest import NOW

ROWS = [
    (1, "a", 1.5, True, date(2024, 1, 2), datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
    (2, "b", None, False, date(2024, 2, 3), datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)),
]
NAMES = ("id", "label", "price", "open", "day", "moment")
FRAME = pl.DataFrame(ROWS, schema=list(NAMES), orient="row").with_columns(
    pl.col("moment").cast(pl.Datetime("us", "UTC"))
)
TEXT = "id,label,price,open,day,moment\n1,a,1.5,true,2024-01-02,2024-01-02T03:04:05Z\n"
TEXT += "2,b,,false,2024-02-03,2024-02-03T04:05:06+00:00\n"


@pytest.fixture
def folder(tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text("[tool.lakebed]\n")
    (tmp_path / ".env").write_text(f"LAKEBED_POSTGRES_URL={database}\nLAKEBED_CLOCK={NOW}\n")
    (tmp_path / "data" / "things").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(*arguments: str) -> Result:
    return CliRunner().invoke(group, ["add", *arguments], catch_exceptions=True)


def loaded(name: str, columns: tuple[str, ...] = NAMES) -> list[tuple[object, ...]]:
    """Load a table that was added, and return its rows."""
    lake = Lakebed()
    lake.load(name)
    query = f"select {', '.join(columns)} from {name} order by 1"  # noqa: S608
    return lake.sql(query).rows()


def _csv(data: Path) -> str:
    (data / "things" / "1.csv").write_text(TEXT)
    return "things/*.csv"


def _packed_csv(data: Path) -> str:
    text = TEXT.replace(",", ";").replace("2;b;;", "2;b;NA;")
    (data / "things" / "1.csv.gz").write_bytes(gzip.compress(text.encode()))
    return "data/things/1.csv.gz"  # as a shell completes it, from the project's folder


def _parquet(data: Path) -> str:
    FRAME.write_parquet(data / "things" / "1.parquet")
    return "things/*.parquet"


def _arrow(data: Path) -> str:
    FRAME.write_ipc(data / "things" / "1.arrow")
    return "things/*.arrow"


def _json(data: Path) -> str:
    lines = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
    text = "\n".join(json.dumps(line, default=lambda value: value.isoformat()) for line in lines)
    (data / "things" / "1.jsonl").write_text(text + "\n")
    return "things/*.jsonl"


@pytest.mark.parametrize("deliver", [_csv, _packed_csv, _parquet, _arrow, _json])
def test_files_of_each_kind_are_loaded_by_the_table_file_that_is_written(
    folder: Path, deliver: Callable[[Path], str]
) -> None:
    done = add(deliver(folder / "data"), "--name", "things")
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{folder / 'tables' / 'things.py'}\n"
    assert loaded("things") == ROWS


def test_the_tables_of_a_duckdb_file_are_loaded(folder: Path) -> None:
    with duckdb.connect(str(folder / "data" / "shop.duckdb")) as connection:
        connection.execute(
            "create table Things (id bigint primary key, label varchar not null, price double,"
            " open boolean, day date, moment timestamptz)"
        )
        connection.executemany("insert into Things values (?, ?, ?, ?, ?, ?)", ROWS)
        connection.execute("create table amounts (n decimal(10, 2))")
        connection.execute("insert into amounts values (1.25)")
    done = add("duckdb:shop.duckdb")
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (folder / "tables").iterdir()) == ["amounts.py", "things.py"]
    assert loaded("things") == ROWS
    assert loaded("amounts", ("n",)) == [(Decimal("1.25"),)]


def test_the_tables_of_a_server_are_loaded_and_its_password_is_hidden(
    folder: Path, database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("create schema shop")
        connection.execute(
            "create table shop.things (id bigint primary key, label text not null, price float8,"
            " open boolean, day date, moment timestamptz, more jsonb)"
        )
        for row in ROWS:
            connection.execute("insert into shop.things values (%s, %s, %s, %s, %s, %s)", row)
    with (folder / ".env").open("a") as file:
        file.write(f"SHOP_URL={database}\nAWAY_URL=postgresql://me:s3cret@127.0.0.1:9/x\n")
    done = add("sql:SHOP_URL", "--schema", "shop", "--tables", "things")
    assert done.exit_code == 0, done.output
    assert Lakebed()._platform.table("things").key == ("id",)
    assert loaded("things") == ROWS
    assert database not in (folder / "tables" / "things.py").read_text()
    away = add("sql:AWAY_URL")
    assert isinstance(away.exception, AddError)
    assert "s3cret" not in str(away.exception)
    unset = add("sql:NO_URL")
    assert getattr(unset.exception, "exit_code", None) == 2


def test_what_is_written_can_be_printed_instead(folder: Path) -> None:
    (folder / "data" / "things" / "1.csv").write_text(TEXT)
    done = add("things/*.csv", "--print")
    assert "things = SourceTable(" in done.stdout
    assert not (folder / "tables").exists()


def test_nothing_is_overwritten_and_a_wrong_source_is_refused(folder: Path) -> None:
    pattern = _csv(folder / "data")
    assert add(pattern).exit_code == 0
    before = (folder / "tables" / "things.py").read_bytes()
    for arguments in (
        [pattern],
        ["things/*.nothing"],
        ["none/*.csv"],
        ["duckdb:none.duckdb"],
        ["sqlite:none.db"],
        [pattern, "--name", "No Name"],
    ):
        refused = add(*arguments)
        assert isinstance(refused.exception, AddError), (arguments, refused.output)
        assert refused.exception.exit_code == 2
    assert add(pattern, "--time", "moment").exit_code == 2
    assert (folder / "tables" / "things.py").read_bytes() == before


def test_texts_that_only_look_like_numbers_stay_texts(folder: Path) -> None:
    text = "zip,code,empty,n\n01234,1,,1\n10115,x,,99999999999999999999\n"
    (folder / "data" / "things" / "1.csv").write_text(text)
    assert add("things/1.csv", "--name", "places").exit_code == 0
    assert loaded("places", ("zip", "code", "empty")) == [
        ("01234", "1", None),
        ("10115", "x", None),
    ]
