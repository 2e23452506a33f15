"""A session that PostgreSQL ends is an error for its reader, and not the end of the process."""

from __future__ import annotations

import sys

import duckdb
import pytest

from lakebed.resources.settings import Settings
from lakebed.store.platform import Platform, open_platform
from tests.support import processes


def read_and_be_cut_off(settings: Settings, asks: bool) -> None:
    platform = open_platform(settings)
    try:
        with platform.lake.session() as session:
            with platform.postgres.connect(autocommit=True) as other:
                other.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            if asks:
                session.bare.execute("select * from pg.lakebed.cold_file")
    except duckdb.Error:
        sys.exit(3)


@pytest.mark.parametrize(("asks", "code"), [(False, 0), (True, 3)])
def test_a_reader_whose_session_was_ended_lives_on(
    platform: Platform, asks: bool, code: int
) -> None:
    assert processes.run(read_and_be_cut_off, platform.settings, asks) == code
