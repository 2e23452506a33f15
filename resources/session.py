"""A session: one snapshot of everything, as DuckDB views that are narrowed to what a query needs.

    for every table:   hot rows  +  live cold files  -  cold rows whose key has a hot row
                                                     -  cold rows whose key has a tombstone

The last two terms apply only to partitions with late rows or tombstones that are not compacted yet.
How a snapshot begins is in lake.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from threading import Lock

import duckdb
from psycopg import sql

from lakebed.resources.exactness import Exactness
from lakebed.resources.hot_columns import Hot
from lakebed.resources.keywords import unquoted
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.live_models import ModelTable
from lakebed.resources.manifest import Manifest
from lakebed.resources.pruning import Bounds, Parameters, Scan, planned, tells_apart
from lakebed.resources.read_errors import InexactError, SessionEndedError
from lakebed.resources.read_errors import LakeReadError as LakeReadError
from lakebed.resources.reading_only import check_reads_only
from lakebed.resources.tiers import ColdPart, LakeTable, all_rows

_ABORTED = "Current transaction is aborted"
"""DuckDB's error for each query after one that failed while it ran."""


@dataclass
class ReadSession:
    """One snapshot of everything, as DuckDB views named like the tables and models.

    bare: DuckDB with the present views. hot: the columns of each hot table that exists. explain:
    returns the error that explains a missing file of the lake. unreadable: models that do not bind,
    and why. A session does one thing at a time; it refuses a query of a second thread, and one
    inside the block of a stream.

    A view shows the hot rows, and the cold files that a query has needed so far. No file is opened
    before that. A result that is read again, or used in another query, keeps all its rows.
    """

    bare: duckdb.DuckDBPyConnection
    lake: LakeFiles
    tables: Mapping[str, LakeTable]
    hot: Mapping[str, Hot]
    manifest: Manifest
    models: Mapping[str, ModelTable | str]
    explain: Callable[[duckdb.Error], Exception | None] = field(
        default=lambda error: None, repr=False
    )
    unreadable: dict[str, str] = field(default_factory=dict)
    _cold_shown: set[str] = field(default_factory=set)
    _kept: dict[str, Bounds] = field(default_factory=dict)
    _at_work: Lock = field(default_factory=Lock, repr=False)
    _end: str = ""
    _watched: set[str] = field(default_factory=set)
    _exact: dict[str, Exactness] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Note which hot columns can hold values that DuckDB misreads."""
        self._exact = {
            name: Exactness(self.bare, self.tables[name], columns)
            for name, columns in self.hot.items()
        }

    def define(self) -> None:
        """Define every view, over hot rows alone."""
        self._show(dict.fromkeys(self.tables, ()))
        self._define_models()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """DuckDB, where each view has its whole history, for anything that DuckDB can do.

        Cold files are not pruned there; `sql` and `stream` prune them. Reading a column fails if
        any hot row holds a value in it that DuckDB's type has not. Raises duckdb.Error where a
        cold file cannot be read.
        """
        with self._exclusively():
            self._guard()
            self._keep(dict.fromkeys(self.manifest.tables, Bounds()))
            names = self._kept.keys() | self._cold_shown
            self._show({name: self.manifest.kept(name) for name in names})
        return self.bare

    def sql(self, query: str, params: Parameters = None) -> duckdb.DuckDBPyRelation:
        """Run one query with its cold files pruned; its result is held.

        Args:
            query: One statement that only reads: SELECT, FROM, WITH, DESCRIBE, EXPLAIN, PIVOT.
            params: Values for ? (a list) or $name (a dict).

        Returns:
            A relation, with fetchall(), pl(), df(), to_arrow_table() and show().

        Raises:
            ReadOnlyError: For a statement that would change something.
            SessionEndedError: After a query that failed while it ran, or was cancelled.
            LakeReadError: For several statements, or while the session does something else.
            duckdb.Error: As DuckDB does.
        """
        with self._asked(query, params):
            relation = self.bare.sql(query, params=params)
            # A relation binds its views when it runs: run it before they change again.
            relation.execute()
            return relation

    @contextmanager
    def stream(self, query: str, params: Parameters = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Run one query with its cold files pruned, for a result that need not fit in memory.

        Yields what has fetchmany() and description. Takes and raises what `sql` does.
        """
        with self._asked(query, params):
            yield self.bare.execute(query, params)

    @contextmanager
    def pruned(self, query: str, params: Parameters = None) -> Iterator[None]:
        """Narrow the views to the cold files that one statement can need, for the block.

        In the block `bare` is valid for this statement only. Statements other than queries (CREATE
        TABLE ... AS, COPY) are pruned too; one that EXPLAIN refuses reads every file. Raises
        LakeReadError.
        """
        with self._exclusively(), self._narrowed(query, params):
            yield

    @contextmanager
    def _asked(self, query: str, params: Parameters) -> Iterator[None]:
        """Do the same for a query of a user, which must only read."""
        with self._exclusively():
            self.check(query)
            with self._narrowed(query, params):
                yield

    @contextmanager
    def _narrowed(self, query: str, params: Parameters) -> Iterator[None]:
        shown: dict[str, Bounds] = {}
        try:
            needed = self._needed(query, params)
            watched = self._look(needed)
            cold = {name: needed[name].bounds for name in needed if name in self.manifest.tables}
            parts: dict[str, Sequence[ColdPart]] = dict.fromkeys(watched, ())
            parts |= {name: self.manifest.within(name, cold[name]) for name in cold}
            self._show(parts)
            self._keep(cold)
            shown = {name: cold[name] for name in cold if name not in watched}
            yield
        finally:
            self._show_kept(shown)

    def check(self, text: str) -> None:
        """Parse statements, which must only read.

        Raises ReadOnlyError, or duckdb.ParserException, which says where a column needs quotes.
        """
        try:
            check_reads_only(self.bare, text)
        except duckdb.ParserException as error:
            columns = dict.fromkeys(c for t in self.tables.values() for c, _ in t.columns)
            hints = [
                f'\n{name} is a column and a word of SQL: for the column, write "{name}"'
                for name in unquoted(text, columns)
            ]
            if not hints:
                raise
            raise duckdb.ParserException(f"{error}{''.join(hints)}") from error

    @property
    def looks_first(self) -> bool:
        """Whether `pruned` has an effect: cold files exist, or columns that may be misread."""
        certain = all(exact.is_certain for exact in self._exact.values())
        return bool(self.manifest.tables) or not certain

    def needed(self, query: str, params: Parameters = None) -> dict[str, Scan]:
        """Return what one statement can read of each table: times, and columns.

        Raises LakeReadError for several statements.
        """
        with self._exclusively():
            try:
                return self._needed(query, params)
            finally:
                self._show_kept()

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Refuse concurrent queries: they would change the views, or end a stream early."""
        if not self._at_work.acquire(blocking=False):
            raise LakeReadError(
                "the session is at work: a stream is open in it, or another thread asks it. End "
                "that first, or open a session for each"
            )
        try:
            if self._end:
                raise SessionEndedError(self._end)
            yield
        except BaseException as error:
            self._note_end(error)
            if self._end and _ABORTED in str(error):
                raise SessionEndedError(self._end) from error
            if isinstance(error, duckdb.Error) and (why := self.explain(error)) is not None:
                raise why from error
            raise
        finally:
            self._at_work.release()

    def _note_end(self, error: BaseException) -> None:
        """Record that the snapshot is lost, if an error ended the transaction."""
        # A signal ends the call, not the query; the next query would wait for it.
        self.bare.interrupt()
        try:
            self.bare.execute("select 1")
        except duckdb.Error:
            text = str(error).strip() or type(error).__name__
            # What failed on the plain connection is not known here.
            cause = "" if _ABORTED in text else f": {text.partition(chr(10))[0]}"
            self._end = self._end or (
                f"the session has ended, and its snapshot with it, because a query failed{cause}\n"
                "Open another session (`with connect() as lake:`) and query again there"
            )

    def _needed(self, query: str, params: Parameters) -> dict[str, Scan]:
        """Do the same, and leave every view over hot rows alone."""
        for name in self._watched:
            self._exact[name].watched = None
        self._show(dict.fromkeys(self._cold_shown | self._watched, ()))
        statements = self.bare.extract_statements(query)
        if any(statement.type == duckdb.StatementType.TRANSACTION for statement in statements):
            raise LakeReadError(
                "a session is one snapshot from its beginning to its end; open another session for "
                "a newer"
            )
        texts = [statement.query for statement in statements]
        # A PIVOT that finds its columns itself comes back as several statements without a text,
        # which EXPLAIN does not take for one: it reads every file.
        pivot = not all(texts)
        count = sum(map(bool, texts)) + pivot
        if count != 1:
            raise LakeReadError(f"one statement at a time, please; these are {count}")
        if not pivot:
            try:
                return self._planned(query, params)
            except duckdb.ParserException:
                self._guard()  # EXPLAIN takes no EXPLAIN, nor what is not a query
            except duckdb.Error:
                pass  # what does not bind here fails when it is run, with an error of its own
        else:
            self._guard()
        return dict.fromkeys(self.manifest.tables, Scan(columns=frozenset()))

    def _planned(self, query: str, params: Parameters) -> dict[str, Scan]:
        """Return what DuckDB's plan of a statement reads of each table. Raises duckdb.Error."""
        times = {name: self._pruned_by(table) for name, table in self.tables.items()}
        plan = planned(self.bare, query, times, params)
        found = {n: replace(scan, ends_early=plan.ends_early) for n, scan in plan.scans.items()}
        # A plan may have lost a table's scan for reasons that hold for hot rows only.
        unseen = self.manifest.tables - found.keys()
        if unseen and not self._binds_without(unseen, query, params):
            found |= dict.fromkeys(unseen, Scan())
        for name, table in self.tables.items():
            # The plan names no table that PostgreSQL is asked for with a query.
            by_query = (table.as_text or table.asked) and name in self._exact
            if by_query and not self._binds_without([name], query, params):
                found[name] = Scan(columns=plan.asked)
        return found

    def _look(self, needed: Mapping[str, Scan]) -> set[str]:
        """Raise InexactError where hot rows hold values that DuckDB would misread.

        Returns the tables in which PostgreSQL watches for them instead.
        """
        found: list[str] = []
        watched: set[str] = set()
        for name, scan in needed.items():
            exact = self._exact.get(name)
            if exact is None:
                continue
            if scan.ends_early and not exact.is_known(scan):
                exact.watch(scan)
                watched.add(name)
            else:
                found += exact.find_misread(scan).values()
        if found:
            raise InexactError("\n".join(found))
        self._watched |= watched
        return watched

    def _guard(self) -> None:
        """Make reading a misread column fail, in queries whose columns are unknown."""
        for name, exact in self._exact.items():
            if exact.guard():
                self._show({name: ()})

    def _pruned_by(self, table: LakeTable) -> str | None:
        """Return the column that decides which files are needed; None if a plan could mislead.

        A column that the hot table does not have is a constant for hot rows. The plan may then omit
        a scan whose cold rows are needed, although it has another scan of the table.
        """
        names = {name for name, _ in table.columns}
        there = self.hot.get(table.name, {}).keys()
        return table.time if names <= there and tells_apart(names) else None

    def _binds_without(self, names: Collection[str], query: str, params: Parameters) -> bool:
        """Whether the statement reads none of these tables, directly or through views."""
        try:
            # Not dropped: another object of that name would be taken for it.
            self.bare.execute("create or replace temp table lakebed_nothing (i integer)")
            for name in names:
                _define(self.bare, name, sql.SQL("from temp.lakebed_nothing"))
            self.bare.execute("drop table temp.lakebed_nothing")
            self.bare.execute(f"explain {query}", params)
        except duckdb.Error:
            return False
        finally:
            self._show(dict.fromkeys(names, ()))
        return True

    def _drop(self, name: str) -> None:
        view = sql.SQL("drop view if exists {}").format(sql.Identifier("temp", name))
        self.bare.execute(view.as_string())

    def _keep(self, bounds: Mapping[str, Bounds]) -> None:
        for name in bounds:
            self.manifest.keep(name, bounds[name])
            self._kept[name] = bounds[name].hull(self._kept.get(name, bounds[name]))

    def _show_kept(self, shown: Mapping[str, Bounds] | None = None) -> None:
        """Show the rows that were needed so far.

        A view that cannot be created is dropped, so that no row is missing silently. shown: tables
        whose needed files are shown already, and kept.
        """
        for name in self._watched:
            # For what is built upon an earlier answer, whose rows nothing has looked at.
            self._exact[name].watch(Scan())
        for name in self._kept.keys() | self._cold_shown | self._watched:
            if shown and name in shown and shown[name].covers(self._kept[name]):
                continue
            try:
                self._show({name: self.manifest.kept(name)})
            except duckdb.Error:
                # After an error the transaction may be over; the error is the one to show.
                with suppress(duckdb.Error):
                    self._drop(name)

    def _show(self, cold: Mapping[str, Sequence[ColdPart]]) -> None:
        """Define the views of tables over their hot rows and these parts of their cold files."""
        for name, parts in cold.items():
            exact = self._exact.get(name)
            more = (exact.errors, exact.watched) if exact else ()
            body = all_rows(self.tables[name], self.hot.get(name), parts, *more)
            self._cold_shown.add(name)
            _define(self.bare, name, body)
            self.manifest.fill(parts)
            if not parts:
                self._cold_shown.discard(name)

    def _define_models(self) -> None:
        waiting = dict(self.models)
        while waiting:
            errors: dict[str, str] = {}
            for name, target in waiting.items():
                body = target.rows if isinstance(target, ModelTable) else sql.SQL(target)
                try:
                    _define(self.bare, name, body)
                except duckdb.Error as error:
                    errors[name] = str(error)
            if len(errors) == len(waiting):
                # A view over a dropped table must not block the reading of all other tables.
                self.unreadable |= errors
                return
            waiting = {name: waiting[name] for name in errors}


def _define(connection: duckdb.DuckDBPyConnection, name: str, body: sql.Composable) -> None:
    view = sql.SQL("create or replace temp view {} as {}").format(sql.Identifier(name), body)
    connection.execute(view.as_string())
