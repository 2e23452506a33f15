"""Databases in the graph: seen when they change, a failed run when out of reach."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import dagster as dg

from lakebed.build import build_defs
from lakebed.spec.table import SqliteTable, SqlTable
from tests.conftest import settings_for
from tests.support.queried import events, orders

TABLES = (
    events(SqliteTable(database="log.db", table="events")),
    orders(SqlTable(url_setting="NO_SUCH_SETTING", table="orders")),
)


def write(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def keys_asked(defs: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, str | None]:
    with dg.build_sensor_context(instance=instance, definitions=defs) as context:
        result = defs.resolve_sensor_def("new_files")(context)
    assert isinstance(result, dg.SensorResult)
    return {
        key.to_user_string(): request.run_key
        for request in result.run_requests or []
        for key in request.asset_selection or ()
    }


def test_a_database_out_of_reach_is_a_failed_run_and_hides_no_other(
    tmp_path: Path, database: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "models").mkdir()
    settings = settings_for(tmp_path, database, LAKEBED_MODELS=str(tmp_path / "models"))
    defs = build_defs(settings, tables=TABLES)
    write(
        settings.data / "log.db",
        "create table events (at integer, what text)",
        "insert into events values (1, 'a')",
    )
    with dg.instance_for_test() as instance:
        first = keys_asked(defs, instance)
        assert set(first) == {"hot/events", "hot/orders"}
        assert keys_asked(defs, instance)["hot/events"] == first["hot/events"]
        job = defs.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey(["hot", "events"])]
        )
        assert done.success
        assert set(keys_asked(defs, instance)) == {"hot/orders"}
        write(settings.data / "log.db", "insert into events values (2, 'b')")
        assert keys_asked(defs, instance)["hot/events"] != first["hot/events"]
        failed = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(["hot", "orders"])],
            raise_on_error=False,
        )
        assert not failed.success
