"""What the tests of write modes share: deliveries, loads and questions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lakebed.ingest.load import load_table
from lakebed.ingest.report import LoadReport
from lakebed.resources.clock import FixedClock
from lakebed.store.platform import Platform

TABLES = Path(__file__).parents[1] / "modes"
DAY_ONE = datetime(2024, 3, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    """Return a day of March 2024."""
    return DAY_ONE + timedelta(days=number - 1)


def deliver(platform: Platform, name: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows to a file below the data folder; a CSV has text, and nothing for null."""
    path = platform.settings.data / name
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame(rows, infer_schema_length=None).write_parquet(path)
    else:
        texts = [
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
            for row in rows
        ]
        pl.DataFrame(texts, infer_schema_length=None).write_csv(path)
    return path


def load(platform: Platform, name: str, at: datetime | None = None) -> LoadReport:
    """Load a table, at a time if one is given; make sure that every row is accounted for."""
    clock = FixedClock(at) if at else platform.clock
    report = load_table(platform.settings, platform.postgres, clock, platform.table(name))
    assert report.balanced, report
    if report.load_id is not None:
        counted = "rows_read, inserted, updated, unchanged, superseded, marked, rejected, deleted"
        ledger = ask(
            platform,
            f"select {counted} from lakebed.load where load_id = '{report.load_id}'",  # noqa: S608
        )
        assert ledger == [tuple(getattr(report, name) for name in counted.split(", "))]
    return report


def counts(report: LoadReport) -> dict[str, int]:
    """Return what a load did without the numbers that are nought."""
    names = ["inserted", "updated", "unchanged", "superseded", "marked", "rejected", "deleted"]
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def ask(platform: Platform, query: str) -> list[Any]:
    """Ask PostgreSQL."""
    with platform.postgres.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def do(platform: Platform, *statements: str) -> None:
    """Run statements in PostgreSQL."""
    with platform.postgres.connect(autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def seen(platform: Platform, query: str) -> list[Any]:
    """Ask the lake."""
    with platform.lake.session() as session:
        return session.sql(query).fetchall()


def customer(id: int, city: str | None, at: int, gone: str | None = None) -> dict[str, Any]:
    """Return a row of customers."""
    return {"id": id, "kind": city, "at": day(at), "gone": gone}
