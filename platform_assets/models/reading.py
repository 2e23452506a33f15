"""Run a model's SQL in a session: with the cold files that it needs, and with located errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import duckdb

from lakebed.models.model import ModelError, ModelSet, Query
from lakebed.models.schemas import model_error
from lakebed.resources.lake_files import LakeFileError
from lakebed.resources.session import ReadSession

_ABSENT = re.compile(r"Table with name (\S+) does not exist")


@contextmanager
def errors_located(models: ModelSet, query: Query) -> Iterator[None]:
    """Turn errors of DuckDB and the lake about a query into a ModelError that names its place."""
    try:
        yield
    except duckdb.Error as error:
        absent = _ABSENT.search(str(error))
        if absent is not None and absent[1] in models.by_name:
            raise ModelError(
                query.path,
                None,
                f"{query.name!r} reads {absent[1]!r}, which was never built",
                f"Build it first: lakebed build --select +{query.name}.",
            ) from error
        raise model_error(query, error) from error
    except LakeFileError as error:
        raise ModelError(
            query.path, None, f"{query.name!r} was not published: {error}", "Build it again."
        ) from error


@contextmanager
def reading(session: ReadSession, query: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield DuckDB with the cold files that a query needs, and exact values of hot rows."""
    with session.pruned(query) if session.looks_first else nullcontext():
        yield session.bare
