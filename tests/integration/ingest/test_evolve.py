"""Columns that a source brings, leaves out or changes: to PostgreSQL, the lake, every answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import duckdb
import pandera.polars as pa
import polars as pl
import pyarrow.parquet as pq
import pytest

from lakebed.ingest import evolve
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import CsvFiles, Grain, ParquetFiles, Partitioning, SourceTable, Tiering
from lakebed.store.platform import Platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.move import Moved, move


class Event(pa.DataFrameModel):
    """Events."""

    class Config:
        strict = True  # what evolves is none of the model's business

    at: Annotated[pl.Datetime, "us", "UTC"]
    n: pl.Int64
    note: str = pa.Field(nullable=True)


def table(**fields: Any) -> SourceTable:
    given = {
        "name": "events",
        "model": Event,
        "source": ParquetFiles(glob="*.parquet"),
        "new_columns": "evolve",
        "partitioning": Partitioning(
            column="at", grain=Grain.MONTH, start=datetime(2024, 1, 1, tzinfo=UTC)
        ),
        "tiering": Tiering(hot_for=timedelta(days=1)),
    }
    return SourceTable(**given | fields)


MERGED: dict[str, Any] = {"key": ("at", "n"), "write_mode": "merge"}


def rows(*numbers: int, **more: pl.Series) -> pl.DataFrame:
    """Events of January, one an hour, with further columns."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "at": [start + timedelta(hours=n) for n in numbers],
            "n": list(numbers),
            "note": ["x"] * len(numbers),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )
    return frame.with_columns(values.alias(name) for name, values in more.items())


def load(platform: Platform, frame: pl.DataFrame | None = None, name: str = "") -> LoadReport:
    if frame is not None:
        path = platform.settings.data / name
        frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    report = load_table(
        platform.settings, platform.postgres, platform.clock, platform.table("events")
    )
    assert report.balanced
    return report


def settle(platform: Platform, key: str = "2024-01") -> Moved:
    return move(platform.lake, platform.table("events"), window_for_key(Grain.MONTH, key))


def ask(platform: Platform, query: str) -> list[Any]:
    with platform.postgres.connect() as connection:
        return connection.execute(query).fetchall()


def read(platform: Platform, columns: str) -> list[Any]:
    with platform.lake.session() as session:
        return session.sql(f"select {columns} from events order by n").fetchall()  # noqa: S608


def kinds(platform: Platform) -> dict[str, str]:
    return dict(
        ask(
            platform,
            "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = 'events'::regclass and attnum > 0 order by attnum",
        )
    )


