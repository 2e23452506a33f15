"""Check a table spec field by field when it is constructed. No I/O."""

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
"""The form that Dagster accepts."""
SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})


def check(table: SourceTable) -> None:
    """Refuse a table whose fields contradict each other.

    Raises:
        TableError: A field is wrong; the text names it, what was found and how to fix it.
    """
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
"""The classes that a field's value may have, by the field's annotation."""


def check_kinds(table: SourceTable) -> None:
    """Refuse values whose class does not fit their field, such as a text for a tuple.

    Raises:
        TableError: A value has another class than its field.
    """
    parts: list[tuple[str, object]] = [
        ("", table),
        ("source.", table.source),
        ("deletes.", table.deletes),
    ]
    parts += [("partitioning.", table.partitioning), ("tiering.", table.tiering)]
    if not isinstance(table.surrogate, Surrogate | None):
        table.refuse("surrogate", f"it is {table.surrogate!r}. Expected Surrogate('id')")
    if not isinstance(table.lookups, tuple):
        table.refuse("lookups", f"it is {table.lookups!r}. Expected one Lookup(...) or a tuple")
    for lookup in table.lookups:
        if not isinstance(lookup, Lookup):
            table.refuse("lookups", f"it contains {lookup!r}. Expected Lookup(...)")
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
        return f"it is {value!r}. Expected a tuple: write ({value!r},)"
    known = [_KINDS[choice] for choice in choices if choice in _KINDS]
    if len(known) < len([choice for choice in choices if choice != "None"]):
        return None  # a class with its own rules
    if any(isinstance(value, kind) for kind in known):
        return None
    return f"it is {value!r}. Expected {' or '.join(one for one in choices if one != 'None')}"


def _shown(table: SourceTable) -> None:
    if table.owner is not None and not OWNER.fullmatch(table.owner):
        table.refuse("owner", f"it is {table.owner!r}. Expected team:<name> or an e-mail address")
    if table.freshness is not None and table.freshness <= timedelta(0):
        table.refuse("freshness", f"it is {table.freshness}. Expected a time above zero")


def name_problem(name: str) -> str | None:
    """Return why a column cannot have this name, as the end of a sentence, or None."""
    if not name or len(name.encode()) > MAX_IDENTIFIER_BYTES or "\0" in name:
        return ": PostgreSQL's names have 1 to 63 bytes; rename it"
    if not name.strip():
        return " has only blanks in its name; rename it"
    if name in SYSTEM_COLUMNS:
        return " has the name of a system column of PostgreSQL; rename it"
    if name.lower().startswith(OURS):
        return f": {OURS} is the prefix of columns that loads add; rename it"
    return None


