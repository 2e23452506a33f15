"""Incremental models on a real PostgreSQL: what each run adds, replaces, and leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import duckdb
import pytest

from lakebed.models import increment, materialize
from lakebed.models.materialize import build_model
from lakebed.resources.settings import Settings
from lakebed.store.platform import open_platform
from lakebed.tiering.catalog_file import write_catalog
from lakebed.tiering.housekeep import housekeep
from tests.support import processes
from tests.support.projects import Project

NEWER = "{% if is_incremental() %} where n > (select max(n) from {{ this }}){% endif %}"


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Project:
    folder = tmp_path / "sql"
    folder.mkdir()
    return Project(replace(settings, file_grace=timedelta(0)), folder)


@pytest.fixture
def feed(project: Project, tmp_path: Path) -> Callable[[str], None]:
    """Say which rows the view raw has from now on: the text of a query."""
    file = tmp_path / "raw.parquet"
    project.write({"a/raw.sql": f"from read_parquet('{file}')"})

    def give(query: str) -> None:
        with duckdb.connect() as connection:
            connection.execute(f"copy ({query}) to '{file}' (format parquet)")

    return give


def model(project: Project, text: str = NEWER, **options: object) -> None:
    said = "".join(f", {name}={value!r}" for name, value in options.items())
    config = f"{{{{ config(materialized='incremental'{said}) }}}}"
    project.write({"a/m.sql": f"{config}\nfrom {{{{ ref('raw') }}}}{text}"})


def rows(project: Project) -> list[tuple[object, ...]]:
    return project.rows("from m order by all")


def files(project: Project) -> list[tuple[Any, ...]]:
    """Return number and rows of each live file."""
    with project.platform.postgres.connect() as connection:
        return connection.execute(
            "select number, rows from lakebed.model_file where superseded_at is null order by 1"
        ).fetchall()


def one(project: Project, error: bool = False) -> str:
    result = project.build("m")["m"]
    assert (result.status == "failed") is error, result.error
    return result.error or ""


def numbers(first: int, last: int, v: str = "'a'") -> str:
    return f"select n::integer as n, {v} as v from range({first}, {last} + 1) r(n)"  # noqa: S608


def test_a_run_adds_a_file_and_a_full_refresh_makes_one(
    project: Project, feed: Callable[[str], None]
) -> None:
    feed(numbers(1, 3))
    model(project)
    assert project.build()["m"].rows == 3
    feed(numbers(2, 5, "'b'"))
    assert project.build("m")["m"].rows == 5
    assert files(project) == [(1, 3), (2, 2)]
    assert [v for _, v in rows(project)] == ["a", "a", "a", "b", "b"]
    one(project)
    assert files(project) == [(1, 3), (2, 2)], "nothing new is no file"
    project.build("m", full_refresh=True)
    assert [v for _, v in rows(project)] == ["b"] * 4
    assert len(files(project)) == 1
    with duckdb.connect(write_catalog(project.platform), read_only=True) as catalog:
        assert catalog.execute("select count(*) from m").fetchall() == [(4,)]


@pytest.mark.parametrize("strategy", ["delete+insert", "merge"])
def test_new_rows_take_the_place_of_those_with_their_key(
    project: Project,
    feed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    monkeypatch.setattr(increment, "SMALL", 0)
    feed(f"{numbers(1, 4)} union all select null, 'a'")
    model(project, "", unique_key="N", incremental_strategy=strategy)
    project.build()
    for query in (numbers(5, 8), numbers(9, 9)):
        feed(query)
        one(project)
    assert files(project) == [(1, 5), (2, 4), (3, 1)]
    feed(f"{numbers(8, 9, chr(39) + 'b' + chr(39))} union all select null, 'b'")
    one(project)
    assert [row for row in rows(project) if row[1] == "b"] == [(8, "b"), (9, "b"), (None, "b")]
    assert project.rows("select count(*), count(distinct n) from m") == [(11, 9)]
    # The file without such a key stays, one loses a row, one has none left.
    assert sorted(count for _, count in files(project)) == [3, 3, 5]
    assert files(project)[0] == (1, 5)


def test_a_key_of_several_columns(project: Project, feed: Callable[[str], None]) -> None:
    feed("select * from (values (1, 'x', 1), (1, 'y', 1), (2, 'x', 1)) t(n, k, v)")
    model(project, "", unique_key=["n", "k"])
    project.build()
    feed("select * from (values (1, 'x', 2), (1, 'x', 3), (3, 'x', 2)) t(n, k, v)")
    one(project)
    expected = [(1, "x", 2), (1, "x", 3), (1, "y", 1), (2, "x", 1), (3, "x", 2)]
    assert rows(project) == expected, "delete+insert adds all new rows, as dbt does"
    model(project, "", unique_key=["n", "k"], incremental_strategy="merge")
    assert "merges 2 rows with one key: n = 1, k = x" in one(project, error=True)
    assert rows(project) == expected


def test_many_small_files_become_one(
    project: Project, feed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(increment, "MANY", 3)
    feed(numbers(1, 1))
    model(project)
    project.build()
    counts = []
    for last in range(2, 8):
        feed(numbers(1, last))
        one(project)
        counts.append(len(files(project)))
    assert counts == [2, 3, 1, 2, 3, 1]
    assert [n for n, _ in rows(project)] == [*range(1, 8)]


def test_columns_that_change(project: Project, feed: Callable[[str], None]) -> None:
    feed(numbers(1, 2))
    model(project)
    project.build()
    feed(f"select *, n * 2 as twice from ({numbers(1, 3)})")  # noqa: S608
    one(project)
    assert rows(project)[-1] == (3, "a"), "ignored, as dbt does"
    model(project, on_schema_change="fail")
    assert "the columns of 'm' changed: twice is new" in one(project, error=True)
    model(project, on_schema_change="append_new_columns")
    feed(f"select n, n * 2 as twice from ({numbers(1, 4)})")  # noqa: S608
    one(project)
    assert rows(project) == [(1, "a", None), (2, "a", None), (3, "a", None), (4, None, 8)]
    feed(f"select n::bigint as N, 1 as twice from ({numbers(1, 5)})")  # noqa: S608
    one(project)
    assert project.rows("select typeof(n), twice from m where n = 5") == [("INTEGER", 1)]
    model(project)
    feed("select 6 as n")
    error = one(project, error=True)
    assert "has v, twice, and its query does not" in error
    assert "lakebed build m --full-refresh" in error


def test_a_model_that_becomes_a_table_and_incremental_again(
    project: Project, feed: Callable[[str], None]
) -> None:
    feed(numbers(1, 2))
    model(project)
    project.build()
    project.write({"a/m.sql": "{{ config(materialized='table') }}select 7 as n"})
    one(project)
    assert (rows(project), files(project)) == ([(7,)], [])
    model(project)
    one(project)
    assert len(rows(project)) == 2


def test_a_hook_sees_all_rows_and_where_it_fails_no_file_is_left(
    project: Project, feed: Callable[[str], None], tmp_path: Path
) -> None:
    feed(numbers(1, 2))
    hook = f"copy (select count(*) from {{{{ this }}}}) to '{tmp_path}/out.csv' (header false)"  # noqa: S608
    model(project, post_hook=hook)
    project.build()
    feed(numbers(1, 5))
    one(project)
    assert (tmp_path / "out.csv").read_text() == "5\n"
    model(project, post_hook="select gone from {{ this }}")
    feed(numbers(1, 6))
    assert "post_hook of 'm' failed" in one(project, error=True)
    assert len(rows(project)) == 5
    assert on_disk(project) == ["m_f0001.parquet", "m_f0002.parquet"]


def on_disk(project: Project) -> list[str]:
    found = project.platform.lake.files.listing("a")
    return sorted(file.path.name for file in found)


Seen = list[tuple[str, list[tuple[object, ...]]]]
BEFORE, AFTER = [(6, 0)], [(6, 2)]


def seen_during_a_run(
    project: Project,
    feed: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[], None] = lambda: None,
) -> Seen:
    """Return what a reader sees after each step of a run that rewrites two files."""
    monkeypatch.setattr(increment, "SMALL", 0)
    feed(numbers(1, 3))
    model(project, "", unique_key="n")
    project.build()
    feed(numbers(4, 6))
    one(project)
    feed(numbers(3, 4, "'b'"))
    seen: Seen = []
    models = project.models
    sabotage()
    query = "select count(*), count(*) filter (v = 'b') from m"
    build_model(
        project.platform,
        models,
        models.get("m"),
        on_step=lambda step: seen.append((step, project.rows(query))),
    )
    return seen


def test_readers_see_all_of_a_run_or_nothing(
    project: Project, feed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = seen_during_a_run(project, feed, monkeypatch)
    steps = ["written", "named", "named", "named", "recorded"]
    assert seen == [*((step, BEFORE) for step in steps), ("committed", AFTER)]


def test_readers_notice_files_that_are_recorded_apart(
    project: Project, feed: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def apart(connection: object, name: str, kept: Any, files: Any) -> None:
        with project.platform.postgres.connect(autocommit=True) as other:
            record(other, name, kept, [])
            during.extend(project.rows("select count(*), count(*) filter (v = 'b') from m"))
            record(other, name, kept, files)

    during: list[tuple[object, ...]] = []
    record = materialize.record
    seen_during_a_run(
        project, feed, monkeypatch, lambda: monkeypatch.setattr(materialize, "record", apart)
    )
    assert during not in ([], BEFORE, AFTER)


@pytest.mark.parametrize("step", ["named", "recorded", "committed"])
def test_a_build_killed_after_a_step_has_added_all_or_nothing(
    project: Project, feed: Callable[[str], None], step: str
) -> None:
    feed(numbers(1, 3))
    model(project, "", unique_key="n")
    project.build()
    feed(numbers(3, 5, "'b'"))
    settings = project.platform.settings
    assert processes.run(processes.build_one, settings, "m", step) == -9
    assert len(rows(project)) == (5 if step == "committed" else 3)
    assert processes.run(processes.build_one, settings, "m", None) == 0
    assert rows(project) == [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")]
    platform = open_platform(settings, tables=())
    assert housekeep(platform).failed == []
    assert len(rows(project)) == 5
    live = {f"m_f{number:04d}.parquet" for number, _ in files(project)}
    assert set(on_disk(project)) == live, "superseded and nameless files go, live ones stay"


def test_two_builds_at_once_add_each_row_once(
    project: Project, feed: Callable[[str], None]
) -> None:
    feed(numbers(1, 3))
    model(project)
    project.build()
    feed(numbers(1, 9))
    models = project.models
    other = Thread(target=lambda: build_model(project.platform, models, models.get("m")))

    def on_step(step: str) -> None:
        if step == "written":
            other.start()
            _until_somebody_waits(project)

    build_model(project.platform, models, models.get("m"), on_step=on_step)
    other.join(60)
    assert [n for n, _ in rows(project)] == [*range(1, 10)]
    assert [count for _, count in files(project)] == [3, 6]


def _until_somebody_waits(project: Project) -> None:
    with project.platform.postgres.connect(autocommit=True) as connection:
        query = "select from pg_locks where locktype = 'advisory' and not granted"
        while not connection.execute(query).fetchall():
            connection.execute("select pg_sleep(0.02)")


def test_a_missing_file_is_an_error_and_a_full_refresh_repairs_it(
    project: Project, feed: Callable[[str], None]
) -> None:
    feed(numbers(1, 3))
    model(project)
    project.build()
    project.platform.lake.files.remove("a/m/m_f0001.parquet")
    feed(numbers(1, 4))
    error = one(project, error=True)
    assert "the files of 'm' cannot be read" in error
    project.build("m", full_refresh=True)
    assert len(rows(project)) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"incremental_strategy": "merge"}, "has no unique_key"),
        ({"incremental_strategy": "insert_overwrite"}, "'append', 'delete+insert'"),
        ({"on_schema_change": "sync_all_columns"}, "'append_new_columns'"),
        ({"unique_key": []}, "Name a column"),
    ],
)
def test_options_that_cannot_be_used(
    project: Project, options: dict[str, object], said: str
) -> None:
    project.write({"a/raw.sql": "select 1 as n"})
    model(project, **options)
    models = project.models
    assert [item.name for item in models.broken] == ["m"]
    assert said in str(models.broken[0].error)
    assert [built.name for built in models.models] == ["raw"]


def test_a_key_that_is_no_column(project: Project, feed: Callable[[str], None]) -> None:
    feed(numbers(1, 3))
    model(project, "", unique_key="id")
    project.build()
    assert "unique_key of 'm' names 'id', which is not a column of the model" in one(
        project, error=True
    )
