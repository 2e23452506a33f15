"""What makes a table senseless, field by field, checked when it is constructed. No I/O."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, get_args

from lakebed.spec import surrogates, write_modes
from lakebed.spec.columns import OURS
from lakebed.spec.policies import (
    ChangedFiles,
    Compression,
    Deletes,
    LoadBy,
    Lookup,
    MissingColumns,
    NewColumns,
    Partitioning,
    Surrogate,
    Tiering,
    WriteMode,
)
from lakebed.spec.queried_sources import DltResource, RestApi
from lakebed.spec.sources import RejectedRows
from lakebed.spec.transforms import transform_problem
from lakebed.spec.types import is_narrow

if TYPE_CHECKING:
    from lakebed.spec.table import SourceTable

MAX_IDENTIFIER_BYTES = 63
MAX_UNDO_LOADS = 100
MAX_LAKE_COPIES = 1000
DAY = timedelta(days=1)
OWNER = re.compile(r"team:[\w-]+|[^@\s]+@[^@\s]+\.[^@\s]+")
"""As Dagster has it."""
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def check(table: SourceTable) -> None:
    """Refuse nonsense. Raises TableError."""
    _columns(table)
    _shown(table)
    _shape(table)
    _source(table)
    _writing(table)
    _place(table)
    _lag(table)
    _time(table)
    _lake_copies(table)
    problem = surrogates.problem(table)
    if problem is not None:
        table.refuse(*problem)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "bool": bool,
    "float": (int, float),
    "timedelta": timedelta,
    "datetime": datetime,
    "Deletes": Deletes,
    "Partitioning": Partitioning,
    "Tiering": Tiering,
}
"""What a field's value is an instance of, by how the field is annotated."""


def check_kinds(table: SourceTable) -> None:
    """Refuse values of another kind than their fields have, such as a text for a tuple.

    Raises TableError.
    """
    parts: list[tuple[str, object]] = [
        ("", table),
        ("source.", table.source),
        ("deletes.", table.deletes),
    ]
    parts += [("partitioning.", table.partitioning), ("tiering.", table.tiering)]
    if not isinstance(table.surrogate, Surrogate | None):
        table.refuse("surrogate", f"{table.surrogate!r} is none; write Surrogate('id')")
    if not isinstance(table.lookups, tuple):
        table.refuse("lookups", f"{table.lookups!r} is no Lookup(...), nor a tuple of them")
    for lookup in table.lookups:
        if not isinstance(lookup, Lookup):
            table.refuse("lookups", f"{lookup!r} is no Lookup(...)")
        parts.append(("lookups.", lookup))
    for prefix, part in parts:
        if not is_dataclass(part) or isinstance(part, type):
            continue
        for one in fields(part):
            if one.init and (problem := _kind_problem(str(one.type), getattr(part, one.name))):
                table.refuse(f"{prefix}{one.name}", problem)


def _kind_problem(annotation: str, value: object) -> str | None:
    choices = [choice.strip() for choice in annotation.split(" | ")]
    if "[" in annotation.split("tuple[")[0]:
        choices = [annotation]
    if value is None and "None" in choices:
        return None
    if all(choice.startswith("tuple[") for choice in choices if choice != "None"):
        if isinstance(value, tuple):
            return None
        return f"{value!r} is no tuple; write ({value!r},)"
    known = [_KINDS[choice] for choice in choices if choice in _KINDS]
    if len(known) < len([choice for choice in choices if choice != "None"]):
        return None  # a kind that has rules of its own
    if any(isinstance(value, kind) for kind in known):
        return None
    return f"{value!r} is no {' or '.join(choice for choice in choices if choice != 'None')}"


def _shown(table: SourceTable) -> None:
    if table.owner is not None and not OWNER.fullmatch(table.owner):
        table.refuse("owner", f"{table.owner!r} is neither team:<name> nor an e-mail address")
    if table.freshness is not None and table.freshness <= timedelta(0):
        table.refuse("freshness", "it must be more than nothing")


def name_problem(name: str) -> str | None:
    """Say why a column cannot have this name, to be read after the name, or None."""
    if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES or "\0" in name:
        return ": PostgreSQL takes 1 to 63 bytes"
    if not name.strip():
        return " holds nothing but blanks; give it a name that can be seen"
    if name in SYSTEM_COLUMNS:
        return " is PostgreSQL's own in every table; rename it"
    if name.lower().startswith(OURS):
        return ": loads need the names that begin so; rename it"
    return None


