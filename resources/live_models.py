"""The latest models that were built, in a snapshot, and which of them a query needs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import duckdb
from psycopg import sql

from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.layouts import ask
from lakebed.resources.stored_form import StoredColumn, as_queried
from lakebed.resources.tiers import listed

_LIVE_MODELS = """
select
    v.model, v.sql,
    case when v.path is not null
        then json_build_array(json_build_array(v.columns, json_build_array(v.path)))::text
        else f.groups
    end as groups,
    array_to_json(v.reads)::text as reads
from lakebed.model_version v
left join (
    select model, json_agg(json_build_array(columns, paths) order by first)::text as groups
    from (
        select model, columns, json_agg(path order by number) as paths, min(number) as first
        from lakebed.model_file where superseded_at is null group by model, columns
    ) alike group by model
) f on f.model = v.model and v.materialized = 'incremental'
where v.superseded_at is null order by v.built_at"""


@dataclass(frozen=True)
class FileGroup:
    """Files of a model that hold the same columns in the same forms; DuckDB reads them as one."""

    layout: tuple[StoredColumn, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class ModelTable:
    """A model that is files of the lake; what DuckDB opens for it."""

    groups: tuple[FileGroup, ...]

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and DuckDB type of each column: later files have more columns than earlier ones."""
        layout = max((group.layout for group in self.groups), key=len)
        return tuple((column.name, column.kind) for column in layout)

    @property
    def rows(self) -> sql.Composable:
        """The query that gives its rows, each column in the type that its own query gave it."""
        return rows_of(self.groups, self.columns)


def grouped(files: Iterable[tuple[tuple[StoredColumn, ...], str]]) -> tuple[FileGroup, ...]:
    """Return files, each a layout and an address, as groups of the same layout."""
    found: dict[tuple[StoredColumn, ...], list[str]] = {}
    for layout, address in files:
        found.setdefault(layout, []).append(address)
    return tuple(FileGroup(layout, tuple(addresses)) for layout, addresses in found.items())


def rows_of(
    groups: Sequence[FileGroup],
    columns: Sequence[tuple[str, str]],
    file_name: str | None = None,
) -> sql.Composable:
    """Return the query that gives columns of files, in these types.

    columns: name and DuckDB type.  file_name: a further column with the address of the file.
    """
    queries = []
    for group in groups:
        selected = as_queried(columns, group.layout)
        option: sql.Composable = sql.SQL("")
        if file_name is not None:
            selected = sql.SQL("{}, {}").format(sql.Identifier(file_name), selected)
            option = sql.SQL(", filename = {}").format(sql.Literal(file_name))
        queries.append(
            sql.SQL("select {} from read_parquet({}, hive_partitioning = false{})").format(
                selected, listed(group.addresses), option
            )
        )
    return sql.SQL(" union all ").join(queries)


@dataclass(frozen=True)
class LiveModel:
    """A model that was built: its SQL, and its files, if any.

    groups: as JSON, a list of pairs: the columns of some files, and the paths of these files.
    reads: the names in the SQL, as JSON; None if unknown.
    """

    name: str
    sql: str
    groups: str | None
    reads: str | None

    def target(self, files: LakeFiles) -> ModelTable | str:
        """Return the files, or the SQL of a view."""
        if self.groups is None:
            return self.sql
        return ModelTable(
            tuple(
                FileGroup(
                    tuple(StoredColumn(*column) for column in columns),
                    tuple(map(files.address, paths)),
                )
                for columns, paths in json.loads(self.groups)
            )
        )


def live_models(connection: duckdb.DuckDBPyConnection) -> list[LiveModel]:
    """Return the models in the connection's snapshot, in the order of their builds."""
    return [LiveModel(*row) for row in ask(connection, sql.SQL(_LIVE_MODELS))]


def needed(
    live: Sequence[LiveModel], names: Collection[str] | None, files: LakeFiles
) -> tuple[dict[str, ModelTable | str], frozenset[str] | None]:
    """Return the models that reading the names needs, and all names that it needs.

    None means everything: a view may not record what it reads.
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
        if model is not None and model.groups is None:
            if model.reads is None:
                return None
            waiting += json.loads(model.reads)
    return frozenset(wanted)
