"""A query gets exact values of hot rows, or it is refused: never a different value silently.

DuckDB's types have no NaN for a numeric, no time after the year 294246, no infinite interval and no
list of two dimensions. Its postgres extension reads such values as different ones, or fails on the
whole table. So before a query reads a column that can hold such a value, PostgreSQL checks, in the
session's own snapshot and within the times that the query can touch:

    a CHECK forbids it            PostgreSQL's planner knows it and reads no row
    no such value exists          the column is read as before; the session remembers it
    such a value exists           the query is refused; queries on other columns are answered
    the query ends by its LIMIT   PostgreSQL checks each value as it sends it, and not before
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import duckdb
from psycopg import sql

from lakebed.resources.hot_columns import Hot
from lakebed.resources.layouts import ask
from lakebed.resources.pruning import Bounds, Scan
from lakebed.resources.tiers import LakeTable
from lakebed.resources.tombstones import asked


@dataclass
class Exactness:
    """The knowledge about the values of one hot table, in one snapshot.

    Attributes:
        errors: The columns whose reading fails in every query, and the error's text.
        watched: The relation of the hot rows in which PostgreSQL watches each value, if any.
    """

    connection: duckdb.DuckDBPyConnection
    table: LakeTable
    hot: Hot
    errors: dict[str, str] = field(default_factory=dict)
    watched: sql.Composable | None = None
    _losses: dict[str, str] = field(default_factory=dict)
    _conditions: dict[str, sql.Composable] = field(default_factory=dict)
    _sound: dict[str, list[Bounds]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Note which columns can hold what DuckDB misreads, by their types alone."""
        for name, kind in self.table.columns:
            column = self.hot.get(name)
            if column is None or name in self.table.as_text:
                continue
            loss, condition = column.loss(kind), column.misread()
            if loss is not None:
                self._losses[name] = (
                    f"{self.table.name}.{name} {loss}; "
                    f"`lakebed plan {self.table.name}` shows how to fix it"
                )
            elif condition is not None:
                self._conditions[name] = condition

    @property
    def is_certain(self) -> bool:
        """Whether no column can hold a value that DuckDB misreads."""
        return not self._losses and not self._conditions

    def find_misread(self, scan: Scan) -> dict[str, str]:
        """Return why columns of the hot rows that a query needs cannot be read, by name."""
        found = {name: why for name, why in self._losses.items() if scan.reads(name)}
        unknown = self._unknown(scan)
        if not unknown:
            return found
        ((*counts,),) = ask(self.connection, self._query(unknown, scan))
        for name, count in zip(unknown, counts, strict=True):
            if count:
                found[name] = self._why(name, count)
            elif not scan.comparisons:
                self._sound.setdefault(name, []).append(scan.bounds)
        return found

    def is_known(self, scan: Scan) -> bool:
        """Whether it is known already what a query can find."""
        lossy = any(scan.reads(name) for name in self._losses)
        return lossy or not self._unknown(scan)

    def _unknown(self, scan: Scan) -> list[str]:
        return [
            name
            for name in self._conditions
            if scan.reads(name)
            and not any(sound.covers(scan.bounds) for sound in self._sound.get(name, ()))
        ]

    def watch(self, scan: Scan) -> None:
        """Let PostgreSQL fail at the first misread value that is read, instead of looking first.

        For queries that may end early, by a LIMIT, long before a look would have.
        """
        columns = sql.SQL(", ").join(
            self._watched_column(name) for name, _ in self.table.columns if name in self.hot
        )
        query = sql.SQL("select {} from {} where true{}").format(
            columns,
            sql.Identifier(self.table.schema, self.table.name),
            sql.SQL("").join([*_within(self.table, scan.bounds), *self._compared(scan)]),
        )
        self.watched = asked(query)

    def _watched_column(self, name: str) -> sql.Composable:
        identifier = sql.Identifier(name)
        if name in self.table.as_text:
            return sql.SQL("{0}::text as {0}").format(identifier)
        if name not in self._conditions:
            return identifier
        column = self.hot[name]
        kind = sql.SQL(f"{column.kind}[]" if column.is_list else column.kind)
        why = f" is in a hot row of {self.table.name}.{name}, and DuckDB has no such value"
        # A cast of an invalid text fails and shows the text.
        return sql.SQL(
            "case when {condition} then ({name}::text || {why})::{kind} else {name} end as {name}"
        ).format(condition=self._conditions[name], name=identifier, why=sql.Literal(why), kind=kind)

    def guard(self) -> bool:
        """Check all columns of all rows, and make reading a column fail that DuckDB would misread.

        For queries that are not checked one by one. Returns whether such columns exist.
        """
        self.errors = self.find_misread(Scan())
        return bool(self.errors)

    def _query(self, names: Collection[str], scan: Scan) -> sql.Composed:
        conditions = [self._conditions[name] for name in names]
        counts = sql.SQL(", ").join(
            sql.SQL("count(*) filter (where {}) as {}").format(condition, sql.Identifier(f"n{i}"))
            for i, condition in enumerate(conditions)
        )
        return sql.SQL("select {} from {} where ({}){}").format(
            counts,
            sql.Identifier(self.table.schema, self.table.name),
            sql.SQL(" or ").join(conditions),
            sql.SQL("").join([*_within(self.table, scan.bounds), *self._compared(scan)]),
        )

    def _compared(self, scan: Scan) -> Iterator[sql.Composable]:
        """Yield the filters that PostgreSQL understands as DuckDB does, so that indexes serve."""
        for comparison in scan.comparisons:
            column = self.hot.get(comparison.column)
            form = (
                None if column is None else column.comparable(comparison.kind, comparison.operator)
            )
            if form is None:
                continue
            values = [sql.SQL(form).format(sql.Literal(value)) for value in comparison.values]
            yield sql.SQL(" and {} {} ({})").format(
                sql.Identifier(comparison.column),
                sql.SQL(comparison.operator),
                sql.SQL(", ").join(values),
            )

    def _why(self, name: str, count: int) -> str:
        kind, condition = dict(self.table.columns)[name], self._conditions[name].as_string()
        return (
            f"{self.table.name}.{name}: {count:,} hot rows hold a value that DuckDB's {kind} has "
            f"not; PostgreSQL finds them by WHERE {condition}. Leave the column out of the query, "
            f"or change these rows of {self.table.schema}.{self.table.name} in PostgreSQL. A CHECK "
            "keeps such values out"
        )


def _within(table: LakeTable, bounds: Bounds) -> Iterator[sql.Composable]:
    if table.time is None:
        return
    time = sql.Identifier(table.time)
    if bounds.first is not None:
        yield sql.SQL(" and {} >= {}").format(time, sql.Literal(bounds.first.isoformat()))
    if bounds.last is not None:
        yield sql.SQL(" and {} <= {}").format(time, sql.Literal(bounds.last.isoformat()))
