"""A replaced table is what its source holds, stays the table it was, and is never seen empty."""

from __future__ import annotations

import threading

import pytest

from lakebed.ingest.writers import LoadConflictError
from lakebed.store.platform import Platform
from tests.support.modes import ask, counts, deliver, do, load, seen


def prices(*rows: tuple[str, int | None]) -> list[dict[str, object]]:
    return [{'the "item"': item, "Price %s": price} for item, price in rows]


def airports(*rows: tuple[str, str | None]) -> list[dict[str, object]]:
    return [{"order": code, "name": name} for code, name in rows]


def test_all_files_are_loaded_when_one_of_them_changed_came_or_went(of_modes: Platform) -> None:
    one = deliver(of_modes, "prices/1.parquet", prices(("a", 1), ("a", 1)))
    assert counts(load(of_modes, "prices")) == {"inserted": 2}
    assert load(of_modes, "prices").load_id is None
    deliver(of_modes, "prices/2.parquet", prices(("b", None)))
    assert counts(load(of_modes, "prices")) == {"inserted": 3, "deleted": 2}
    deliver(of_modes, "prices/2.parquet", prices(("b", 5), ("c", 6)))
    assert counts(load(of_modes, "prices")) == {"inserted": 4, "deleted": 3}
    one.unlink()
    assert counts(load(of_modes, "prices")) == {"inserted": 2, "deleted": 4}
    assert seen(of_modes, "from prices order by all") == [("b", 5), ("c", 6)]
    assert load(of_modes, "prices").load_id is None


def test_with_a_key_only_the_difference_is_written(of_modes: Platform) -> None:
    deliver(of_modes, "airports/1.csv", airports(("a", "A"), ("b", "B"), ("c", None)))
    assert counts(load(of_modes, "airports")) == {"inserted": 3}
    places = dict(ask(of_modes, 'select "order", ctid::text from airports'))
    new = airports(("a", "A"), ("b", None), ("d", "D"), ("d", "E"))
    deliver(of_modes, "airports/1.csv", new)
    assert counts(load(of_modes, "airports")) == {
        "inserted": 1,
        "updated": 1,
        "unchanged": 1,
        "superseded": 1,
        "deleted": 1,
    }
    rows = ask(of_modes, 'select "order", name, ctid::text from airports order by 1')
    assert [row[:2] for row in rows] == [("a", "A"), ("b", None), ("d", "E")]
    assert rows[0][2] == places["a"]


@pytest.mark.parametrize("name", ["prices", "airports"])
def test_the_table_stays_the_table_it_was(of_modes: Platform, name: str) -> None:
    rows = prices(("a", 1)) if name == "prices" else airports(("a", "A"))
    suffix = "parquet" if name == "prices" else "csv"
    deliver(of_modes, f"{name}/1.{suffix}", rows)
    load(of_modes, name)
    column = '"Price %s"' if name == "prices" else "name"
    do(
        of_modes,
        f"create view watching as select count({column}) as rows from {name}",  # noqa: S608
        f"create index by_hand on {name} ({column})",
        f"comment on table {name} is 'by hand'",
        f"create role reader_{name}_{id(of_modes)}",
        f"grant select on {name} to reader_{name}_{id(of_modes)}",
    )
    query = f"select oid, relacl::text, obj_description(oid) from pg_class where relname = '{name}'"  # noqa: S608
    before = ask(of_modes, query)
    deliver(of_modes, f"{name}/2.{suffix}", rows if name == "prices" else airports(("b", "B")))
    load(of_modes, name)
    assert ask(of_modes, query) == before
    assert ask(of_modes, "select rows from watching") == [(2,)]
    assert ask(of_modes, "select indisvalid from pg_index where indexrelid = 'by_hand'::regclass")
    role = f"reader_{name}_{id(of_modes)}"
    do(of_modes, f"drop owned by {role}", f"drop role {role}")


def test_a_row_that_others_refer_to_is_not_deleted_for_being_the_same(of_modes: Platform) -> None:
    deliver(of_modes, "airports/1.csv", airports(("a", "A"), ("b", "B")))
    load(of_modes, "airports")
    do(
        of_modes,
        'create table flights (origin text references airports ("order"))',
        "insert into flights values ('a')",
    )
    deliver(of_modes, "airports/1.csv", airports(("a", "Z"), ("c", "C")))
    assert counts(load(of_modes, "airports")) == {"inserted": 1, "updated": 1, "deleted": 1}


