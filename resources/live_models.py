"""The models that were built last, as a snapshot has them, and which of them a query needs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import duckdb

from resources.lake_files import LakeFiles

_LIVE_MODELS = (
    "select model, sql, path, array_to_json(reads)::text as reads from lakebed.model_version"
    " where superseded_at is null order by built_at"
)


@dataclass(frozen=True)
class ModelTable:
    """A model that is a file of the lake; what DuckDB opens for it."""

    address: str


@dataclass(frozen=True)
class LiveModel:
    """A model that was built: its SQL, and the path of its file where it is no view.

    reads: what the SQL names, as JSON; None where it is not known.
    """

    name: str
    sql: str
    path: str | None
    reads: str | None


def live_models(connection: duckdb.DuckDBPyConnection) -> list[LiveModel]:
    """Return the models in the connection's snapshot, in the order in which they were built."""
    rows = connection.execute(
        "from postgres_query('pg', $query)", {"query": _LIVE_MODELS}
    ).fetchall()
    return [LiveModel(*row) for row in rows]


def needed(
    live: Sequence[LiveModel], names: Collection[str] | None, files: LakeFiles
) -> tuple[dict[str, ModelTable | str], frozenset[str] | None]:
    """Return the models that reading the names needs, and all names that it needs.

    None stands for everything, which a view needs that does not say what it reads.
    """
    wanted = None if names is None else _with_what_they_read(live, names)
    targets = {
        model.name: ModelTable(files.address(model.path)) if model.path else model.sql
        for model in live
        if wanted is None or model.name in wanted
    }
    return targets, wanted


def _with_what_they_read(
    live: Sequence[LiveModel], names: Collection[str]
) -> frozenset[str] | None:
    by_name = {model.name: model for model in live}
    waiting, wanted = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.add(name)
        model = by_name.get(name)
        if model is not None and not model.path:
            if model.reads is None:
                return None
            waiting += json.loads(model.reads)
    return frozenset(wanted)
