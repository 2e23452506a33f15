"""Table files that are written from a SQLite database load it as they are."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lakebed.resources.settings import Settings
from lakebed.scaffolding.sqlite_tables import table_files
from lakebed.scaffolding.table_file import AddError, write_files
from lakebed.spec.table_files import load_tables
from lakebed.store.platform import open_platform
from tests.support.queried import ask, load_well

STATEMENTS = (
    "create table Orders (id integer primary key, customer varchar(20) not null,"
    ' amount decimal(10, 2), created datetime, day date, open boolean, data blob, "class" text)',
    "insert into Orders values (1, 'a', 1.25, '2024-03-01 12:00:00', '2024-03-01', 1, x'00', 'x'),"
    " (2, 'b', 3, null, null, 0, null, null)",
    "create table pairs (a text, b int, since datetime, note, primary key (a, b)) without rowid",
    "insert into pairs values ('x', 1, 1709294400, 5), ('x', 2, 1709294401, 'five')",
    'create table "no key" (n integer, empty text)',
    'insert into "no key" values (1, null), (1, null)',
    "create virtual table search using fts5(words)",
    "insert into search values ('hello world')",
    "create view seen as select * from Orders",
)


@pytest.fixture
def shop(settings: Settings) -> Path:
    path = settings.data / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        connection.commit()
    return path


def test_a_whole_database_is_loaded_by_the_files_that_are_written_for_it(
    settings: Settings, shop: Path, tmp_path: Path
) -> None:
    written = write_files(table_files(shop, "shop.db", ()), tmp_path / "tables")
    assert [file.name for file in written] == ["orders.py", "no_key.py", "pairs.py"]
    platform = open_platform(settings, load_tables(tmp_path / "tables"))
    for name in ("orders", "no_key", "pairs"):
        assert load_well(platform, name).inserted == 2
    found = ask(platform, "select id, amount::text, created::text, open, class from orders")
    assert found == [
        (1, "1.25", "2024-03-01 12:00:00+00", True, "x"),
        (2, "3.00", None, False, None),
    ]
    assert platform.table("orders").key == ("id",)
    assert platform.table("pairs").key == ("a", "b")
    assert ask(platform, "select since, note from pairs order by since") == [
        (1709294400, "5"), (1709294401, "five"),
    ]  # fmt: skip


def test_nothing_is_overwritten_and_what_cannot_be_is_said(shop: Path, tmp_path: Path) -> None:
    write_files(table_files(shop, "shop.db", ["pairs"]), tmp_path)
    with pytest.raises(AddError, match=r"pairs\.py exists"):
        write_files(table_files(shop, "shop.db", ()), tmp_path)
    assert [file.name for file in tmp_path.glob("*.py")] == ["pairs.py"]
    with pytest.raises(AddError, match="no table 'search_data'; there are: Orders, no key"):
        write_files(table_files(shop, "shop.db", ["search_data"]), tmp_path)
    with pytest.raises(AddError, match="no file"):
        write_files(table_files(tmp_path / "none.db", "none.db", ()), tmp_path)
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(AddError, match="SQLite cannot read it"):
        write_files(table_files(tmp_path / "text.db", "text.db", ()), tmp_path)


def test_names_that_postgres_cannot_hold_are_shortened_and_mapped(
    settings: Settings, tmp_path: Path
) -> None:
    long, longer = "c" * 64, "é" * 40
    database = settings.data / "wide.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f'create table wide ("{long}" integer primary key, "{longer}" text)')
        connection.execute("insert into wide values (1, 'a')")
        connection.commit()
    write_files(table_files(database, "wide.db", ()), tmp_path / "tables")
    platform = open_platform(settings, load_tables(tmp_path / "tables"))
    table = platform.table("wide")
    assert all(len(name.encode()) <= 63 for name in table.column_names)
    assert (len(set(table.column_names)), table.key) == (2, (table.column_names[0],))
    assert table.source_columns == (long, longer)
    assert load_well(platform, "wide").inserted == 1


def test_types_come_from_all_rows_and_what_is_written_loads(
    settings: Settings, tmp_path: Path
) -> None:
    """Odd values lie behind the rows that a sample would see."""
    path = settings.data / "odd.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "create table odd (id integer primary key, late int, few int, day date, stamp date,"
            " at time, open boolean, level boolean, said bool, money decimal(6, 2),"
            " noise numeric(6, 2), wide decimal(4, 2), never datetime)"
        )
        connection.executemany(
            "insert into odd values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    n,
                    "late" if n > 11_900 else n,
                    "few" if n in (11_500, 11_501) else n,
                    "2024-02-29",
                    "2024-02-29" if n < 11_000 else "2024-02-29 12:00:00",
                    "23:59:59.5" if n % 2 else "07:00",
                    n % 2,
                    2 if n == 11_999 else 1,
                    "true" if n % 2 else "false",
                    n / 100,
                    0.1 + 0.2 if n == 11_999 else 0.25,
                    12_345.5 if n == 11_999 else 1,
                    "soon" if n > 11_000 else "2024-01-01T00:00:00Z",
                )
                for n in range(12_000)
            ),
        )
        connection.execute("create table nulls (a text primary key, b int)")
        connection.execute("insert into nulls values (null, 1), (null, 2), ('x', 3)")
        connection.commit()
    (nulls, odd) = table_files(path, "odd.db", ())
    write_files([nulls, odd], tmp_path / "tables")
    platform = open_platform(settings, load_tables(tmp_path / "tables"))
    assert {column.name: column.postgres for column in platform.table("odd").columns} == {
        "id": "bigint",
        "late": "text",
        "few": "bigint",
        "day": "date",
        "stamp": "timestamp with time zone",
        "at": "time without time zone",
        "open": "boolean",
        "level": "bigint",
        "said": "boolean",
        "money": "numeric(6,2)",
        "noise": "double precision",
        "wide": "numeric(7,2)",
        "never": "text",
    }
    assert "2 of 12,000 values are of another kind" in odd.text
    report = load_well(platform, "odd")
    assert (report.inserted, report.rejected) == (11_998, 2)
    assert "its key holds nulls in a" in nulls.text
    assert platform.table("nulls").key == ()
    assert load_well(platform, "nulls").inserted == 3
    assert ask(platform, "select stamp::text, at::text, said from odd where id in (0, 11999)") == [
        ("2024-02-29 00:00:00+00", "07:00:00", False),
        ("2024-02-29 12:00:00+00", "23:59:59.5", True),
    ]