def _known(table: SourceTable, what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in table.column_names:
            table.refuse(
                what, f"{name!r} is no column of the model ({', '.join(table.column_names)})"
            )


def _columns(table: SourceTable) -> None:
    if not table.columns:
        table.refuse("model", "it has no field; declare at least one column")
    for name in table.column_names:
        problem = name_problem(name)
        if problem is not None:
            table.refuse("model", f"column {name!r}{problem}")
    folded: dict[str, str] = {}
    for name in table.column_names:
        twin = folded.setdefault(name.lower(), name)
        if twin != name:
            table.refuse(
                "model",
                f"columns {twin!r} and {name!r} differ in upper and lower case only, which "
                "DuckDB does not tell apart; rename one",
            )


def _shape(table: SourceTable) -> None:
    problem = transform_problem(table.transforms, table.contract)
    if problem is not None:
        table.refuse(f"transforms[{problem[0]!r}]", problem[1])
    if table.transforms and table.source is None:
        table.refuse(
            "transforms", "there is no source to take columns from; others write the table"
        )
    both = set(table.ignored) & set(table.source_columns)
    if both:
        table.refuse(
            "ignored",
            f"{sorted(both)[0]!r} is a column of the model, or shape takes one from it; take "
            "it out of one",
        )


def _source(table: SourceTable) -> None:
    problem = table.source.problem() if table.source is not None else None
    if problem is not None:
        table.refuse("source", problem)
    if table.new_columns == "evolve" and isinstance(table.source, RestApi | DltResource):
        table.refuse(
            "new_columns", "only the rows of an API tell its columns; use freeze or discard"
        )
    if isinstance(table.source, RestApi) and table.loads_whole:
        unproven = table.source.unproven_end()
        if unproven is not None:
            table.refuse(
                "source", f"rows that a full extract lacks are deleted, and its {unproven}"
            )


def _place(table: SourceTable) -> None:
    if table.schema != "public" and not table.adopted:
        table.refuse(
            "schema",
            "Lakebed makes its tables in public; one that others made elsewhere is adopted=True "
            "and has no source",
        )
    if name_problem(table.schema) is not None or table.schema.startswith(("pg_", "lakebed")):
        table.refuse("schema", f"{table.schema!r} is no schema of yours; name the table's own")
    if table.adopted:
        _adopted(table)
        return
    for column in table.columns:
        if is_narrow(column.postgres):
            table.refuse(
                "model",
                f"column {column.name!r} is {column.postgres}, which only an adopted table may "
                "have; declare the type without a length, and a rule such as str_length",
            )
        if column.types.labels and not column.postgres.startswith("public."):
            table.refuse("model", f"column {column.name!r}: Lakebed makes its enums in public")


def _adopted(table: SourceTable) -> None:
    if table.source is not None:
        table.refuse("adopted", "others write an adopted table: take the source away")
    if table.write_mode != "append" or table.lookups or table.deletes is not None:
        table.refuse("adopted", "take write_mode, lookups and deletes away: they are for loads")
    if table.tiering is not None and table.tiering.drop_emptied_after is not None:
        table.refuse("tiering.drop_emptied_after", "no leaf of an adopted table is dropped")


def _lag(table: SourceTable) -> None:
    if table.lag is None or isinstance(table.source, RejectedRows):
        return
    if table.cursor is None or table.source is None or table.source.resumes != "query":
        table.refuse("lag", "it is for a database or an API that is read by a cursor")
        return
    column = table.column(table.cursor)
    by_time = column.polars.is_temporal() and column.postgres != "time without time zone"
    if not by_time and not column.polars.is_numeric():
        table.refuse("lag", f"{table.cursor!r} is {column.postgres}; use a time or a number")
    if isinstance(table.lag, timedelta) != by_time:
        what = "a timedelta" if by_time else "a number"
        table.refuse("lag", f"{table.cursor!r} is {column.postgres}: lag must be {what}")
    if (table.lag / DAY if isinstance(table.lag, timedelta) else table.lag) < 0:
        table.refuse("lag", "it is negative")


def _one_of(table: SourceTable, what: str, value: object, known: object) -> None:
    if value not in get_args(known):
        table.refuse(what, f"{value!r} is none of {', '.join(map(repr, get_args(known)))}")


def _writing(table: SourceTable) -> None:
    _one_of(table, "write_mode", table.write_mode, WriteMode)
    _one_of(table, "new_columns", table.new_columns, NewColumns)
    _one_of(table, "missing_columns", table.missing_columns, MissingColumns)
    _one_of(table, "changed_files", table.changed_files, ChangedFiles)
    _one_of(table, "load_by", table.load_by, LoadBy)
    if table.load_by == "window" and (table.source is None or table.partitioning is None):
        table.refuse("load_by", "a window is loaded from a source into a partitioned table")
    if table.load_by == "window" and table.parallel_files > 1:
        table.refuse("load_by", "windows load side by side anyway; take parallel_files out")
    _known(table, "key", table.key)
    for name in table.redact:
        if name not in table.contract_names:
            table.refuse("redact", f"{name!r} is no column of the model")
    if len(set(table.key)) != len(table.key):
        table.refuse("key", "a column stands in it twice")
    for name in table.key:
        if table.column(name).nullable:
            table.refuse("key", f"{name!r} may be null; a key column may not (nullable=False)")
        if not table.column(name).types.keyable:
            table.refuse(
                "key",
                f"{name!r} is {table.column(name).postgres}, whose values are not equal in "
                "PostgreSQL and DuckDB alike; take another column",
            )
    if table.cursor is not None:
        _known(table, "cursor", (table.cursor,))
        if not table.column(table.cursor).orderable:
            table.refuse("cursor", f"{table.cursor!r} has a type without a useful order")
        if table.column(table.cursor).nullable:
            table.refuse("cursor", f"{table.cursor!r} may be null; a cursor may not")
    problem = write_modes.problem(table)
    if problem is not None:
        table.refuse(*problem)
    if table.changed_files == "reload" and table.write_mode == "append":
        table.refuse("changed_files", "reload of an append table doubles rows; use merge or grown")
    by_bytes = table.source is None or table.source.resumes == "bytes"
    if table.changed_files == "grown" and not by_bytes and table.cursor is None:
        table.refuse("changed_files", "'grown' needs a cursor; declare one, or use 'refuse'")
    if not 1 <= table.parallel_files <= 64:
        table.refuse("parallel_files", f"{table.parallel_files} is no number from 1 to 64")
    if not 0 <= table.undo_loads <= MAX_UNDO_LOADS:
        table.refuse("undo_loads", f"{table.undo_loads} is no number from 0 to {MAX_UNDO_LOADS}")
    if table.parallel_files > 1 and table.write_mode != "append":
        table.refuse("parallel_files", "only the files of an append are loaded apart")
    if not 0 <= table.reject_share <= 1:
        table.refuse("reject_share", f"{table.reject_share} is no share between 0 and 1")


def _time(table: SourceTable) -> None:
    by = table.partitioning
    if by is None:
        if table.tiering is not None:
            table.refuse("tiering", "it needs a partitioning; a table without time stays hot")
        return
    _known(table, "partitioning.column", (by.column,))
    column = table.column(by.column)
    if column.duckdb != "TIMESTAMP WITH TIME ZONE":
        table.refuse(
            "partitioning.column",
            f"{by.column!r} is {column.postgres}; declare pl.Datetime('us', 'UTC')",
        )
    if column.nullable:
        table.refuse("partitioning.column", f"{by.column!r} may be null; a row needs its time")
    if table.key and by.column not in table.key:
        table.refuse("key", f"a partitioned table's key holds its time column: add {by.column!r}")
    for what, moment in (("start", by.start), ("end", by.end)):
        if moment is not None and moment.tzinfo is None:
            table.refuse(f"partitioning.{what}", "it names no time zone; add tzinfo=UTC")
    if by.grain.floor(by.start) != by.start.astimezone(UTC):
        table.refuse("partitioning.start", f"it must be the start of a {by.grain}")
    if by.end is not None and (by.end <= by.start or by.grain.floor(by.end) != by.end):
        table.refuse("partitioning.end", f"it must be the start of a {by.grain} after the start")
    if table.tiering is not None:
        _tiering(table, table.tiering)


def _lake_copies(table: SourceTable) -> None:
    if not 0 <= table.kept_lake_copies <= MAX_LAKE_COPIES:
        table.refuse("lake_copies", f"{table.lake_copies} is no number from 0 to {MAX_LAKE_COPIES}")
    if table.lake_copies and table.partitioning is not None:
        table.refuse(
            "lake_copies",
            "they are for tables without partitioning; a partitioned one settles by its tiering",
        )


def _tiering(table: SourceTable, tiering: Tiering) -> None:
    for held in table.columns:
        if held.types.stays_hot:
            table.refuse(
                "tiering", f"column {held.name!r} is {held.postgres}: {held.types.stays_hot}"
            )
    _known(table, "tiering.sort", tiering.sort)
    _one_of(table, "tiering.compression", tiering.compression, Compression)
    if tiering.row_group_rows < 2048:
        table.refuse("tiering.row_group_rows", "DuckDB's row groups hold at least 2048 rows")
    if tiering.hot_for < timedelta(0):
        table.refuse("tiering.hot_for", "it is negative")
    if tiering.late_for is not None and tiering.late_for < timedelta(0):
        table.refuse("tiering.late_for", "it is negative")
    for what in ("drop_emptied_after", "keep_cold_for"):
        age = getattr(tiering, what)
        if age is not None and age <= tiering.hot_for:
            table.refuse(
                f"tiering.{what}",
                f"{age} is not more than hot_for ({tiering.hot_for}): a partition settles before "
                "anything of it is dropped",
            )
