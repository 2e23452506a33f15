"""Lookups of a parent that has a table file of its own: it is made by that, and loaded first."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandera.polars as pa
import pytest

from lakebed.errors import LakebedError
from lakebed.operations.load_tables import Outcome, load_in_order
from lakebed.recovery.backup import take_backup
from lakebed.recovery.restore_backup import restore
from lakebed.recovery.rollback import rollback
from lakebed.schema.apply import apply_plan, read_plan
from lakebed.schema.ddl import DriftError
from lakebed.spec.table import CsvFiles, Lookup, SourceTable, Surrogate
from lakebed.spec.table_files import load_tables
from lakebed.store.platform import Platform
from tests.support.queried import ask

Make = Callable[..., Platform]
TABLES_PAGE = Path(__file__).parents[3] / "docs/tables.md"
JOINED = "select url, name, country from articles a join publications p on p.id = a.publication_id"


class Publication(pa.DataFrameModel):
    name: str
    country: str = pa.Field(nullable=True)


class NeedsCountry(pa.DataFrameModel):
    name: str
    country: str


class Article(pa.DataFrameModel):
    url: str
    publication: str


def publications(model: Any = Publication, **more: Any) -> SourceTable:
    options = {"surrogate": Surrogate("id"), "key": ("name",), "write_mode": "merge"} | more
    source = CsvFiles(glob="publications/*.csv")
    return SourceTable(name="publications", model=model, source=source, **options)


def articles(**more: Any) -> SourceTable:
    lookup = Lookup(
        column="publication_id",
        natural=("publication",),
        table="publications",
        natural_key=("name",),
        **more,
    )
    return SourceTable(
        name="articles",
        model=Article,
        source=CsvFiles(glob="articles/*.csv"),
        key=("url",),
        write_mode="merge",
        reject_share=0.5,
        lookups=lookup,
    )


def deliver(platform: Platform, name: str, text: str) -> None:
    path = platform.settings.data / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def load(platform: Platform, *names: str) -> list[Outcome]:
    tables = [platform.table(name) for name in names] if names else platform.tables
    return list(load_in_order(platform, [(table, None) for table in tables]))


def load_well(platform: Platform, *names: str) -> list[Outcome]:
    outcomes = load(platform, *names)
    assert [problem for each in outcomes for problem in each.problems(platform)] == []
    return outcomes


@pytest.mark.parametrize("kind", ["uuid", "identity"])
@pytest.mark.parametrize("mode", ["merge", "replace"])
def test_parents_come_first_and_keep_their_surrogate(
    platform_of: Make, kind: Any, mode: str
) -> None:
    parent = publications(surrogate=Surrogate("id", kind=kind), write_mode=mode)
    platform = platform_of(articles(key_kind=kind), parent)
    deliver(platform, "publications/1.csv", "name,country\nx,DE\n")
    deliver(platform, "articles/1.csv", "url,publication\nu1,x\nu2,y\n")
    outcomes = load_well(platform)
    assert [outcome.name for outcome in outcomes] == ["publications", "articles"]
    assert ask(platform, f"{JOINED} order by 1") == [("u1", "x", "DE"), ("u2", "y", None)]
    ids = ask(platform, "select id from publications order by name")
    deliver(platform, "publications/1.csv", "name,country\nx,AT\ny,FR\n")
    load_well(platform)
    assert ask(platform, f"{JOINED} order by 1") == [("u1", "x", "AT"), ("u2", "y", "FR")]
    assert ask(platform, "select id from publications order by name") == ids
    with platform.lake.session() as session:
        found = session.sql(f"{JOINED} order by 1").fetchall()
    assert found == [("u1", "x", "AT"), ("u2", "y", "FR")]


def test_a_child_that_is_loaded_alone_makes_the_parent_by_its_file(platform_of: Make) -> None:
    platform = platform_of(articles(), publications(unique=(("country",),)))
    deliver(platform, "articles/1.csv", "url,publication\nu1,x\n\xff,\n")
    load(platform, "articles")
    deliver(platform, "articles/1.csv", "url,publication\nu1,x\n")
    load_well(platform, "articles")
    columns = "select column_name from information_schema.columns where table_name = 'publications'"
    assert ask(platform, f"{columns} order by ordinal_position") == [
        ("id",),
        ("name",),
        ("country",),
    ]
    deliver(platform, "publications/1.csv", "name,country\nx,DE\n")
    load_well(platform, "publications")
    assert ask(platform, JOINED) == [("u1", "x", "DE")]
    with platform.postgres.connect(autocommit=True) as connection:
        for table in platform.tables:
            assert read_plan(connection, table, platform.clock.now()).changes == ()


def test_articles_wait_for_publications_that_cannot_be_made_of_a_name(platform_of: Make) -> None:
    platform = platform_of(articles(), publications(NeedsCountry))
    deliver(platform, "articles/1.csv", "url,publication\nu1,x\nu2,y\n")
    (outcome,) = load(platform, "articles")
    assert isinstance(outcome.error, DriftError)
    assert "insert_missing=False" in str(outcome.error)
    platform = platform_of(articles(insert_missing=False), publications(NeedsCountry))
    deliver(platform, "publications/1.csv", "name,country\nx,DE\n")
    load_well(platform)
    assert ask(platform, JOINED) == [("u1", "x", "DE")]
    deliver(platform, "publications/2.csv", "name,country\ny,FR\n")
    load_well(platform, "publications")
    assert ask(platform, f"{JOINED} order by 1") == [("u1", "x", "DE"), ("u2", "y", "FR")]


@pytest.mark.parametrize(
    ("parent", "lookup", "line"),
    [
        ({"surrogate": None}, {}, "surrogate=Surrogate('id')"),
        ({"surrogate": Surrogate("pid")}, {}, "key='pid'"),
        ({"surrogate": Surrogate("id", kind="identity")}, {}, "key_kind='identity'"),
        ({}, {"key_kind": "identity"}, "key_kind='uuid'"),
    ],
)
def test_a_lookup_that_does_not_fit_the_parents_file_says_the_line_to_write(
    platform_of: Make, parent: dict[str, Any], lookup: dict[str, Any], line: str
) -> None:
    platform = platform_of(articles(**lookup), publications(**parent))
    deliver(platform, "articles/1.csv", "url,publication\nu1,x\n")
    (outcome,) = load(platform, "articles")
    assert isinstance(outcome.error, LakebedError)
    assert line in str(outcome.error)


def test_a_parent_of_nothing_but_keys_gets_its_file_later(platform_of: Make) -> None:
    alone = platform_of(articles())
    deliver(alone, "articles/1.csv", "url,publication\nu1,x\n")
    load_well(alone)
    platform = platform_of(articles(), publications())
    deliver(platform, "publications/1.csv", "name,country\nx,DE\n")
    with platform.postgres.connect(autocommit=True) as connection:
        table = platform.table("publications")
        plan = read_plan(connection, table, platform.clock.now())
        apply_plan(connection, table, plan, platform.clock.now())
        assert read_plan(connection, table, platform.clock.now()).changes == ()
    load_well(platform)
    assert ask(platform, JOINED) == [("u1", "x", "DE")]


def test_a_column_that_postgresql_fills_does_not_stop_a_load(platform_of: Make) -> None:
    platform = platform_of(publications(surrogate=None))
    deliver(platform, "publications/1.csv", "name,country\nx,DE\n")
    load_well(platform)
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("alter table publications add made timestamptz not null default now()")
    deliver(platform, "publications/2.csv", "name,country\ny,FR\n")
    load_well(platform)
    assert ask(platform, "select count(*) from publications where made is not null") == [(2,)]


def test_tables_that_look_each_other_up_are_both_made(platform_of: Make) -> None:
    class Owner(pa.DataFrameModel):
        name: str
        paper: str = pa.Field(nullable=True)

    owners = SourceTable(
        name="owners",
        model=Owner,
        source=CsvFiles(glob="owners/*.csv"),
        key=("name",),
        write_mode="merge",
        surrogate=Surrogate("id"),
        lookups=Lookup(
            column="paper_id", natural=("paper",), table="papers", natural_key=("name",)
        ),
    )

    class Paper(pa.DataFrameModel):
        name: str
        owner: str = pa.Field(nullable=True)

    papers = SourceTable(
        name="papers",
        model=Paper,
        source=CsvFiles(glob="papers/*.csv"),
        key=("name",),
        write_mode="merge",
        surrogate=Surrogate("id"),
        lookups=Lookup(
            column="owner_id", natural=("owner",), table="owners", natural_key=("name",)
        ),
    )
    platform = platform_of(owners, papers)
    deliver(platform, "papers/1.csv", "name,owner\nx,\n")
    deliver(platform, "owners/1.csv", "name,paper\no,x\n")
    first, second = load(platform)
    assert first.error is None
    assert isinstance(second.error, DriftError)  # it began as nothing but its keys
    with platform.postgres.connect(autocommit=True) as connection:
        table = platform.table(second.name)
        plan = read_plan(connection, table, platform.clock.now())
        apply_plan(connection, table, plan, platform.clock.now())
        assert read_plan(connection, table, platform.clock.now()).changes == ()
    load_well(platform)
    owned = "select o.name, p.name from owners o join papers p on p.id = o.paper_id"
    assert ask(platform, owned) == [("o", "x")]


def test_the_worked_example_of_the_documents_works(platform_of: Make, tmp_path: Path) -> None:
    section = TABLES_PAGE.read_text().partition("### A parent with a file of its own")[2]
    section = section.partition("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.M | re.S)
    folder = tmp_path / "example"
    folder.mkdir()
    for number, block in enumerate(blocks):
        (folder / f"table_{number}.py").write_text(block)
    platform = platform_of(*load_tables(folder))
    (console,) = re.findall(r"^```console\n(.*?)^```", section, re.M | re.S)
    lines = console.splitlines()
    deliver(platform, "publications/1.csv", "\n".join(lines[1:3]) + "\n")
    deliver(platform, "articles/1.csv", "\n".join(lines[3:6]) + "\n")
    load_well(platform)
    (query,) = re.findall(r'lakebed sql "(.*)"', console)
    shown = [tuple(re.split(r"\s{2,}", line.strip())) for line in lines[-2:]]
    with platform.lake.session() as session:
        found = session.sql(query).fetchall()
    assert sorted(tuple(v for v in row if v is not None) for row in found) == sorted(shown)


@pytest.mark.parametrize("kind", ["uuid", "identity"])
def test_a_rollback_and_a_backup_bring_rows_back_with_their_surrogate(
    platform_of: Make, kind: Any
) -> None:
    parent = publications(surrogate=Surrogate("id", kind=kind), deletes="full_extract")
    platform = platform_of(parent)
    table = platform.table("publications")
    deliver(platform, "publications/1.csv", "name,country\nx,DE\ny,FR\n")
    load_well(platform)
    home = platform.settings.home
    before = ask(platform, "select id, name, country from publications order by name")
    backup = take_backup(home, platform.postgres, platform.lake, table)
    deliver(platform, "publications/1.csv", "name,country\ny,AT\nz,IT\n")
    load_well(platform)
    rollback(platform.postgres, platform.lake.files, table)
    after = "select id, name, country from publications order by name"
    assert ask(platform, after) == before
    with platform.postgres.connect(autocommit=True) as connection:
        connection.execute("delete from publications")
    restore(home, platform.postgres, platform.lake.files, table, backup.backup_id)
    assert ask(platform, after) == before
    deliver(platform, "publications/1.csv", "name,country\nx,DE\ny,FR\nw,ES\n")
    load_well(platform)
    ids = ask(platform, "select count(distinct id) from publications")
    assert ids == [(3,)]
