"""Find rows that only PostgreSQL can refuse: by a CHECK, a foreign key or an exclusion.

The search changes nothing: it runs in a savepoint that is rolled back. One query for each CHECK and
foreign key comes first. Inserting the remaining rows in halves, in their order, then finds those
that break exclusions, unique indexes, triggers or domains. Of two rows that exclude each other the
later one is the bad one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.pgcopy.encoding import copy_rows
from lakebed.resources.postgres import Connection
from lakebed.spec.schema import Column
from lakebed.store.rejects import Fault, RejectKind

MOST_VIOLATIONS = 1_000
TRIALS_A_ROW = 40

_STAGE = sql.Identifier("lakebed_suspects")
_ROW = sql.Identifier("lakebed_row")

OF_A_ROW = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.RaiseException,
    psycopg.errors.ProgramLimitExceeded,
)
"""The errors with which PostgreSQL refuses a row: class 22 and 23, which includes the check of a
domain, exceptions of triggers, and a key that is too long for its index."""

_CONSTRAINTS = """\
select c.conname, c.contype, pg_get_expr(c.conbin, c.conrelid), c.confmatchtype,
       n.nspname, r.relname, c.confrelid = c.conrelid,
       array(select a.attname::text from unnest(c.conkey) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k.number order by place),
       array(select a.attname::text from unnest(c.confkey) with ordinality k (number, place)
             join pg_attribute a on a.attrelid = c.confrelid and a.attnum = k.number order by place)
from pg_constraint c
left join pg_class r on r.oid = c.confrelid left join pg_namespace n on n.oid = r.relnamespace
where c.conrelid = to_regclass({}) and c.contype in ('c', 'f')
  and coalesce((to_jsonb(c) ->> 'conenforced')::boolean, true)
