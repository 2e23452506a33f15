"""A run of a parent finishes the loads that waited for it, and says so of their assets."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandera.polars as pa
import polars as pl
import pytest

from lakebed.build import build_defs
from lakebed.ingest.load import load_table
from lakebed.schema.ddl import ensure_table
from lakebed.spec.table import CsvFiles, Lookup, SourceTable
from lakebed.store.platform import open_platform
from tests.conftest import settings_for
from tests.dagster.conftest import Project, asset_key


class Artist(pa.DataFrameModel):
    id: pl.Int64
    name: str


class Album(pa.DataFrameModel):
    id: pl.Int64
    artist_id: pl.Int64


class Review(pa.DataFrameModel):
    url: str
    artist: str


TABLES = (
    SourceTable(
        name="album",
        model=Album,
        source=CsvFiles(glob="album/*.csv"),
        key=("id",),
        write_mode="replace",
        reject_share=0.5,
    ),
    SourceTable(
        name="artist",
        model=Artist,
        source=CsvFiles(glob="artist/*.csv"),
        key=("id",),
        write_mode="merge",
    ),
    SourceTable(
        name="review",
        model=Review,
        source=CsvFiles(glob="review/*.csv"),
        lookups=(Lookup(column="artist_key", natural=("artist",), table="artist_names"),),
    ),
)


@pytest.fixture
def music(tmp_path: Path, database: str, instance: dg.DagsterInstance) -> Project:
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(tmp_path / "models"))
    platform = open_platform(settings, TABLES)
    project = Project(platform, build_defs(settings, tables=TABLES), instance)
    with platform.postgres.connect(autocommit=True) as connection:
        for table in TABLES[:2]:
            ensure_table(connection, table)
    project.execute("alter table album add foreign key (artist_id) references artist (id)")
    return project


def deliver(project: Project, path: str, text: str) -> None:
    file = project.data / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_a_run_of_the_parent_finishes_the_load_of_its_child(music: Project) -> None:
    deliver(music, "artist/1.csv", "id,name\n1,Ella\n")
    deliver(music, "album/1.csv", "id,artist_id\n1,1\n2,2\n")
    music.run("hot/artist")
    music.run("hot/album")
    assert music.execute("select id from album") == [(1,)]
    deliver(music, "artist/2.csv", "id,name\n2,Miles\n")
    result = music.run("hot/artist")
    assert result.success
    assert music.execute("select id from album order by 1") == [(1,), (2,)]
    event = music.instance.get_latest_materialization_event(asset_key("hot/album"))
    assert event is not None
    assert event.run_id == result.run_id
    materialization = event.asset_materialization
    assert materialization is not None
    assert materialization.metadata["rows_inserted"].value == 1


def asked(music: Project) -> list[tuple[str, str | None]]:
    """Return the assets that the sensor asks for, each with its run key."""
    with dg.build_sensor_context(instance=music.instance, definitions=music.defs) as context:
        result = music.defs.resolve_sensor_def("new_files")(context)
    assert isinstance(result, dg.SensorResult)
    return [
        (key.to_user_string(), request.run_key)
        for request in result.run_requests or []
        for key in request.asset_selection or ()
    ]


def test_the_sensor_asks_for_parents_first(music: Project) -> None:
    deliver(music, "artist/1.csv", "id,name\n1,Ella\n")
    deliver(music, "album/1.csv", "id,artist_id\n1,1\n")
    assert [key for key, _ in asked(music)] == ["hot/artist", "hot/album"]


def test_the_sensor_leaves_a_table_alone_that_waits_until_its_parent_was_loaded(
    music: Project,
) -> None:
    deliver(music, "artist/1.csv", "id,name\n1,Ella\n")
    deliver(music, "album/1.csv", "id,artist_id\n1,1\n2,2\n")
    music.run("hot/artist")
    music.run("hot/album")
    assert asked(music) == []
    deliver(music, "artist/2.csv", "id,name\n2,Miles\n")
    given = (music.platform.settings, music.platform.postgres, music.platform.clock)
    load_table(*given, music.platform.table("artist"))  # and stopped before it finished others
    ((key, run_key),) = asked(music)
    assert key == "hot/album"
    assert asked(music) == [(key, run_key)]
    music.run("hot/album")
    assert music.execute("select id from album order by 1") == [(1,), (2,)]
    assert asked(music) == []
