"""The columns of every model before anything ran: DuckDB binds them over empty tables.

What DuckDB finds wrong there (an unknown column, a sum of texts) is told with file and line. No
row is read and no server is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb

from platform_assets.models.model import Model, ModelError, ModelSet, Query
from platform_assets.models.queries import quoted

Schemas = dict[str, dict[str, str]]
_LINE = re.compile(r"^LINE (\d+): ", re.M)


def model_schemas(models: ModelSet, tables: Mapping[str, Mapping[str, str]]) -> Schemas:
    """Return the columns and DuckDB types of the tables and of all models, by name.

    tables: name -> column -> DuckDB type, of every source table that a model reads.
    Raises ModelError for a model that does not fit the tables.
    """
    schemas: Schemas = {name: dict(columns) for name, columns in tables.items()}
    with duckdb.connect() as connection:
        for name, columns in tables.items():
            # A type is SQL by itself, DECIMAL(15, 2); it comes from the catalogue, not from a user.
            fields = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
            connection.execute(f"create table {quoted(name)} ({fields})")
        for model in models.models:
            schemas[model.name] = _bind(connection, model)
    return schemas


def model_error(model: Query, error: duckdb.Error) -> ModelError:
    """Return DuckDB's complaint about a model's SQL as an error that names file and line.

    The compiled SQL must stand in the statement from its first line on.
    """
    text = str(error)
    line = _LINE.search(text)
    problem = _LINE.split(text)[0].strip().replace("\n", " ")
    return ModelError(
        model.path,
        model.line_of(int(line[1])) if line else None,
        f"DuckDB refuses {model.name!r}: {problem.rstrip('.!')}",
        "Mend the query, or what it reads.",
    )


def _bind(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, str]:
    try:
        connection.execute(f"create view {quoted(model.name)} as {model.sql}")
    except duckdb.Error as error:
        raise model_error(model, error) from error
    rows = connection.execute(f"describe {quoted(model.name)}").fetchall()
    return {name: kind for name, kind, *_ in rows}