order by c.contype, c.conname"""


@dataclass(frozen=True)
class Violation:
    """A row that PostgreSQL refuses."""

    row: int
    """Its place in the file, from 0."""
    fault: Fault


class TooManyViolationsError(LakebedError, RuntimeError):
    """Too many rows violate constraints to name each of them; `some` has the first few."""

    def __init__(self, target: str, some: Sequence[Violation]) -> None:
        """Describe the first violation."""
        super().__init__(
            f"more than {len(some)} rows violate constraints of {target}; "
            f"the first, row {some[0].row + 1} of those to load: {some[0].fault.message}"
        )
        self.some = tuple(some)


def find_violations(
    connection: Connection,
    target: sql.Identifier,
    columns: Sequence[Column],
    parquet: Path,
    *,
    key: Sequence[str] = (),
    limit: int = MOST_VIOLATIONS,
) -> list[Violation]:
    """Return the rows of a file that the table would refuse, in their order, each with one reason.

    Args:
        connection: In a transaction, which remains unchanged.
        target: The table.
        columns: The columns of the file.
        parquet: The file.
        key: The key of a merge, whose rows replace those of the same key. Without a key, an
            existing key raises UniqueViolation instead of becoming a violation.
        limit: How many violations to name.

    Raises:
        TooManyViolationsError: More rows than the limit violate constraints.
    """
    with connection.transaction(force_rollback=True):
        suspects = _Suspects(connection, target, columns, key, limit)
        suspects.stage(parquet)
        suspects.find_by_query()
        suspects.bisect()
        return sorted(suspects.found, key=lambda violation: violation.row)


class _Suspects:
    """The rows of the file in a temporary table, without those that are known to be bad."""

    def __init__(
        self,
        connection: Connection,
        target: sql.Identifier,
        columns: Sequence[Column],
        key: Sequence[str],
        limit: int,
    ) -> None:
        self.connection = connection
        self.target = target
        self.columns = columns
        self.key = key
        self.limit = limit
        self.rows = 0
        self.found: list[Violation] = []
        self.of_itself: set[str] = set()

    def stage(self, parquet: Path) -> None:
        names = _names([column.name for column in self.columns])
        self.connection.execute(
            sql.SQL("create temporary table {} on commit drop as select {} from {} limit 0").format(
                _STAGE, names, self.target
            )
        )
        self.connection.execute(
            sql.SQL(
                "alter table {} add {} bigint generated always as identity (minvalue 0)"
            ).format(_STAGE, _ROW)
        )
        self.rows = copy_rows(self.connection, _STAGE, self.columns, parquet)
        self.connection.execute(sql.SQL("create index on {} ({})").format(_STAGE, _ROW))
        self.connection.execute(sql.SQL("analyze {}").format(_STAGE))

    def find_by_query(self) -> None:
        """Remove rows that break a CHECK or have no parent, until the queries find no more."""
        query = sql.SQL(_CONSTRAINTS).format(sql.Literal(self.target.as_string(self.connection)))
        rows = self.connection.execute(query).fetchall()
        staged = {column.name for column in self.columns}
        again = True
        while again:
            again = False
            for name, kind, check, match, schema, parent, itself, ours, theirs in rows:
                if not set(ours) <= staged:
                    continue  # the column gets its default in a load
                of = ours[0] if len(ours) == 1 else None
                if kind == "c":
                    broken = RejectKind.CONSTRAINT
                    bad = sql.SQL("not coalesce(({}), true)").format(sql.SQL(check))
                    what = f"breaks the constraint {name}: {check}"
                else:
                    broken = RejectKind.MISSING_PARENT
                    bad = _without_parent(
                        match, sql.Identifier(schema, parent), itself, ours, theirs
                    )
                    what = f"breaks the constraint {name}: it has no parent in {schema}.{parent}"
                    if itself:
                        self.of_itself.add(name)
                taken = self._take(bad, Fault(broken, name, of, what))
                # A removed row may have been the parent of another one.
                again |= taken and bool(self.of_itself)

    def _take(self, bad: sql.Composable, fault: Fault) -> bool:
        query = sql.SQL("delete from {0} s where {1} returning {2}").format(_STAGE, bad, _ROW)
        try:
            with self.connection.transaction():
                rows = sorted(row for (row,) in self.connection.execute(query).fetchall())
        except psycopg.errors.DataError:
            return False  # the expression fails for some row, which `bisect` will find
        for row in rows:
            self._add(Violation(row, fault))
        return bool(rows)

    def bisect(self) -> None:
        """Insert ranges of rows; halve those that fail until each bad row is isolated."""
        waiting = [(0, self.rows)]
        trials = 0
        while waiting:
            first, end = waiting.pop()
            trials += 1
            try:
                with self.connection.transaction():
                    self._insert(first, end)
            except OF_A_ROW as error:
                if isinstance(error, psycopg.errors.UniqueViolation) and not self.key:
                    raise
                if error.diag.constraint_name in self.of_itself:
                    raise  # the query found its parent, which is not in the same half
                if end - first == 1:
                    self._add(_violation(first, error))
                    continue
                if trials > self.limit * TRIALS_A_ROW:
                    raise TooManyViolationsError(
                        self.target.as_string(self.connection),
                        self.found or [_violation(first, error)],
                    ) from error
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]

    def _insert(self, first: int, end: int) -> None:
        names = [column.name for column in self.columns]
        conflict: sql.Composable = sql.SQL("")
        if self.key:
            others = [name for name in names if name not in self.key]
            action: sql.Composable = sql.SQL("nothing")
            if others:
                action = sql.SQL("update set {}").format(
                    sql.SQL(", ").join(
                        sql.SQL("{0} = excluded.{0}").format(sql.Identifier(n)) for n in others
                    )
                )
            conflict = sql.SQL(" on conflict ({}) do {}").format(_names(self.key), action)
        self.connection.execute(
            sql.SQL(
                "insert into {target} ({names}) select {names} from {stage}"
                " where {row} >= {first} and {row} < {end} order by {row}{conflict}"
            ).format(
                target=self.target,
                names=_names(names),
                stage=_STAGE,
                row=_ROW,
                first=first,
                end=end,
                conflict=conflict,
            )
        )
        # Deferred constraints would otherwise fail the load when it commits.
        self.connection.execute("set constraints all immediate")

    def _add(self, violation: Violation) -> None:
        if len(self.found) >= self.limit:
            raise TooManyViolationsError(self.target.as_string(self.connection), self.found)
        self.found.append(violation)


def _without_parent(
    match: str, parent: sql.Identifier, itself: bool, ours: Sequence[str], theirs: Sequence[str]
) -> sql.Composed:
    """Return the condition that a row of the stage refers to a missing parent."""
    pairs = list(zip(ours, theirs, strict=True))
    same = sql.SQL(" and ").join(
        sql.SQL("p.{} = s.{}").format(sql.Identifier(other), sql.Identifier(own))
        for own, other in pairs
    )
    sources = [parent, _STAGE] if itself else [parent]
    there = sql.SQL(" or ").join(
        sql.SQL("exists (select from {} p where {})").format(source, same) for source in sources
    )
    nulls = sql.SQL("num_nulls({})").format(
        sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(own)) for own in ours)
    )
    if match == "f":  # MATCH FULL: all null, or none
        return sql.SQL("({0} between 1 and {1} or {0} = 0 and not ({2}))").format(
            nulls, len(ours) - 1, there
        )
    return sql.SQL("({} = 0 and not ({}))").format(nulls, there)


def _violation(row: int, error: psycopg.Error) -> Violation:
    message = error.diag.message_primary or str(error)
    detail = f" ({error.diag.message_detail})" if error.diag.message_detail else ""
    kind = RejectKind.CONSTRAINT
    if isinstance(error, psycopg.errors.ForeignKeyViolation):
        kind = RejectKind.MISSING_PARENT
    rule = error.diag.constraint_name or error.sqlstate or type(error).__name__
    return Violation(row, Fault(kind, rule, error.diag.column_name, f"{message}{detail}"))


def _names(columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(name) for name in columns)
