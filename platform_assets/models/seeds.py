"""Read seeds: small CSV files whose rows become a model.

A column has the type that dbt-duckdb infers from all of its values: INTEGER, DOUBLE, DATE,
TIMESTAMP, BOOLEAN, else VARCHAR. Values too large for INTEGER make it BIGINT. An empty field is
null. Options can set other types.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import duckdb
from psycopg import sql

from lakebed.models.model import ModelError

_WHOLE = r"^[+-]?\d+(\.0*)?$"
_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
_DAY = r"^\d{4}-\d{1,2}-\d{1,2}$"
_MOMENT = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?$"
# @ is the column. The first type that fits all values wins; a column without values fits any.
_TYPES = {
    "INTEGER": f"regexp_matches(@, '{_WHOLE}') and try_cast(@ as integer) is not null",
    "BIGINT": f"regexp_matches(@, '{_WHOLE}') and try_cast(@ as bigint) is not null",
    "DOUBLE": f"regexp_matches(@, '{_NUMBER}')",
    "DATE": f"regexp_matches(@, '{_DAY}') and try_cast(@ as date) is not null",
    "TIMESTAMP": f"regexp_matches(@, '{_MOMENT}') and try_cast(@ as timestamp) is not null",
    "BOOLEAN": "lower(trim(@)) in ('true', 'false')",
}


def seed_query(path: Path, options: Mapping[str, object]) -> str:
    """Return the query for a CSV file's rows with their types.

    Args:
        path: The file.
        options: Its options, of which column_types and delimiter matter here.

    Raises:
        ModelError: The file cannot be read.
    """
    if path.stat().st_size == 0:
        raise ModelError(
            path,
            None,
            "the seed is empty",
            "Write at least a header with the names of its columns.",
        )
    delimiter = str(options.get("delimiter", ","))
    header = _header(path, delimiter)
    # No detection: DuckDB would look for another header, and for comments, among the rows.
    rows = sql.SQL(
        "read_csv({}, auto_detect = false, header = true, skip = 0, delim = {}, quote = '\"',"
        " escape = '\"', comment = '', columns = {{{}}})"
    ).format(
        str(path.resolve()),
        delimiter,
        sql.SQL(", ").join(sql.SQL("{}: 'VARCHAR'").format(name) for name in header),
    )
    column_types = options.get("column_types")
    given = (
        {str(k).casefold(): str(v) for k, v in column_types.items()}
        if isinstance(column_types, Mapping)
        else {}
    )
    with duckdb.connect() as connection:
        try:
            described = connection.execute(sql.SQL("describe from {}").format(rows).as_string())
            names = [str(row[0]) for row in described.fetchall()]
            kinds = _kinds(connection, rows, [n for n in names if n.casefold() not in given])
        except duckdb.Error as error:
            line, text = _fault(error)
            raise ModelError(
                path, line, f"the seed cannot be read: {text}", "Correct the file."
            ) from error
    for name in given:
        if name not in {known.casefold() for known in names}:
            problem = f"column_types names {name!r}, which is not a column of the seed"
            advice = f"The columns are {', '.join(names)}."
            raise ModelError(path, None, problem, advice)
    kinds |= {name: given[name.casefold()] for name in names if name.casefold() in given}
    columns = sql.SQL(",\n").join(
        sql.SQL("    cast({0} as {1}) as {0}").format(sql.Identifier(name), sql.SQL(kinds[name]))
        for name in names
    )
    return sql.SQL("select\n{}\nfrom {}").format(columns, rows).as_string()


def _header(path: Path, delimiter: str) -> list[str]:
    """Return the names in the first line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            names = next(csv.reader(stream, delimiter=delimiter), [])
    except (UnicodeDecodeError, csv.Error, TypeError) as error:
        raise ModelError(
            path, 1, f"the header cannot be read: {error}", "Correct the file."
        ) from error
    doubled = next((n for n in names if names.count(n) > 1), None)
    if doubled is not None or not all(names):
        problem = f"two columns are called {doubled!r}" if doubled else "a column has no name"
        raise ModelError(path, 1, problem, "Correct the first line.")
    return names


def _fault(error: duckdb.Error) -> tuple[int | None, str]:
    """Return the line that DuckDB's error names, and its message."""
    lines = str(error).splitlines()
    found = re.search(r"on Line: (\d+)", str(error))
    if found is None and "invalid state" in lines[0]:
        return None, "its lines end in different ways (CRLF and LF), or a quote is not closed"
    if found is None:
        return None, lines[0].rstrip(".")
    message = next((line for line in lines[1:] if line and "Original Line" not in line), lines[0])
    return int(found[1]), message.strip().rstrip(".")


def _kinds(
    connection: duckdb.DuckDBPyConnection, rows: sql.Composable, names: list[str]
) -> dict[str, str]:
    if not names:
        return {}
    tests = [
        _all(condition, sql.Identifier(name).as_string())
        for name in names
        for condition in _TYPES.values()
    ]
    query = f"select {', '.join(tests)} from {rows.as_string()}"  # noqa: S608  (composed above)
    fits = iter(connection.execute(query).fetchall()[0])
    kinds = {}
    for name in names:
        answers = {kind: bool(next(fits)) for kind in _TYPES}
        kinds[name] = next((kind for kind, fit in answers.items() if fit), "VARCHAR")
    return kinds


def _all(condition: str, column: str) -> str:
    test = f"bool_and({condition}) filter (where @ is not null)".replace("@", column)
    return f"coalesce({test}, true)"
