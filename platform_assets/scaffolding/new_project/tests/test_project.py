"""The table files and the models of this project are valid. Needs no database."""

from pathlib import Path

from lakebed import Lakebed, build_defs

PROJECT = Path(__file__).parents[1]


def test_the_tables_are_valid():
    assert "readings" in Lakebed(folder=PROJECT).tables


def test_the_models_are_valid_and_dagster_sees_them():
    defs = build_defs(Lakebed(folder=PROJECT).settings)
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert {"hot/readings", "cold/readings", "marts/daily_temperature"} <= keys
