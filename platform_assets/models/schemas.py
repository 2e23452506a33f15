"""Find the columns of every model before anything runs: DuckDB binds them over empty tables.

Errors that DuckDB finds there (an unknown column, a sum of texts) name file and line. Binding
reads no row and connects to no server.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import duckdb

from lakebed.models.model import Model, ModelError, ModelSet, Query, SourceLocation
from lakebed.models.queries import quoted
from lakebed.spec.broken import raise_first

Schemas = dict[str, dict[str, str]]
_LINE = re.compile(r"^LINE (\d+): ", re.M)


def model_schemas(models: ModelSet, tables: Mapping[str, Mapping[str, str]]) -> Schemas:
    """Return the columns and DuckDB types of the tables and of all models, by name.

    Args:
        models: The models.
        tables: Name -> column -> DuckDB type, of every source table that a model reads.

    Raises:
        ModelError: A model does not fit the tables.
    """
    bound, schemas = fitting_models(models, tables)
    raise_first(bound.broken)
    return schemas


def fitting_models(
    models: ModelSet, tables: Mapping[str, Mapping[str, str]]
) -> tuple[ModelSet, Schemas]:
    """Return the models that fit the tables and each other, and the columns of all of these.

    The rest, and their readers, become broken items of the returned set.

    Args:
        models: The models that can be read.
        tables: Name -> column -> DuckDB type, of every source table that a model reads.
    """
    schemas: Schemas = {name: dict(columns) for name, columns in tables.items()}
    refused: dict[str, ModelError] = {}
    unknown: set[str] = set()
    with _empty_tables(tables) as connection:
        for model in models.models:
            if unknown & {*model.refs}:
                unknown.add(model.name)
                continue
            try:
                schemas[model.name] = _bind(connection, model)
            except ModelError as error:
                unknown.add(model.name)
                refused[model.name] = error
    return models.without(refused), schemas


def refused_models(
    models: ModelSet, tables: Mapping[str, Mapping[str, str]], wanted: Collection[str]
) -> dict[str, ModelError]:
    """Return the wanted models that do not fit the tables or each other, each with its error.

    Readers of a refused model are not examined.
    """
    needed = {*wanted}.union(*(models.ancestors[name] for name in wanted))
    refused: dict[str, ModelError] = {}
    unknown: set[str] = set()
    with _empty_tables(tables) as connection:
        for model in models.models:
            if model.name not in needed:
                continue
            if unknown & {*model.refs}:
                unknown.add(model.name)
                continue
            try:
                _bind(connection, model)
            except ModelError as error:
                unknown.add(model.name)
                if model.name in wanted:
                    refused[model.name] = error
    return refused


@contextmanager
def _empty_tables(
    tables: Mapping[str, Mapping[str, str]],
) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for name, columns in tables.items():
            # A type is SQL, such as DECIMAL(15, 2). It comes from the catalog, not from a user.
            fields = ", ".join(f"{quoted(column)} {kind}" for column, kind in columns.items())
            connection.execute(f"create table {quoted(name)} ({fields})")
        yield connection


def model_error(model: Query, error: duckdb.Error) -> ModelError:
    """Turn DuckDB's error about a model's SQL into one that names file and line.

    The compiled SQL must begin on the first line of the statement.
    """
    text = str(error)
    line = _LINE.search(text)
    problem = _LINE.split(text)[0].strip().replace("\n", " ")
    place = model.place_of(int(line[1])) if line else SourceLocation(model.path, None)
    elsewhere = line is not None and place != SourceLocation(model.path, int(line[1]))
    compiled = f" (line {line[1]} of the compiled SQL)" if line and elsewhere else ""
    return ModelError(
        *place,
        f"DuckDB refuses {model.name!r}: {problem.rstrip('.!')}{compiled}",
        "Correct the query or its inputs.",
    )


def _bind(connection: duckdb.DuckDBPyConnection, model: Model) -> dict[str, str]:
    try:
        for hook in model.pre_hooks:
            _prepare(connection, hook)
        connection.execute(f"create view {quoted(model.name)} as {model.sql}")
    except duckdb.Error as error:
        raise model_error(model, error) from error
    rows = connection.execute(f"describe {quoted(model.name)}").fetchall()
    return {name: kind for name, kind, *_ in rows}


def _prepare(connection: duckdb.DuckDBPyConnection, hook: str) -> None:
    """Run only those statements of a hook that define a macro or change a setting."""
    for statement in connection.extract_statements(hook):
        if statement.type in (duckdb.StatementType.CREATE, duckdb.StatementType.SET):
            connection.execute(statement)
