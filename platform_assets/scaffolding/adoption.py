"""Write the table file of a table that an application made, from PostgreSQL's catalog.

The table does not change. A property that would prevent moves refuses the adoption, with how to fix
it. Notes name properties that may surprise.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from psycopg import sql

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.resources.postgres import Connection
from lakebed.scaffolding.table_file import TableFile
from lakebed.schema.apply import unique_indexes
from lakebed.schema.ddl import COLUMNS_QUERY
from lakebed.schema.tiering_blockers import TIERING_BLOCKERS_QUERY, tiering_blockers
from lakebed.spec.names import is_name
from lakebed.spec.partitions import Grain
from lakebed.spec.postgres_types import field_line, found_type
from lakebed.spec.schema import Column
from lakebed.spec.table import SourceTable, TableError
from lakebed.spec.table_files import load_tables
from lakebed.spec.types import SchemaError
from lakebed.tiering.partition_tables import BOUND

_SPANS = (
    (Grain.HOUR, timedelta(hours=1)),
    (Grain.DAY, timedelta(hours=25)),
    (Grain.WEEK, timedelta(days=7, hours=1)),
    (Grain.MONTH, timedelta(days=31, hours=1)),
)
"""The greatest length of a partition table by grain; summer time makes a local day longer."""


class AdoptionError(LakebedError, ValueError):
    """A table that cannot be adopted; the text says why, and what to do."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class Adopted:
    """A table file to be, the table that it declares, and what may surprise."""

    file: TableFile
    table: SourceTable
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """A column as the catalog has it. equal: its text is equal where its bytes are."""

    name: str
    kind: str
    not_null: bool
    comment: str
    labels: tuple[str, ...]
    equal: bool

    @property
    def is_moment(self) -> bool:
        return re.fullmatch(r"timestamp(\(\d\))? with time zone", self.kind) is not None

    def as_column(self) -> Column:
        """Return it as a column of a contract. Raises SchemaError with the reason."""
        dtype, types = found_type(self.kind, self.labels)
        return Column(self.name, dtype, types, not self.not_null, False, self.comment, ())


def adopt(
    connection: Connection,
    place: str,
    now: datetime,
    *,
    time: str | None = None,
    grain: Grain | None = None,
    hot_for: timedelta = timedelta(days=90),
) -> Adopted:
    """Return the table file of a table that is there. place: SCHEMA.TABLE, or TABLE of public.

    time: the column with the time of a row; guessed from a single candidate.  grain: guessed from
    the partition tables, else a month.  Raises AdoptionError.
    """
    schema, _, name = place.rpartition(".")
    schema = schema or "public"
    reader = _Reader(connection, schema, name)
    reader.look()
    columns = reader.columns()
    contract = _contract(place, columns)
    moment = _time(place, columns, time, reader.partitions_by())
    key, said = _key(columns, reader.unique(), moment)
    spans = reader.spans()
    grain = grain or _grain(spans)
    first = reader.first(moment)
    start = grain.floor(min([now if first is None else first, *(lower for lower, _ in spans)]))
    text = _text(
        _Parts(schema, name, reader.comment(), contract, key, moment, grain, start, hot_for)
    )
    table = _declared(place, text)
    return Adopted(TableFile(name, text), table, (*said, *reader.notes(moment)))