def _known(table: SourceTable, what: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in table.column_names:
            known = ", ".join(table.column_names)
            table.refuse(what, f"the model has no column {name!r}. Expected one of {known}")


def _columns(table: SourceTable) -> None:
    if not table.columns:
        table.refuse("model", "it has no fields; declare at least one column")
    for name in table.column_names:
        problem = name_problem(name)
        if problem is not None:
            table.refuse("model", f"column {name!r}{problem}")
    by_lower_case: dict[str, str] = {}
    for name in table.column_names:
        twin = by_lower_case.setdefault(name.lower(), name)
        if twin != name:
            table.refuse(
                "model",
                f"columns {twin!r} and {name!r} differ in upper and lower case only, and DuckDB "
                "ignores case; rename one",
            )


def _shape(table: SourceTable) -> None:
    problem = transform_problem(table.transforms, table.contract)
    if problem is not None:
        table.refuse(f"transforms[{problem[0]!r}]", problem[1])
    if table.transforms and table.source is None:
        table.refuse("transforms", "they need a source; declare one, or remove transforms")
    both = set(table.ignored) & set(table.source_columns)
    if both:
        table.refuse(
            "ignored",
            f"the model or transforms use {sorted(both)[0]!r}; remove it from ignored",
        )


def _source(table: SourceTable) -> None:
    problem = table.source.problem() if table.source is not None else None
    if problem is not None:
        table.refuse("source", problem)
    if table.new_columns == "evolve" and isinstance(table.source, RestApi | DltResource):
        table.refuse(
            "new_columns", "an API does not declare its columns; use 'freeze' or 'discard'"
        )
    if isinstance(table.source, RestApi) and table.loads_whole:
        unproven = table.source.unproven_end()
        if unproven is not None:
            table.refuse(
                "source",
                f"a load deletes rows that are missing from a full extract, but {unproven}",
            )


def _place(table: SourceTable) -> None:
    if table.schema != "public" and not table.adopted:
        table.refuse(
            "schema",
            f"it is {table.schema!r}, but Lakebed creates tables in public; for a table of an "
            "application declare adopted=True and no source",
        )
    if name_problem(table.schema) is not None or table.schema.startswith(("pg_", "lakebed")):
        table.refuse("schema", f"{table.schema!r} is a reserved name; name the table's own schema")
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
            table.refuse(
                "model",
                f"column {column.name!r} is of {column.postgres}, but Lakebed creates enums in "
                "public; remove the schema from its name",
            )


def _adopted(table: SourceTable) -> None:
    if table.source is not None:
        table.refuse("adopted", "the application writes an adopted table; remove source")
    if table.write_mode != "append" or table.lookups or table.deletes is not None:
        table.refuse("adopted", "write_mode, lookups and deletes are for loads; remove them")
    if table.tiering is not None and table.tiering.drop_emptied_after is not None:
        table.refuse(
            "tiering.drop_emptied_after",
            "Lakebed never drops a partition table of an adopted table; remove it",
        )


def _lag(table: SourceTable) -> None:
    if table.lag is None or isinstance(table.source, RejectedRows):
        return
    if table.cursor is None or table.source is None or table.source.resumes != "query":
        table.refuse("lag", "it needs a database or an API as source, and a cursor")
        return
    column = table.column(table.cursor)
    by_time = column.polars.is_temporal() and column.postgres != "time without time zone"
    if not by_time and not column.polars.is_numeric():
        table.refuse(
            "lag", f"{table.cursor!r} is {column.postgres}. Expected a time or a number as cursor"
        )
    if isinstance(table.lag, timedelta) != by_time:
        what = "a timedelta" if by_time else "a number"
        table.refuse("lag", f"{table.cursor!r} is {column.postgres}. Expected {what}")
    if (table.lag / DAY if isinstance(table.lag, timedelta) else table.lag) < 0:
        table.refuse("lag", f"it is {table.lag}. Expected 0 or more")


def _one_of(table: SourceTable, what: str, value: object, known: object) -> None:
    if value not in get_args(known):
        names = ", ".join(map(repr, get_args(known)))
        table.refuse(what, f"it is {value!r}. Expected one of {names}")


def _writing(table: SourceTable) -> None:
    _one_of(table, "write_mode", table.write_mode, WriteMode)
    _one_of(table, "new_columns", table.new_columns, NewColumns)
    _one_of(table, "missing_columns", table.missing_columns, MissingColumns)
    _one_of(table, "changed_files", table.changed_files, ChangedFiles)
    _one_of(table, "load_by", table.load_by, LoadBy)
    if table.load_by == "window" and (table.source is None or table.partitioning is None):
        table.refuse("load_by", "'window' needs source and partitioning; declare both")
    if table.load_by == "window" and table.parallel_files > 1:
        table.refuse("load_by", "windows can load in parallel anyway; remove parallel_files")
    _known(table, "key", table.key)
    for name in table.redact:
        if name not in table.contract_names:
            table.refuse("redact", f"the model has no column {name!r}")
    if len(set(table.key)) != len(table.key):
        table.refuse("key", "it has a column twice; remove one")
    for name in table.key:
        if table.column(name).nullable:
            table.refuse("key", f"{name!r} may be null; declare it nullable=False")
        if not table.column(name).types.keyable:
            table.refuse(
                "key",
                f"{name!r} is {table.column(name).postgres}, whose equality differs between "
                "PostgreSQL and DuckDB; choose another column",
            )
    if table.cursor is not None:
        _known(table, "cursor", (table.cursor,))
        if not table.column(table.cursor).orderable:
            kind = table.column(table.cursor).postgres
            table.refuse("cursor", f"{table.cursor!r} is {kind}; choose a time, number or text")
        if table.column(table.cursor).nullable:
            table.refuse("cursor", f"{table.cursor!r} may be null; declare it nullable=False")
    problem = write_modes.problem(table)
    if problem is not None:
        table.refuse(*problem)
    if table.changed_files == "reload" and table.write_mode == "append":
        table.refuse(
            "changed_files", "a reload would append every row again; use merge, or 'grown'"
        )
    by_bytes = table.source is None or table.source.resumes == "bytes"
    if table.changed_files == "grown" and not by_bytes and table.cursor is None:
        table.refuse("changed_files", "'grown' needs a cursor; declare one, or use 'refuse'")
    if not 1 <= table.parallel_files <= 64:
        table.refuse("parallel_files", f"it is {table.parallel_files}. Expected 1 to 64")
    if not 0 <= table.undo_loads <= MAX_UNDO_LOADS:
        table.refuse("undo_loads", f"it is {table.undo_loads}. Expected 0 to {MAX_UNDO_LOADS}")
    if table.parallel_files > 1 and table.write_mode != "append":
        table.refuse("parallel_files", "it is for write_mode='append' only; remove it")
    if not 0 <= table.reject_share <= 1:
        table.refuse("reject_share", f"it is {table.reject_share}. Expected a share from 0 to 1")


def _time(table: SourceTable) -> None:
    by = table.partitioning
    if by is None:
        if table.tiering is not None:
            table.refuse("tiering", "it needs partitioning; declare partitioning too")
        return
    _known(table, "partitioning.column", (by.column,))
    column = table.column(by.column)
    if column.duckdb != "TIMESTAMP WITH TIME ZONE":
        table.refuse(
            "partitioning.column",
            f"{by.column!r} is {column.postgres}; declare pl.Datetime('us', 'UTC')",
        )
    if column.nullable:
        table.refuse("partitioning.column", f"{by.column!r} may be null; declare it nullable=False")
    if table.key and by.column not in table.key:
        table.refuse("key", f"a partitioned table's key needs its time column; add {by.column!r}")
    for what, moment in (("start", by.start), ("end", by.end)):
        if moment is not None and moment.tzinfo is None:
            table.refuse(f"partitioning.{what}", "it has no time zone; add tzinfo=UTC")
    if by.grain.floor(by.start) != by.start.astimezone(UTC):
        table.refuse("partitioning.start", f"it must be the start of a {by.grain}")
    if by.end is not None and (by.end <= by.start or by.grain.floor(by.end) != by.end):
        table.refuse("partitioning.end", f"it must be the start of a {by.grain} after the start")
    if table.tiering is not None:
        _tiering(table, table.tiering)


def _lake_copies(table: SourceTable) -> None:
    if not 0 <= table.kept_lake_copies <= MAX_LAKE_COPIES:
        table.refuse("lake_copies", f"it is {table.lake_copies}. Expected 0 to {MAX_LAKE_COPIES}")
    if table.lake_copies and table.partitioning is not None:
        table.refuse(
            "lake_copies",
            "lake copies are for tables without partitioning; remove it, or partitioning",
        )


def _tiering(table: SourceTable, tiering: Tiering) -> None:
    for column in table.columns:
        if column.types.stays_hot:
            table.refuse(
                "tiering", f"column {column.name!r} is {column.postgres}: {column.types.stays_hot}"
            )
    _known(table, "tiering.sort", tiering.sort)
    _one_of(table, "tiering.compression", tiering.compression, Compression)
    if tiering.row_group_rows < 2048:
        table.refuse(
            "tiering.row_group_rows", f"it is {tiering.row_group_rows}. Expected at least 2048"
        )
    if tiering.hot_for < timedelta(0):
        table.refuse("tiering.hot_for", f"it is {tiering.hot_for}. Expected 0 or more")
    if tiering.late_for is not None and tiering.late_for < timedelta(0):
        table.refuse("tiering.late_for", f"it is {tiering.late_for}. Expected 0 or more")
    for what in ("drop_emptied_after", "keep_cold_for"):
        age = getattr(tiering, what)
        if age is not None and age <= tiering.hot_for:
            table.refuse(
                f"tiering.{what}",
                f"it is {age}. Expected more than hot_for ({tiering.hot_for}), as a partition "
                "moves before Lakebed drops it",
            )
