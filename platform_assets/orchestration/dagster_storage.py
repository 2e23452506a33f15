"""Dagster's storage in PostgreSQL, with connections that stay open.

Dagster opens a connection for each statement, which takes ten times as long as the statement: a
run of 1,000 partitions would spend 20 seconds on its books. One that a restart of the server broke
is noticed before it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine
from sqlalchemy.exc import InternalError

from lakebed.orchestration.dagster_private import replace_method, use_engine

MORE_CONNECTIONS = 20
"""For the threads of one process; they are closed again after use, one stays open."""

SECONDS_OPEN = 1800
TRANSACTION_HAS_FAILED = "25P02"


class PooledPostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules, each over one open connection a process."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        use_engine(
            self,
            lambda: create_pg_engine(
                self.postgres_url,
                isolation_level="AUTOCOMMIT",
                pool_size=1,
                max_overflow=MORE_CONNECTIONS,
                pool_recycle=SECONDS_OPEN,
                pool_pre_ping=True,
            ),
        )
        replace_method(
            self.event_log_storage, "initialize_concurrency_limit_to_default", tolerating_a_race
        )

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> PooledPostgresStorage:
        """Return the storage that the instance file describes."""
        return cls(config_value["postgres_url"], inst_data=inst_data)


def tolerating_a_race(initialize: Callable[[str], bool]) -> Callable[[str], bool]:
    """Let two runs meet a pool for the first time at once.

    Where the limit is there already, Dagster goes on in the transaction in which its insert failed,
    which PostgreSQL refuses, and the run would fail.
    """

    def initialize_once(pool: str) -> bool:
        try:
            return initialize(pool)
        except InternalError as error:
            if getattr(error.orig, "pgcode", None) != TRANSACTION_HAS_FAILED:
                raise
            return True

    return initialize_once
