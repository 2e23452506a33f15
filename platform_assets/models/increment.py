"""Run an incremental model once: write its new files, and replace live files where needed.

    append           adds one file with the new rows
    delete+insert    also rewrites every file that contains a key of the new rows, without it
    merge            the same, and refuses a key that occurs twice among the new rows

A run therefore costs as much as its rows and the files with their keys. Of the remaining files it
reads only the statistics of the keys. Many small files become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import duckdb
from psycopg import sql

from lakebed.models.model import Incremental, Model, ModelError
from lakebed.models.model_files import Columns, FileWriter, LiveFile, Written, rows_in

SMALL = 4 * 1024 * 1024
"""A file of fewer bytes is small: a run can merge it with other small files."""
MANY = 16
"""How many small files a model has before a run merges them."""
_REBUILD_COMMAND = "lakebed build {} --full-refresh"
_REBUILD = f"Build it whole: {_REBUILD_COMMAND}."


@dataclass(frozen=True)
class Change:
    """The files after a run. kept: the live files that stay, in addition to the written ones."""

    columns: Columns
    kept: tuple[LiveFile, ...]


def described(connection: duckdb.DuckDBPyConnection, query: str) -> Columns:
    """Return the columns of a query."""
    # As a table, so that repeated column names become the names that a file would have.
    rows = connection.execute(f"describe from ({query}\n)").fetchall()
    return tuple((name, kind) for name, kind, *_ in rows)


def whole(connection: duckdb.DuckDBPyConnection, writer: FileWriter) -> Change:
    """Write all rows of a model."""
    written = writer.write(connection, sql.SQL(writer.model.sql))
    return Change(written.columns, ())


def increment(
    connection: duckdb.DuckDBPyConnection, writer: FileWriter, live: Sequence[LiveFile]
) -> Change:
    """Write the new rows of a run, and rewrite the live files that they change.

    Args:
        connection: The DuckDB session.
        writer: Writes the files of this build.
        live: The live files, at least one.

    Raises:
        ModelError: The new rows do not fit the model.
    """
    model, rule = writer.model, _rule(writer.model)
    there = columns_of(live)
    fresh = described(connection, model.sql)
    columns = columns_after(model, there, fresh)
    query = fitted(model, model.sql, columns, fresh)
    new = writer.write(connection, query)
    if not new.rows and columns == there:
        writer.drop(new)
        return Change(columns, tuple(live))
    keys = _key_of(model, rule, columns)
    if rule.strategy == "merge":
        _refuse_doubled(connection, model, new, keys)
    hits = _hits(connection, live, new, keys) if keys and new.rows else {}
    kept = _rewrite(connection, writer, live, new, keys, hits)
    return Change(columns, kept)


def columns_after(model: Model, there: Columns, fresh: Columns) -> Columns:
    """Return the columns of a model after a run, by its option on_schema_change.

    Raises:
        ModelError: The option does not allow the change.
    """
    known = {name.casefold(): kind for name, kind in there}
    given = {name.casefold(): kind for name, kind in fresh}
    rule = _rule(model).on_schema_change
    added = tuple(column for column in fresh if column[0].casefold() not in known)
    gone = [name for name, _ in there if name.casefold() not in given]
    other = [
        f"{name} was {known[name.casefold()]} and is {kind}"
        for name, kind in fresh
        if known.get(name.casefold(), kind) != kind
    ]
    rebuild = _REBUILD.format(model.name)
    if rule == "fail" and (added or gone or other):
        changes = [f"{name} is new" for name, _ in added] + [f"{name} is gone" for name in gone]
        raise ModelError(
            model.path,
            None,
            f"the columns of {model.name!r} changed: {', '.join(changes + other)}",
            f"{rebuild} Or set on_schema_change='append_new_columns'.",
        )
    if rule == "ignore" and gone:
        raise ModelError(
            model.path,
            None,
            f"the model {model.name!r} has {', '.join(gone)}, and its query does not",
            f"{rebuild} Or set on_schema_change='append_new_columns'.",
        )
    return there + added if rule == "append_new_columns" else there


def _rule(model: Model) -> Incremental:
    assert model.incremental is not None
    return model.incremental


def columns_of(live: Sequence[LiveFile]) -> Columns:
    """Return the columns of all files. Later files have the columns of earlier ones, and more."""
    return max((file.columns for file in live), key=len)


def fitted(model: Model, query: str, columns: Columns, fresh: Columns) -> sql.Composable:
    """Return the query that casts a model's query to the stored columns and types.

    DuckDB refuses the query where a cast would change a value: 1.6 in a column of integers.

    Args:
        model: The model.
        query: Its query.
        columns: The stored columns.
        fresh: The columns of the query, whose names may differ in case.
    """
    given = {name.casefold(): (name, kind) for name, kind in fresh}
    selected = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(
            _fitted(model, column, given.get(column[0].casefold())), sql.Identifier(column[0])
        )
        for column in columns
    )
    # The model's SQL begins on the first line, so that DuckDB's errors name the right lines.
    return sql.SQL("select {} from ({}\n) as lakebed_new").format(selected, sql.SQL(query))


def _fitted(model: Model, column: tuple[str, str], given: tuple[str, str] | None) -> sql.Composable:
    name, kind = column
    if given is None:
        return sql.SQL("cast(null as {})").format(sql.SQL(kind))
    value = sql.Identifier(given[0])
    if given[1] == kind:
        return value
    cast = sql.SQL("cast({} as {})").format(value, sql.SQL(kind))
    back: sql.Composable = sql.SQL("cast({} as {})").format(cast, sql.SQL(given[1]))
    if "BOOLEAN" in (kind, given[1]) and "VARCHAR" not in (kind, given[1]):
        back = sql.NULL  # 1 is not true
    problem = f"column {name!r} of the model is {kind}, which would change the query's {given[1]} "
    advice = f". Cast it in the query, or build the model whole: {_REBUILD_COMMAND}"
    return sql.SQL(
        "case when {back} is not distinct from {value} then {cast}"
        " else error({problem} || {value}::varchar || {advice}) end"
    ).format(
        back=back,
        value=value,
        cast=cast,
        problem=sql.Literal(problem),
        advice=sql.Literal(advice.format(model.name)),
    )


def _key_of(model: Model, rule: Incremental, columns: Columns) -> tuple[str, ...]:
    names = {name.casefold(): name for name, _ in columns}
    for name in rule.unique_key:
        if name.casefold() not in names:
            raise ModelError(
                model.path,
                None,
                f"unique_key of {model.name!r} names {name!r}, which is not a column of the model",
                f"The columns are {', '.join(names.values())}.",
            )
    return tuple(names[name.casefold()] for name in rule.unique_key)


def _refuse_doubled(
    connection: duckdb.DuckDBPyConnection, model: Model, new: Written, keys: tuple[str, ...]
) -> None:
    doubled = sql.SQL(
        "select {0}, count(*) from ({1}) group by {0} having count(*) > 1 and {2} limit 1"
    ).format(_names(keys), new.body, _all_there(keys))
    found = connection.execute(doubled.as_string()).fetchall()
    if found:
        *values, count = found[0]
        example = ", ".join(f"{key} = {value}" for key, value in zip(keys, values, strict=True))
        raise ModelError(
            model.path,
            None,
            f"{model.name!r} merges {count} rows with one key: {example}",
            "Return each key once from the query, or set incremental_strategy='delete+insert'.",
        )


def _hits(
    connection: duckdb.DuckDBPyConnection,
    live: Sequence[LiveFile],
    new: Written,
    keys: tuple[str, ...],
) -> dict[int, int]:
    """Return, for each file number, how many of its rows have a key of the new rows."""
    kinds = dict(new.columns)
    query = sql.SQL(
        "select lakebed_file, count(*) from ({}) as lakebed_old"
        " semi join (select {} from ({})) as lakebed_new using ({}) group by lakebed_file"
    ).format(
        rows_in(live, tuple((key, kinds[key]) for key in keys), "lakebed_file"),
        _names(keys),
        new.body,
        _names(keys),
    )
    counts = {
        PurePosixPath(address).name: int(count)
        for address, count in connection.execute(query.as_string()).fetchall()
    }
    return {
        file.number: counts[name]
        for file in live
        if (name := PurePosixPath(file.address).name) in counts
    }


def _rewrite(
    connection: duckdb.DuckDBPyConnection,
    writer: FileWriter,
    live: Sequence[LiveFile],
    new: Written,
    keys: tuple[str, ...],
    hits: dict[int, int],
) -> tuple[LiveFile, ...]:
    """Rewrite the files with keys of the new rows, merge small ones, and return the rest."""
    left = [file for file in live if hits.get(file.number, 0) < file.rows]
    small = [file for file in left if file.bytes < SMALL]
    together = small if len(small) >= MANY else [file for file in small if file.number in hits]
    alone = [file for file in left if file.number in hits and file not in together]
    for file in alone:
        writer.write(connection, _without(new.columns, [file], new, keys))
    if together:
        rest = _without(new.columns, together, new, keys)
        both = sql.SQL("{} union all {}").format(rest, new.body)
        writer.write(connection, both)
        writer.drop(new)
    return tuple(file for file in left if file not in together and file not in alone)


def _without(
    columns: Columns, files: Sequence[LiveFile], new: Written, keys: tuple[str, ...]
) -> sql.Composable:
    """Return the query for the rows of live files whose keys are not among the new rows."""
    rows = rows_in(files, columns)
    if not keys:
        return rows
    return sql.SQL("from ({}) as lakebed_old anti join (select {} from ({})) using ({})").format(
        rows, _names(keys), new.body, _names(keys)
    )


def _names(names: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _all_there(keys: Sequence[str]) -> sql.Composable:
    """Return the condition that no key is null, because null never equals null."""
    return sql.SQL(" and ").join(sql.SQL("{} is not null").format(sql.Identifier(k)) for k in keys)
