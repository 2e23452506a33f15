"""What a query touches: the cold files and rows that are left after pruning, and the hot rows."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from lakebed.resources.layouts import ask
from lakebed.resources.manifest import Counted
from lakebed.resources.pruning import Bounds, Parameters, Scan
from lakebed.resources.session import ReadSession
from lakebed.resources.tiers import LakeTable

COUNT_UP_TO = 10_000_000
"""Hot rows are counted so far, and no further."""


@dataclass(frozen=True)
class Touched:
    """How much of one table a query reads.

    bounds: of the times that it can touch, both ends included. files: the cold files that it opens.
    hot_rows: hot rows within the bounds, at most COUNT_UP_TO; None if the table does not exist.
    text_orders: columns that the query reads and PostgreSQL orders differently, and how.
    """

    table: str
    bounds: Bounds
    files: tuple[str, ...]
    cold: Counted
    of_cold: Counted
    hot_rows: int | None
    text_orders: tuple[tuple[str, str], ...] = ()


def touched(session: ReadSession, query: str, params: Parameters = None) -> list[Touched]:
    """Say what one statement touches, and count it, without running it.

    Raises LakeReadError, and duckdb.Error where the statement does not bind.
    """
    session.bare.execute(f"explain {query}", params)
    needed = session.needed(query, params)
    return [_touched(session, name, needed[name]) for name in sorted(needed)]


def _touched(session: ReadSession, name: str, scan: Scan) -> Touched:
    manifest, table, bounds = session.manifest, session.tables[name], scan.bounds
    return Touched(
        name,
        bounds,
        tuple(path for part in manifest.within(name, bounds) for path in manifest.paths(part)),
        manifest.count(name, bounds),
        manifest.count(name, Bounds()),
        _hot_rows(session, table, bounds) if name in session.hot else None,
        _text_orders(session, name, scan),
    )


def _text_orders(session: ReadSession, name: str, scan: Scan) -> tuple[tuple[str, str], ...]:
    hot = session.hot.get(name, {})
    return tuple(
        (column, order)
        for column, kind in session.tables[name].columns
        if kind == "VARCHAR"
        and column in hot
        and scan.reads(column)
        and (order := hot[column].order) is not None
    )


def _hot_rows(session: ReadSession, table: LakeTable, bounds: Bounds) -> int:
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if table.time:
        time = sql.Identifier(table.time)
        if bounds.first is not None:
            conditions.append(sql.SQL("{} >= {}").format(time, bounds.first.isoformat()))
        if bounds.last is not None:
            conditions.append(sql.SQL("{} <= {}").format(time, bounds.last.isoformat()))
    query = sql.SQL("select count(*) as n from (select from {} where {} limit {}) touched").format(
        sql.Identifier(table.schema, table.name),
        sql.SQL(" and ").join(conditions),
        COUNT_UP_TO,
    )
    return int(ask(session.bare, query)[0][0])