class _Reader:
    """What PostgreSQL's catalog has of one table."""

    def __init__(self, connection: Connection, schema: str, name: str) -> None:
        self._connection = connection
        self._schema, self._name = schema, name
        self._relation = sql.Identifier(schema, name)
        self._text = self._relation.as_string()

    def look(self) -> None:
        """Raise AdoptionError where the table does not exist, or its rows cannot move."""
        place = f"{self._schema}.{self._name}"
        if self._ask("select to_regclass(%s) is null", self._text)[0][0]:
            raise AdoptionError(
                f"this role sees no table {place}. Expected the name of a table as SCHEMA.TABLE"
            )
        if not is_name(self._name):
            raise AdoptionError(
                f"{place}: in the lake, in file names and in every engine its name would be "
                f"{self._name!r}. Expected at most 40 lower case letters, digits and _, with a "
                "letter first: rename it (a view may keep the old name)"
            )
        problems = tiering_blockers(
            self._ask(TIERING_BLOCKERS_QUERY.replace("{}", "%s"), self._text)
        )
        if problems:
            raise AdoptionError(_listed(f"rows of {place} cannot move to the lake", problems))

    def columns(self) -> list[_Found]:
        """Return the columns, in order."""
        rows = self._connection.execute(
            sql.SQL(
                "select name, kind, c.attnotnull, coalesce(col_description(attrelid, attnum), ''),"
                " array(select enumlabel::text from pg_enum where enumtypid = atttypid"
                " order by enumsortorder),"
                " coalesce((select collisdeterministic from pg_collation"
                " where oid = attcollation), true)"
                " from ({}) c join pg_attribute a on a.attname = c.name"
                " and attrelid = to_regclass({}) order by attnum"
            ).format(
                sql.SQL(COLUMNS_QUERY).format(sql.Literal(self._text)), sql.Literal(self._text)
            )
        ).fetchall()
        return [
            _Found(name, kind, not_null, comment, tuple(labels), equal)
            for name, kind, not_null, comment, labels, equal in rows
        ]

    def comment(self) -> str:
        """Return the table's comment, empty where it has none."""
        found = self._ask("select obj_description(to_regclass(%s), 'pg_class')", self._text)
        return found[0][0] or ""

    def partitions_by(self) -> str | None:
        """Return the one column by whose ranges the table is cut, None for any other table."""
        rows = self._ask(
            "select attname::text from pg_partitioned_table p join pg_attribute a"
            " on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]"
            " where p.partrelid = to_regclass(%s) and p.partstrat = 'r' and p.partnatts = 1",
            self._text,
        )
        return rows[0][0] if rows else None

    def unique(self) -> list[tuple[str, ...]]:
        """Return the columns of each unique index, those of the primary key first."""
        ((oid,),) = self._ask("select to_regclass(%s)::oid::int8", self._text)
        primary, unique, _ = unique_indexes(self._connection, oid)
        return [columns for columns in (primary, *sorted(unique)) if columns]

    def spans(self) -> list[tuple[datetime, datetime]]:
        """Return the bounds of partition tables by time, without infinite ones and DEFAULT."""
        rows = self._ask(
            "select pg_get_expr(c.relpartbound, c.oid), p.isleaf"
            " from pg_partition_tree(to_regclass(%s)) p join pg_class c on c.oid = p.relid",
            self._text,
        )
        found = [(BOUND.fullmatch(bound or ""), partition_table) for bound, partition_table in rows]
        spans = [
            (_moments(match), partition_table)
            for match, partition_table in found
            if match is not None
        ]
        whole = [(span, partition_table) for span, partition_table in spans if span is not None]
        return [span for span, partition_table in whole if partition_table] or [
            span for span, _ in whole
        ]

    def first(self, moment: str) -> datetime | None:
        """Return the time of the oldest row that has a time."""
        query = sql.SQL("select min({0}) from {1} where {0} >= '0001-01-01 00:00:00+00'").format(
            sql.Identifier(moment), self._relation
        )
        found = self._connection.execute(
            sql.SQL(
                "select case when m < '9999-01-01 00:00:00+00' then m end from ({}) t (m)"
            ).format(query)
        ).fetchall()[0][0]
        return found.astimezone(UTC) if found is not None else None

    def notes(self, moment: str) -> list[str]:
        """Return notes on properties that may surprise when rows move."""
        notes = [
            f"the trigger {name} acts on every row that moves, as on any DELETE (docs/tiering.md)"
            for (name,) in self._ask(
                "select tgname::text from pg_trigger where tgrelid = to_regclass(%s)"
                " and tgtype & 8 = 8 and not tgisinternal and tgenabled <> 'D' order by 1",
                self._text,
            )
        ]
        ((oid, secured, require_partitioning),) = self._ask(
            "select oid::int8, relrowsecurity, relkind = 'p' from pg_class"
            " where oid = to_regclass(%s)",
            self._text,
        )
        if secured:
            notes.append("it has row level security, and the lake has none: who reads it sees all")
        if not require_partitioning and moment not in unique_indexes(self._connection, oid)[2]:
            notes.append(
                f"no index begins with {moment}, so that each move reads the whole table: CREATE "
                f"INDEX CONCURRENTLY ON {self._text} ({sql.Identifier(moment).as_string()})"
            )
        return notes

    def _ask(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode(), values).fetchall()


@dataclass(frozen=True)
class _Parts:
    """What the text of a table file is made of."""

    schema: str
    name: str
    comment: str
    contract: Sequence[Column]
    key: tuple[str, ...]
    time: str
    grain: Grain
    start: datetime
    hot_for: timedelta


def _contract(place: str, columns: Sequence[_Found]) -> list[Column]:
    contract, problems = [], []
    for column in columns:
        try:
            contract.append(column.as_column())
        except SchemaError as error:
            problems.append(f"column {column.name} is {error}")
    if problems:
        raise AdoptionError(_listed(f"{place} has types that cannot be tiered", problems))
    return contract


