"""What people's own assets take: `lake`, all history as one DuckDB, and `hot`, PostgreSQL.

@dg.asset(deps=[["cold", "flights"]])
def busiest_day(lake: LakeResource) -> ...:
    with lake.get_connection() as connection:
        connection.sql("select ... from flights")

build_defs() brings both. Other definitions may name them: resources={"lake": LakeResource()}.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import duckdb
from dagster_duckdb import DuckDBResource
from pydantic import PrivateAttr

from lakebed.resources.lake import Lake
from lakebed.resources.postgres import Connection, Postgres
from lakebed.resources.session import ReadSession
from lakebed.resources.settings import read_settings
from lakebed.store.platform import open_platform


class LakeResource(DuckDBResource):
    """A DuckDB in memory in which every table and model is a view, over one snapshot.

    It reads the lake of the project that the working folder is in, unless build_defs() made it for
    other settings.
    """

    database: str = ":memory:"
    _lake: Lake | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, lake: Lake) -> LakeResource:
        """Return the resource that reads one lake."""
        resource = cls()
        resource._lake = lake
        return resource

    @contextmanager
    def get_connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a connection for reading; closed at the end, whatever happens."""
        with self.session() as session:
            yield session.connection

    @contextmanager
    def session(self) -> Iterator[ReadSession]:
        """Open a session that prunes cold files; see lakebed.resources.lake."""
        lake = open_platform(read_settings()).lake if self._lake is None else self._lake
        with lake.session() as session:
            yield session


class HotResource:
    """PostgreSQL, migrated and in UTC."""

    def __init__(self, postgres: Postgres) -> None:
        """Remember the server; open nothing."""
        self._postgres = postgres

    @contextmanager
    def get_connection(self) -> Iterator[Connection]:
        """Open a psycopg connection; commits at the end, rolls back on an error."""
        with self._postgres.connect() as connection:
            yield connection


def platform_resources(lake: Lake, postgres: Postgres) -> dict[str, Any]:
    """Return the resources by their keys. Opens nothing."""
    return {
        "lake": dg.ResourceDefinition(
            lambda _: LakeResource.of(lake), description="Hot and cold rows as one DuckDB."
        ),
        "hot": dg.ResourceDefinition(
            lambda _: HotResource(postgres), description="PostgreSQL, the hot tier."
        ),
    }
