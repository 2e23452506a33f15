"""Tab completion of the names of tables, partitions, models and assets.

A name is completed from the project's files alone: no server is started. A project that cannot be
read completes nothing; the command itself then says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from lakebed.errors import LakebedError

if TYPE_CHECKING:
    from lakebed.store.platform import Platform


def complete_tables(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Return the tables that begin with what was typed, without those that are there already."""
    from lakebed.resources.settings import read_settings
    from lakebed.store.lake_tables import open_lake

    try:
        tables = open_lake(read_settings()).tables
    except LakebedError:
        return []
    return _beginning(typed, (table.name for table in tables), ctx.params.get("names"))


def complete_partitions(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Return the partition keys of the table, or of the asset, that the command names."""
    # An option that still lacks its value keeps click from sorting out the arguments.
    arguments = [*(ctx.params.get("names") or ()), *ctx.args]
    named = ctx.params.get("name") or next(iter(arguments), None)
    if named is None:
        return []
    try:
        platform = _open()
        table = platform.table(str(named).rpartition("/")[2])
        keys = [w.key for w in table.windows(platform.clock.now())] if table.partitioning else []
    except LakebedError:
        return []
    return _beginning(typed, keys, ctx.params.get("keys"))


def complete_models(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Return the models, the graph operators of a selector kept."""
    from lakebed.models.runner import models_of

    operator = typed[: len(typed) - len(typed.lstrip("+@0123456789"))]
    try:
        names = [model.name for model in models_of(_open()).models]
    except LakebedError:
        return []
    return [operator + name for name in _beginning(typed.removeprefix(operator), names, None)]


def complete_relations(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Return tables and models."""
    found = complete_tables(ctx, param, typed) + complete_models(ctx, param, typed)
    return sorted(set(found) - set(ctx.params.get("names") or ()))


def complete_assets(ctx: click.Context, param: click.Parameter, typed: str) -> list[str]:
    """Return the partitioned assets that `lakebed backfill` takes."""
    try:
        platform = _open()
    except LakebedError:
        return []
    assets = [f"cold/{table.name}" for table in platform.tables if table.tiering]
    assets += [f"hot/{table.name}" for table in platform.tables if table.load_by == "window"]
    return _beginning(typed, assets, None)


def _open() -> Platform:
    from lakebed.resources.settings import read_settings
    from lakebed.store.platform import open_platform

    return open_platform(read_settings())


def _beginning(typed: str, names: Iterable[str], chosen: object) -> list[str]:
    there = set(chosen) if isinstance(chosen, list | tuple) else set()
    return sorted(name for name in names if name.startswith(typed) and name not in there)
