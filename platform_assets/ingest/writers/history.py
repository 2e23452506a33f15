"""History (slowly changing dimension, type 2): every version of a row, and when it held.

    key | ... | valid_from | valid_to        half-open; null in valid_to: it holds still

A version begins at the cursor's time where the cursor is a time, else at the load's. What a load
brings is laid over what the table holds of the same keys, from the first of it on, as one timeline:

    old      a version of the table           kept, closed where something follows it earlier
    end      the end of one that nothing followed: the row was gone
    new      what the load says of a moment; it changes nothing where it says what held already
    same, correct, erase, ended               what it says of the very moment a version began, or
                                              the last one ended

So versions that arrive late find their place, in whatever order they come.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
from psycopg import sql

from lakebed.ingest.writers.missing import check_share, keep_rejected, missing_from
from lakebed.ingest.writers.stage import PLACE, Stage
from lakebed.ingest.writers.writer import Counts, Writer, names, same, target_of
from lakebed.spec.columns import GONE, VALID_FROM, VALID_TO

VERSIONS = sql.Identifier("lakebed_versions")
TIMELINE = sql.Identifier("lakebed_timeline")

TIMELINE_QUERY = """
create temporary table {timeline} on commit drop as
with first as (
    select {key}, min({start}) as lakebed_first
    from {versions}
    group by {key}
),
old as (
    select {columns}, {start}, {stop}, {content} as lakebed_content,
        lead({start}) over (partition by {key} order by {start}) as lakebed_next
    from {target} join first using ({key})
    where {stop} is null or {stop} > lakebed_first
),
new as (
    select *, {content} as lakebed_content from {versions}
),
ends as (
    select * from old where {stop} is not null and {stop} is distinct from lakebed_next
),
entries as (
    select {new_columns}, new.{start} as lakebed_at, new.{gone}, new.lakebed_content,
        case
            when ends.{stop} is not null and new.{gone} then 'ended'
            when old.{start} is null then 'new'
            when new.{gone} then 'erase'
            when coalesce(new.lakebed_content *= old.lakebed_content, false) then 'same'
            else 'correct'
        end as lakebed_kind
    from new
        left join old on {new_is_old} and new.{start} = old.{start}
        left join ends on {new_is_end} and new.{start} = ends.{stop}
    union all
    select {columns}, {start}, false, lakebed_content, 'old'
    from old
    where not exists (select from new where {new_is_old} and new.{start} = old.{start})
    union all
    select {columns}, {stop}, true, null, 'end'
    from ends
    where not exists (select from new where {new_is_end} and new.{start} = ends.{stop})
),
compared as (
    select *,
        coalesce(lag({gone}) over moments, true) as lakebed_was_gone,
        coalesce(lakebed_content *= lag(lakebed_content) over moments, false) as lakebed_equal,
        {older} as lakebed_older
    from entries
    window moments as (partition by {key} order by lakebed_at)
),
judged as (
    select *,
        lakebed_kind = 'new' and (lakebed_older or case
            when {gone} then lakebed_was_gone
            else not lakebed_was_gone and lakebed_equal
        end) as lakebed_repeats
    from compared
)
select {columns}, lakebed_at, lakebed_kind, {gone}, lakebed_was_gone, lakebed_repeats,
    lead(lakebed_at) over (partition by {key}, lakebed_repeats order by lakebed_at) as lakebed_until
from judged
"""

ERASED = "line.lakebed_kind = 'erase' and {is_it}"
ENDED = (
    "line.lakebed_kind in ('old', 'same', 'correct') and {is_it}"
    " and hot.{stop} is distinct from line.lakebed_until"
)
CORRECTED = "line.lakebed_kind = 'correct' and {is_it}"
INSERT_STATEMENT = (
    "insert into {target} ({columns}, {start}, {stop})"
    " select {columns}, lakebed_at, lakebed_until from {timeline}"
    " where lakebed_kind = 'new' and not {gone} and not lakebed_repeats"
)

COUNTS_QUERY = """
select
    count(*) filter (where lakebed_kind = 'same' or is_new and lakebed_repeats and not {gone}),
    count(*) filter (where lakebed_kind = 'correct' or starts and not lakebed_was_gone),
    count(*) filter (where starts and lakebed_was_gone),
    count(*) filter (where lakebed_kind = 'erase' or is_new and {gone} and not lakebed_repeats)
