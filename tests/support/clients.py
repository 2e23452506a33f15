"""A stock DuckDB with the extension ducklake, as a user has it who never installed Lakebed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import duckdb
import pytest

from lakebed.doors.attach_recipes import attach_statement, connection_string
from lakebed.resources.extensions import in_memory
from lakebed.store.platform import Platform

needs_ducklake = pytest.mark.skipif(
    find_spec("duckdb_extension_ducklake") is None,
    reason="the wheel duckdb-extension-ducklake is not installed",
)


@contextmanager
def attached(
    platform: Platform, user: str | None = None, *, read_only: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach the catalog as `lakebed attach` says, and use it.

    Args:
        platform: The platform, whose catalog was written.
        user: The role that reads, by default that of the platform.
        read_only: Whether the client says so.
    """
    statement = attach_statement(connection_string(platform))
    if user is not None:
        statement = statement.replace("user=postgres", f"user={user}")
        assert f"user={user}" in statement
    if not read_only:
        statement = statement.replace(", READ_ONLY", "")
    with in_memory(["postgres_scanner", "ducklake"]) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(statement)
        connection.execute("use lake")
        yield connection


def asked(platform: Platform, query: str) -> list[Any]:
    """Return what a fresh client sees."""
    with attached(platform) as connection:
        return connection.execute(query).fetchall()
