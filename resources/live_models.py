"""The models that were built last, as a snapshot has them, and which of them a query needs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import duckdb
from psycopg import sql

from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.tiers import listed, parquet

_LIVE_MODELS = """
select
    v.model, v.sql,
    case when v.path is not null then json_build_array(v.path)::text else f.paths end as paths,
    coalesce(f.layouts, 1) > 1 as mixed,
    array_to_json(v.reads)::text as reads
from lakebed.model_version v
left join (
    select model, json_agg(path order by number)::text as paths, count(distinct columns) as layouts
    from lakebed.model_file where superseded_at is null group by model
) f on f.model = v.model and v.materialized = 'incremental'
where v.superseded_at is null order by v.built_at"""


@dataclass(frozen=True)
class ModelTable:
    """A model that is files of the lake; what DuckDB opens for it.

    mixed: the later files have columns that the earlier ones have not.
    """

    addresses: tuple[str, ...]
    mixed: bool = False

    @property
    def rows(self) -> sql.Composable:
        """The query that gives its rows."""
        return parquet(listed(self.addresses), mixed=self.mixed)


@dataclass(frozen=True)
class LiveModel:
    """A model that was built: its SQL, and the paths of its files where it is no view.

    paths: a list as JSON.  reads: what the SQL names, as JSON; None where it is not known.
    """

    name: str
    sql: str
    paths: str | None
    mixed: bool
    reads: str | None

    def target(self, files: LakeFiles) -> ModelTable | str:
        """Return the files, or the SQL of a view."""
        if self.paths is None:
            return self.sql
        return ModelTable(tuple(map(files.address, json.loads(self.paths))), self.mixed)


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
        model.name: model.target(files) for model in live if wanted is None or model.name in wanted
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
        if model is not None and model.paths is None:
            if model.reads is None:
                return None
            waiting += json.loads(model.reads)
    return frozenset(wanted)
