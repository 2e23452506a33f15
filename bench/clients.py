"""Time queries of a stock DuckDB through the client catalog beside sessions of Lakebed.

After `make demo`: `.venv/bin/python bench/clients.py`. Needs the wheel duckdb-extension-ducklake.
Prints the best of three, in seconds, after one that warms up; both must answer alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lakebed.doors.attach_recipes import attach_statement, connection_string
from lakebed.doors.write import write_catalog
from lakebed.resources.extensions import in_memory
from lakebed.resources.settings import read_settings
from lakebed.store.platform import open_platform

QUERIES = {
    "count": "select count(*) from flights",
    "by carrier": "select carrier, count(*) from flights group by 1 order by 2 desc limit 1",
    "a cold month": "select origin, count(*) from flights where time_hour >= '2013-03-01'"
    " and time_hour < '2013-04-01' group by 1 order by 1",
    "a join": "select a.name, count(*) from flights join airlines a using (carrier)"
    " group by 1 order by 2 desc limit 3",
    "unpartitioned": "select count(*) from airlines",
}


def best(ask: Callable[[str], Any], query: str) -> tuple[float, Any]:
    """Return the seconds of the best of three, and the answer."""
    answer, seconds = ask(query), []
    for _ in range(3):
        began = time.perf_counter()
        answer = ask(query)
        seconds.append(time.perf_counter() - began)
    return min(seconds), answer


def main() -> None:
    """Print a line a query."""
    platform = open_platform(read_settings())
    write_catalog(platform)
    with (
        in_memory(["postgres_scanner", "ducklake"]) as client,
        platform.lake.sessions() as sessions,
    ):
        client.execute("set TimeZone = 'UTC'")
        client.execute(attach_statement(connection_string(platform)))
        client.execute("use lake")

        def from_session(query: str) -> Any:
            with sessions.open() as session:
                return session.sql(query).fetchall()

        print(f"{'query':<14} {'client':>7} {'session':>7}")
        for name, query in QUERIES.items():
            there, answer = best(lambda text: client.execute(text).fetchall(), query)
            ours, expected = best(from_session, query)
            if answer != expected:
                raise SystemExit(f"{name}: the client says {answer}, Lakebed {expected}")
            print(f"{name:<14} {there:>7.3f} {ours:>7.3f}")


if __name__ == "__main__":
    main()