def test_a_reader_sees_all_old_rows_or_all_new_ones(of_modes: Platform) -> None:
    """A session from before the load sees the old rows to its end; others never see a mixture."""
    deliver(of_modes, "prices/1.parquet", prices(*[("a", i) for i in range(3000)]))
    load(of_modes, "prices")
    query = 'select count(*)::int, min("the ""item"""), max("the ""item""") from prices'
    found: list[tuple[int, str, str]] = []
    reading, stop = threading.Event(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            found.append(ask(of_modes, query)[0])
            reading.set()

    reader = threading.Thread(target=read)
    reader.start()
    with of_modes.postgres.connect() as old, of_modes.lake.session() as session:
        old.execute("set transaction isolation level repeatable read")
        assert old.execute(query.encode()).fetchall() == [(3000, "a", "a")]
        assert session.sql("select count(*) from prices").fetchall() == [(3000,)]
        assert reading.wait(60)
        deliver(of_modes, "prices/1.parquet", prices(*[("b", i) for i in range(2000)]))
        load(of_modes, "prices")
        assert old.execute(query.encode()).fetchall() == [(3000, "a", "a")]
        assert session.sql("select count(*) from prices").fetchall() == [(3000,)]
    stop.set()
    reader.join()
    assert set(found) <= {(3000, "a", "a"), (2000, "b", "b")}
    assert ask(of_modes, query) == [(2000, "b", "b")]


@pytest.mark.parametrize("name", ["prices", "airports"])
def test_an_extract_without_a_row_replaces_nothing(of_modes: Platform, name: str) -> None:
    rows = prices(("a", 1)) if name == "prices" else airports(("a", "A"))
    path = deliver(of_modes, f"{name}/1.{'parquet' if name == 'prices' else 'csv'}", rows)
    load(of_modes, name)
    path.write_text('"order",name\n') if name == "airports" else path.write_bytes(_empty())
    with pytest.raises(LoadConflictError, match=r"has no row.*delete the rows by hand"):
        load(of_modes, name)
    assert ask(of_modes, f"select count(*) from {name}") == [(1,)]  # noqa: S608


def _empty() -> bytes:
    import io

    import polars as pl

    out = io.BytesIO()
    pl.DataFrame(schema={'the "item"': pl.String, "Price %s": pl.Int64}).write_parquet(out)
    return out.getvalue()


def test_nothing_is_replaced_while_a_file_cannot_be_read(of_modes: Platform) -> None:
    deliver(of_modes, "prices/1.parquet", prices(("a", 1)))
    load(of_modes, "prices")
    deliver(of_modes, "prices/1.parquet", prices(("b", 1)))
    (of_modes.settings.data / "prices/2.parquet").write_text("no Parquet")
    report = load(of_modes, "prices")
    assert (report.load_id, len(report.refused)) == (None, 1)
    assert seen(of_modes, "from prices") == [("a", 1)]


@pytest.mark.parametrize("name", ["prices", "airports"])
def test_the_old_rows_of_the_last_loads_are_kept(of_modes: Platform, name: str) -> None:
    loads = []
    for number in range(5):
        if name == "prices":
            deliver(of_modes, "prices/1.parquet", prices(*[("a", i) for i in range(number + 1)]))
        else:
            rows = [(f"{i}", f"{number}") for i in range(number + 1)]
            deliver(of_modes, "airports/1.csv", airports(*rows))
        loads.append(load(of_modes, name).load_id)
    kept = ask(
        of_modes, "select relname from pg_class where relnamespace = 'lakebed_undo'::regnamespace"
    )
    assert {row[0] for row in kept} == set(loads[2:])
    for number in (2, 3, 4):
        rows = ask(of_modes, f'select count(*) from lakebed_undo."{loads[number]}"')  # noqa: S608
        assert rows == [(number,)]


def test_a_replaced_key_that_stands_twice_in_a_table_without_one_is_a_conflict(
    of_modes: Platform,
) -> None:
    deliver(of_modes, "prices/1.parquet", prices(("a", 1)))
    load(of_modes, "prices")
    do(of_modes, 'create unique index one_price on prices ("the ""item""")')
    deliver(of_modes, "prices/1.parquet", prices(("b", 1), ("b", 2)))
    (refused,) = load(of_modes, "prices").refused
    assert refused.path.endswith("1.parquet")
    assert refused.problem.startswith("row 2 ")
    assert seen(of_modes, "from prices") == [("a", 1)]