from (
    select {gone}, lakebed_kind, lakebed_was_gone, lakebed_repeats,
        lakebed_kind = 'new' as is_new,
        lakebed_kind = 'new' and not {gone} and not lakebed_repeats as starts
    from {timeline}
) as line
"""


class HistoryWriter(Writer):
    """Closes what changed and inserts what follows it."""

    def begin(self) -> None:
        """Make the stage."""
        self.stage = Stage(self.connection, self.table, self.load)
        self.target = target_of(self.table)
        self.key = names(self.table.key)
        made = (VALID_FROM, VALID_TO)
        self.columns = [name for name in self.table.column_names if name not in made]

    def copy(self, parquet: Path) -> None:
        """Copy the rows of one file."""
        self.stage.copy(parquet)

    def finish(self) -> Counts:
        """Lay the load's versions over the table's. Raises LoadConflictError."""
        rejected = self.stage.settle()
        versions, marked = self._gather_versions()
        total = self._current()
        self._lay_out()
        unchanged, updated, inserted, deleted = self._write()
        return Counts(
            inserted=inserted,
            updated=updated,
            unchanged=unchanged,
            superseded=self.stage.rows - rejected - versions,
            marked=marked,
            rejected=rejected,
            deleted=deleted + self._close_missing(total),
        )

    def _gather_versions(self) -> tuple[int, int]:
        """Keep the newest row of each key and moment; return how many there are, and are gone."""
        newest: list[sql.Composable] = [
            sql.Identifier(name) for name in (*self.table.key, VALID_FROM)
        ]
        if self.table.cursor is not None:
            newest.append(sql.SQL("{} desc").format(sql.Identifier(self.table.cursor)))
        newest.append(sql.SQL("{} desc").format(sql.Identifier(PLACE)))
        self.connection.execute(
            sql.SQL(
                "create temporary table {} on commit drop as select distinct on ({}, {}) * from"
                " (select *, {} as {} from ({}) as rows) as dated order by {}"
            ).format(
                VERSIONS,
                self.key,
                sql.Identifier(VALID_FROM),
                self._moment(),
                sql.Identifier(VALID_FROM),
                self.stage.source,
                sql.SQL(", ").join(newest),
            )
        )
        self.connection.execute(sql.SQL("analyze {} ({})").format(VERSIONS, self.key))
        count = sql.SQL("select count(*), count(*) filter (where {}) from {}").format(
            sql.Identifier(GONE), VERSIONS
        )
        versions, marked = self.connection.execute(count).fetchall()[0]
        return versions, marked

    def _moment(self) -> sql.Composable:
        """Return when a row of the load begins to hold."""
        if self.table.cursor is None or not self._is_dated:
            return _moment(self.load.started_at.isoformat())
        cursor = sql.Identifier(self.table.cursor)
        if self.table.column(self.table.cursor).postgres == "timestamp with time zone":
            return cursor
        return sql.SQL("{}::timestamp at time zone 'UTC'").format(cursor)

    @property
    def _is_dated(self) -> bool:
        """Whether the cursor is a time, at which a version begins."""
        cursor = self.table.cursor
        return cursor is not None and isinstance(
            self.table.column(cursor).polars, pl.Datetime | pl.Date
        )

    def _lay_out(self) -> None:
        """Make the timeline: one row for each moment at which a key has a new version or ends."""
        content = sql.SQL("row(true{})").format(
            sql.SQL("").join(
                sql.SQL(", {}").format(sql.Identifier(name))
                for name in self.columns
                if name not in self.table.key
            )
        )
        older: sql.Composable = sql.SQL("false")
        if self.table.cursor is not None and not self._is_dated:
            # Its moment is the load's, whatever the source says: what it says must be no older.
            older = sql.SQL("coalesce({0} < lag({0}) over moments, false)").format(
                sql.Identifier(self.table.cursor)
            )
        self.connection.execute(
            sql.SQL(TIMELINE_QUERY).format(
                timeline=TIMELINE,
                versions=VERSIONS,
                target=self.target,
                key=self.key,
                columns=names(self.columns),
                new_columns=sql.SQL(", ").join(sql.Identifier("new", c) for c in self.columns),
                start=sql.Identifier(VALID_FROM),
                stop=sql.Identifier(VALID_TO),
                gone=sql.Identifier(GONE),
                content=content,
                older=older,
                new_is_old=same(self.table.key, "new", "old"),
                new_is_end=same(self.table.key, "new", "ends"),
            )
        )
        self.connection.execute(sql.SQL("analyze {} ({})").format(TIMELINE, self.key))

    def _write(self) -> tuple[int, int, int, int]:
        """Bring the timeline into the table; return unchanged, updated, inserted and deleted.

        What ends is ended before what follows is inserted: a key has one version that holds.
        """
        parts: dict[str, sql.Composable] = {
            "target": self.target,
            "timeline": TIMELINE,
            "is_it": sql.SQL("{} and hot.{} = line.lakebed_at").format(
                same(self.table.key, "hot", "line"), sql.Identifier(VALID_FROM)
            ),
            "start": sql.Identifier(VALID_FROM),
            "stop": sql.Identifier(VALID_TO),
            "gone": sql.Identifier(GONE),
            "columns": names(self.columns),
            "values": sql.SQL(", ").join(
                sql.SQL("{0} = line.{0}").format(sql.Identifier(name)) for name in self.columns
            ),
        }
        line = sql.SQL("{} as line").format(TIMELINE)
        until = sql.SQL("{} = line.lakebed_until").format(parts["stop"])
        self.undo.delete(sql.SQL(ERASED).format(**parts), line)
        self.undo.update(until, sql.SQL(ENDED).format(**parts), line)
        self.undo.update(parts["values"], sql.SQL(CORRECTED).format(**parts), line)
        started = self.connection.execute(sql.SQL(INSERT_STATEMENT).format(**parts)).rowcount
        self.undo.wrote(started)
        unchanged, updated, inserted, deleted = self.connection.execute(
            sql.SQL(COUNTS_QUERY).format(**parts)
        ).fetchall()[0]
        return unchanged, updated, inserted, deleted

    def _current(self) -> int:
        """Return how many rows hold, for tables whose loads are full extracts."""
        if not self.table.loads_whole:
            return 0
        query = sql.SQL("select count(*) from {} where {} is null").format(
            self.target, sql.Identifier(VALID_TO)
        )
        return int(self.connection.execute(query).fetchall()[0][0])

    def _close_missing(self, total: int) -> int:
        """End the versions of rows that are missing from a full extract.

        Raises LoadConflictError.
        """
        deletes = self.table.deleting
        if deletes is None or not deletes.full_extract:
            return 0
        spared = keep_rejected(self.connection, self.table, self.load)
        closed = self.undo.update(
            # A version that begins later than the load holds for a moment at least.
            sql.SQL("{stop} = greatest({now}, hot.{start} + interval '1 microsecond')").format(
                start=sql.Identifier(VALID_FROM),
                stop=sql.Identifier(VALID_TO),
                now=_moment(self.load.started_at.isoformat()),
            ),
            sql.SQL("hot.{stop} is null and {missing}").format(
                stop=sql.Identifier(VALID_TO),
                missing=missing_from(
                    self.table, sql.SQL("select * from {}").format(VERSIONS), spared
                ),
            ),
        )
        check_share(self.table, deletes.at_most, total, closed, self.stage.rows)
        return closed


def _moment(text: str) -> sql.Composable:
    return sql.SQL("{}::timestamptz").format(sql.Literal(text))