def _time(place: str, columns: Sequence[_Found], named: str | None, cut_by: str | None) -> str:
    moments = [column for column in columns if column.is_moment]
    given = next((column for column in columns if column.name == named), None)
    if named is not None:
        if given is None:
            names = ", ".join(column.name for column in columns)
            raise AdoptionError(f"{place} has no column {named!r}; it has {names}")
        if not given.is_moment:
            raise AdoptionError(
                f"{place}: {named} is {given.kind}. Expected a timestamp with time zone; name "
                "another column with --time, or ALTER it"
            )
        if not given.not_null:
            raise AdoptionError(
                f"{place}: {named} may be null, and a row needs its time; fill it, then ALTER "
                "TABLE ... SET NOT NULL"
            )
        return given.name
    fit = [column.name for column in moments if column.not_null]
    if cut_by in fit:
        return str(cut_by)
    if len(fit) == 1:
        return fit[0]
    if fit:
        raise AdoptionError(f"{place}: which column is its time? --time {' or --time '.join(fit)}")
    null = ", ".join(column.name for column in moments)
    more = f"; {null} may be null: ALTER TABLE ... SET NOT NULL where it never is" if null else ""
    raise AdoptionError(f"{place} has no column of type timestamptz that is NOT NULL{more}")


def _key(
    columns: Sequence[_Found], unique: Sequence[tuple[str, ...]], time: str
) -> tuple[tuple[str, ...], list[str]]:
    """Return the key, including the time, and notes about it."""
    known = {column.name: column for column in columns}

    def fits(name: str) -> bool:
        column = known[name]
        return column.not_null and column.equal and column.as_column().types.keyable

    usable = [names for names in unique if all(map(fits, names))]
    if not usable:
        return (), [
            "it has no key by which hot rows could override cold ones: a row that is inserted "
            "again is another row, and lakebed.delete_row cannot delete its cold rows"
        ]
    chosen = next((names for names in usable if time in names), usable[0])
    if time in chosen:
        return chosen, []
    return (*chosen, time), [
        f"its key ({', '.join(chosen)}) did not include {time}, which was added: a hot row "
        f"overrides a cold one of the same key and {time}, and PostgreSQL accepts the "
        f"({', '.join(chosen)}) of a cold row again"
    ]


def _grain(spans: Sequence[tuple[datetime, datetime]]) -> Grain:
    if not spans:
        return Grain.MONTH
    usual = median([(upper - lower).total_seconds() for lower, upper in spans])
    return next((g for g, most in _SPANS if usual <= most.total_seconds()), Grain.YEAR)


def _moments(bound: re.Match[str]) -> tuple[datetime, datetime] | None:
    try:
        lower, upper = (datetime.fromisoformat(text) for text in bound.groups())
    except ValueError:
        return None  # another type, or a year that Python has not
    if lower.tzinfo is None or upper.tzinfo is None:
        return None
    return lower.astimezone(UTC), upper.astimezone(UTC)


def _text(parts: _Parts) -> str:
    model = "".join(word.capitalize() for word in parts.name.split("_"))
    lines = [f"    {field_line(column)}\n" for column in parts.contract]
    docstring = f"    {_literal(parts.comment)}\n\n" if parts.comment else ""
    key = f"    key=({', '.join(map(repr, parts.key))},),\n" if parts.key else ""
    start = ", ".join(str(n) for n in parts.start.timetuple()[: 4 if parts.start.hour else 3])
    schema = "" if parts.schema == "public" else f"    schema={parts.schema!r},\n"
    annotated = "from typing import Annotated\n" if "Annotated[" in "".join(lines) else ""
    polars = "import polars as pl\n" if "pl." in "".join(lines) else ""
    hot_for = _duration(parts.hot_for)
    return (
        f'"""{parts.name}: an adopted table, which an application made and writes.\n\n'
        'Written by `lakebed add adopt:...`; edit it."""\n\n'
        f"from datetime import UTC, datetime, timedelta\n{annotated}\n"
        f"import pandera.polars as pa\n{polars}\n"
        "from lakebed import Partitioning, SourceTable, Tiering\n\n\n"
        f"class {model}(pa.DataFrameModel):\n{docstring}" + "".join(lines) + "\n\n"
        f"{parts.name} = SourceTable(\n"
        f"    name={parts.name!r},\n    model={model},\n{schema}    adopted=True,\n{key}"
        "    partitioning=Partitioning(\n"
        f"        column={parts.time!r}, grain={str(parts.grain)!r},"
        f" start=datetime({start}, tzinfo=UTC)\n    ),\n"
        f"    tiering=Tiering(hot_for={hot_for}),\n)\n"
    )


def _literal(comment: str) -> str:
    plain = '"' not in comment and "\\" not in comment and comment.isprintable()
    return f'"""{comment}"""' if plain else repr(comment)


def _duration(length: timedelta) -> str:
    if length % timedelta(days=1):
        return f"timedelta(seconds={length.total_seconds():.0f})"
    return f"timedelta(days={length.days})"


def _declared(place: str, text: str) -> SourceTable:
    """Return the table that the text declares. Raises AdoptionError for a wrong declaration."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "adopted.py").write_text(text)
        try:
            (table,) = load_tables(Path(folder))
        except TableError as error:
            raise AdoptionError(f"{place}: {error.__cause__ or error}") from error
    return table


def _listed(what: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        return f"{what}: {problems[0]}"
    return f"{what}:\n  " + "\n  ".join(problems)