def test_a_new_column_reaches_postgres_its_comments_the_lake_and_every_reader(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    load(platform, rows(1, 2), "1.parquet")
    assert settle(platform).rows == 2
    report = load(platform, rows(3, 4, speed=pl.Series([1.5, None])), "2.parquet")
    assert (report.inserted, report.refused, report.discarded) == (2, (), ())
    assert report.evolved == ("speed double precision, from 2.parquet",)
    assert kinds(platform)["speed"] == "double precision"
    comments = ask(
        platform,
        "select col_description('events'::regclass, attnum), obj_description('events'::regclass)"
        " from pg_attribute where attrelid = 'events'::regclass and attname = 'speed'",
    )
    assert comments == [
        (
            "brought by 2.parquet on 2024-07-01",
            "Events.\nColumns added from the source: speed (double precision).",
        )
    ]
    assert ask(
        platform, "select column_name, postgres_type, source from lakebed.evolved_column"
    ) == [("speed", "double precision", "2.parquet")]
    expected = [(1, None), (2, None), (3, 1.5), (4, None)]
    assert read(platform, "n, speed") == expected
    folded = settle(platform)
    assert (folded.generation, folded.rows) == (2, 4)
    assert read(platform, "n, speed") == expected
    file = platform.lake.files.root / str(folded.path)
    assert pq.read_schema(file).names == ["at", "n", "note", "speed"]
    assert b"brought by 2.parquet" in pq.read_metadata(file).metadata[b"lakebed_columns"]
    ((columns,),) = ask(
        platform, "select columns from lakebed.cold_file where superseded_at is null"
    )
    assert columns[-1] == {"name": "speed", "type": "double precision"}


def test_files_from_before_and_after_a_new_column_are_read_as_one(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    february = pl.col("at") + pl.duration(days=31)
    load(platform, rows(1), "1.parquet")
    settle(platform)
    load(platform, rows(2, extra=pl.Series(["new"])).with_columns(february), "2.parquet")
    settle(platform, "2024-02")
    assert read(platform, "n, extra") == [(1, None), (2, "new")]
    with platform.lake.session() as session:
        query = """select count(extra) from events where "at" < '2024-02-01'"""
        assert session.sql(query).fetchall() == [(0,)]
    with duckdb.connect(str(write_catalog(platform)), read_only=True) as catalog:
        assert catalog.sql("select n, extra from events order by n").fetchall() == [
            (1, None),
            (2, "new"),
        ]


def test_merge_updates_a_new_column_and_rejects_show_it(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table(**MERGED, reject_share=1.0))
    load(platform, rows(1, 2), "1.parquet")
    bad = rows(1, 2, 3, size=pl.Series([10, 20, 30])).with_columns(
        n=pl.when(pl.col("n") < 3).then("n")
    )
    report = load(platform, bad, "2.parquet")
    assert (report.updated, report.rejected) == (2, 1)
    assert ask(platform, "select n, size from events order by n") == [(1, 10), (2, 20)]
    assert ask(platform, "select source_row -> 'size' from lakebed.rejected_row") == [(30,)]
    settle(platform)
    load(platform, rows(1, size=pl.Series([11])), "3.parquet")
    assert read(platform, "n, size") == [(1, 11), (2, 20)]
    assert settle(platform).overridden == 1
    assert read(platform, "n, size") == [(1, 11), (2, 20)]


def test_an_evolved_column_is_widened_where_it_is_safe_hot_and_cold(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    load(platform, rows(1, size=pl.Series([10], dtype=pl.Int32)), "1.parquet")
    assert kinds(platform)["size"] == "integer"
    settle(platform)
    report = load(platform, rows(2, size=pl.Series([2**40])), "2.parquet")
    assert report.evolved == ("size integer -> bigint, from 2.parquet",)
    load(platform, rows(3, size=pl.Series([3], dtype=pl.Int8)), "3.parquet")
    assert kinds(platform)["size"] == "bigint"
    expected = [(1, 10), (2, 2**40), (3, 3)]
    assert read(platform, "n, size") == expected
    assert settle(platform).rows == 3
    assert read(platform, "n, size") == expected


def test_a_type_that_does_not_widen_refuses_the_file_with_the_command_that_migrates(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    load(platform, rows(1, size=pl.Series([10])), "1.parquet")
    report = load(platform, rows(2, size=pl.Series(["big"])), "2.parquet")
    (refused,) = report.refused
    command = 'alter table "public"."events" alter column "size" type text using "size"::text'
    assert command in refused.problem
    assert "size: pl.String = pa.Field(nullable=True" in refused.problem
    assert ask(platform, "select n, size from events") == [(1, 10)]
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute(command)

    class Mended(Event):
        size: pl.String = pa.Field(nullable=True)

    mended = platform_of(table(model=Mended))
    assert load(mended).inserted == 1
    assert read(mended, "n, size") == [(1, "10"), (2, "big")]


def test_a_big_table_is_not_written_anew_by_a_load(
    platform_of: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = platform_of(table())
    load(platform, rows(1, size=pl.Series([10], dtype=pl.Int32)), "1.parquet")
    monkeypatch.setattr(evolve, "SMALL_BYTES", 0)
    (refused,) = load(platform, rows(2, size=pl.Series([2**40])), "2.parquet").refused
    assert "`lakebed apply events --blocking`" in refused.problem
    assert "size: pl.Int64 = pa.Field(" in refused.problem
    assert kinds(platform)["size"] == "integer"


def test_a_column_of_csv_is_text_and_text_is_cast_to_the_type_that_is_there(
    platform_of: Callable[..., Platform],
) -> None:
    parquet = platform_of(table())
    load(parquet, rows(1, size=pl.Series([Decimal("1.50")])), "1.parquet")
    kind = kinds(parquet)["size"]
    assert kind.startswith("numeric(")
    csv = platform_of(table(source=CsvFiles(glob="*.csv"), reject_share=0.5))
    frame = rows(2, 3, size=pl.Series(["2.50", "much"]), more=pl.Series(["a", None]))
    report = load(csv, frame, "2.csv")
    assert (report.inserted, report.rejected) == (1, 1)
    assert kinds(csv)["size"] == kind
    assert kinds(csv)["more"] == "text"
    assert read(csv, "n, size::varchar, more") == [(1, "1.50", None), (2, "2.50", "a")]


def test_a_file_without_an_evolved_column_loads_and_one_without_a_value_adds_none(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table())
    nothing = pl.Series([None], dtype=pl.Null)
    report = load(platform, rows(1, size=nothing), "1.parquet")
    assert (report.inserted, report.evolved, report.discarded) == (1, (), ("size",))
    assert "size" not in kinds(platform)
    load(platform, rows(2, size=pl.Series([1])), "2.parquet")
    load(platform, rows(3), "3.parquet")
    load(platform, rows(4, size=nothing), "4.parquet")
    assert ask(platform, "select n, size from events order by n") == [
        (1, None),
        (2, 1),
        (3, None),
        (4, None),
    ]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("xmin", "system column of PostgreSQL"),
        ("ü" * 40, "63 bytes"),
        ("NOTE", "upper and lower case"),
        ("lakebed_place", "the prefix of columns that loads add"),
        ("LAKEBED_gone", "the prefix of columns that loads add"),
    ],
)
def test_a_column_whose_name_cannot_be_refuses_its_file_alone(
    platform_of: Callable[..., Platform], name: str, problem: str
) -> None:
    platform = platform_of(table())
    rows(1, **{name: pl.Series([1])}).write_parquet(platform.settings.data / "1.parquet")
    report = load(platform, rows(2), "2.parquet")
    assert report.inserted == 1
    (refused,) = report.refused
    assert problem in refused.problem
    assert Path(refused.path).name == "1.parquet"


@pytest.mark.parametrize("name", ['we"ird; --', "select", "year", "%s {0}", "Größe"])
def test_a_column_with_an_odd_name_goes_all_the_way(
    platform_of: Callable[..., Platform], name: str
) -> None:
    platform = platform_of(table(**MERGED))
    load(platform, rows(1), "1.parquet")
    settle(platform)
    report = load(platform, rows(1, 2, **{name: pl.Series([5, 6])}), "2.parquet")
    assert report.refused == ()
    quoted = '"' + name.replace('"', '""') + '"'
    assert read(platform, f"n, {quoted}") == [(1, 5), (2, 6)]
    settle(platform)
    assert read(platform, f"n, {quoted}") == [(1, 5), (2, 6)]


def test_a_nested_column_refuses_its_file_until_it_is_ignored(
    platform_of: Callable[..., Platform],
) -> None:
    frame = rows(1, tags=pl.Series([{"a": 1}]))
    (refused,) = load(platform_of(table()), frame, "1.parquet").refused
    assert "column 'tags' is Struct" in refused.problem
    assert load(platform_of(table(ignored=("tags",)))).inserted == 1


def test_a_column_that_others_added_is_taken_over(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(table())
    load(platform, rows(1), "1.parquet")
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("alter table events add size bigint, add label boolean")
    report = load(platform, rows(2, size=pl.Series([7], dtype=pl.Int32)), "2.parquet")
    assert report.evolved == ("size bigint, from 2.parquet",)
    (refused,) = load(platform, rows(3, label=pl.Series(["a"])), "3.parquet").refused
    assert "has a column of that name as boolean" in refused.problem
    assert ask(platform, "select n, size from events order by n") == [(1, None), (2, 7)]


def test_what_the_model_declares_later_is_the_models(platform_of: Callable[..., Platform]) -> None:
    load(platform_of(table()), rows(1, size=pl.Series([1])), "1.parquet")

    class Grown(Event):
        size: pl.Int64 = pa.Field(nullable=True, ge=0)

    platform = platform_of(table(model=Grown, reject_share=1.0))
    assert load(platform, rows(2, 3, size=pl.Series([2, -1])), "2.parquet").rejected == 1
    assert read(platform, "*")[0] == (datetime(2024, 1, 1, 1, tzinfo=UTC), 1, "x", 1)


def test_discarded_columns_are_reported(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(table(new_columns="discard", ignored=("known",)))
    one = pl.Series([1])
    report = load(platform, rows(1, b=one, a=one, known=one), "1.parquet")
    assert (report.inserted, report.discarded, report.evolved) == (1, ("b", "a"), ())


def test_a_nullable_column_may_be_missing_where_the_table_says_so(
    platform_of: Callable[..., Platform],
) -> None:
    without = rows(1).drop("note")
    (refused,) = load(platform_of(table()), without, "1.parquet").refused
    assert "missing_columns='null'" in refused.problem
    platform = platform_of(table(missing_columns="null"))
    assert load(platform).inserted == 1
    assert ask(platform, "select n, note from events") == [(1, None)]
    (refused,) = load(platform, rows(2).drop("n"), "2.parquet").refused
    assert refused.problem.startswith("column 'n' is missing")


def test_a_column_of_the_model_that_nothing_has_yet_reads_as_null(
    platform_of: Callable[..., Platform],
) -> None:
    before = platform_of(table())
    load(before, rows(1), "1.parquet")
    settle(before)
    load(before, rows(2), "2.parquet")

    class Grown(Event):
        size: Annotated[pl.Decimal, 9, 2] = pa.Field(nullable=True)

    platform = platform_of(table(model=Grown))
    with platform.lake.session() as session:
        answer = session.sql("select n, size, typeof(size) from events order by n").fetchall()
    assert answer == [(1, None, "DECIMAL(9,2)"), (2, None, "DECIMAL(9,2)")]


def test_a_fold_that_would_lose_a_column_is_refused(platform_of: Callable[..., Platform]) -> None:
    platform = platform_of(table())
    load(platform, rows(1, size=pl.Series([1])), "1.parquet")
    settle(platform)
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("delete from lakebed.evolved_column")
        connection.execute("alter table events drop column size")
    load(platform, rows(2), "2.parquet")
    with pytest.raises(RuntimeError, match="has a column size that the contract does not"):
        settle(platform)
    assert read(platform, "n") == [(1,), (2,)]


def test_windows_that_load_side_by_side_add_a_new_column_once(
    platform_of: Callable[..., Platform],
) -> None:
    platform = platform_of(table(load_by="window", changed_files=None))
    of = platform.table("events")
    hours = range(0, 24 * 60, 12)
    rows(*hours, size=pl.Series(list(hours))).write_parquet(platform.settings.data / "1.parquet")

    def load_month(key: str) -> LoadReport:
        window = window_for_key(Grain.MONTH, key)
        return load_window(platform.settings, platform.postgres, platform.clock, of, window)

    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(load_month, ("2024-01", "2024-02")))
    assert [report.refused for report in reports] == [(), ()]
    assert sorted(len(report.evolved) for report in reports) == [0, 1]
    assert read(platform, "n, size") == [(n, n) for n in hours]
    settle(platform)
    rows(1, size=pl.Series(["text"])).write_parquet(platform.settings.data / "1.parquet")
    (refused,) = load_month("2024-01").refused
    assert 'using "size"::text' in refused.problem
    assert read(platform, "n, size") == [(n, n) for n in hours]
