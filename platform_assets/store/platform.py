"""The platform in one object: settings, tables, exports, PostgreSQL, the lake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lakebed.resources.clock import Clock
from lakebed.resources.lake import Lake
from lakebed.resources.lake_files import lake_files
from lakebed.resources.postgres import Postgres
from lakebed.resources.settings import Settings, SettingsError
from lakebed.resources.tiers import LakeTable
from lakebed.spec.broken import Broken
from lakebed.spec.export import Export
from lakebed.spec.table import SourceTable, TableError
from lakebed.spec.table_files import read_table_files, table_named


@dataclass(frozen=True)
class Platform:
    """Everything that a load, a move or a query needs. Opens nothing until it is used.

    export_files: the file that declares an export, by its name.  broken: table files that cannot
    be used; their tables are not among the tables.
    """

    settings: Settings
    tables: tuple[SourceTable, ...]
    postgres: Postgres
    lake: Lake
    clock: Clock
    exports: tuple[Export, ...] = ()
    export_files: Mapping[str, Path] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()

    def table(self, name: str) -> SourceTable:
        """Return a table by name. Raises TableError, which lists the known names."""
        return table_named(self.tables, name, self.broken)

    def text_of(self, error: BaseException) -> str:
        """Return an error's text without the database's password and the keys of the lake."""
        text = str(error).strip() or type(error).__name__
        return self.lake.files.redact(self.postgres.redact(text))


def open_platform(settings: Settings, tables: tuple[SourceTable, ...] | None = None) -> Platform:
    """Put the platform together from its settings; tables default to those of its folder.

    A table file that cannot be used is left out; `broken` says why. Exports are declared in that
    folder too; a platform of given tables has none.
    """
    exports: tuple[Export, ...] = ()
    export_files: Mapping[str, Path] = {}
    broken: tuple[Broken, ...] = ()
    if tables is None:
        if not settings.tables.is_dir():
            raise SettingsError(_no_tables(settings))
        files = read_table_files(settings.tables)
        tables, exports, export_files = files.tables, files.exports, files.export_files
        broken = files.broken
    tables, unfit = _with_parents(tables)
    broken = (*broken, *unfit)
    postgres = Postgres(settings)
    known = [lake_table(table) for table in tables]
    lake = Lake(lake_files(settings), postgres, [*known, *parent_tables(tables)])
    return Platform(settings, tables, postgres, lake, settings.clock, exports, export_files, broken)


def _with_parents(
    tables: tuple[SourceTable, ...],
) -> tuple[tuple[SourceTable, ...], list[Broken]]:
    """Split tables into those that fit the parents of their lookups, and the broken ones."""
    linked: list[SourceTable] = []
    broken: list[Broken] = []
    for table in tables:
        try:
            linked.append(table.with_parents(tables))
            lake_table(linked[-1])
        except TableError as error:
            linked = [one for one in linked if one.name != table.name]
            broken.append(Broken("table", table.name, None, error))
    return tuple(linked), broken


def _no_tables(settings: Settings) -> str:
    if settings.project is not None:
        return (
            f"The project {settings.project} has no folder {settings.tables}. Create it and write "
            "a table file there (`lakebed add` does both)"
        )
    return (
        f"No Lakebed project here: {settings.tables.parent} and the folders above it have no "
        "pyproject.toml with [tool.lakebed]. Make a project with `lakebed new NAME`, change to the "
        "folder of one, or set LAKEBED_TABLES to a folder of table files"
    )


def lake_table(table: SourceTable) -> LakeTable:
    """Return what the reading protocol needs to know of a table."""
    return LakeTable(
        name=table.name,
        columns=tuple((column.name, column.duckdb) for column in table.columns),
        time=table.partitioning.column if table.partitioning else None,
        key=table.primary_key,
        schema=table.schema,
        as_text=frozenset(column.name for column in table.columns if column.types.stays_hot),
        opaque=frozenset(
            c.name for c in table.columns if c.types.literal and c.duckdb == "VARCHAR"
        ),
    )


def parent_tables(tables: Sequence[SourceTable]) -> list[LakeTable]:
    """Return what reading needs of the parents of lookups that have no table file.

    Only the lookups describe such a table: its key and its natural keys.
    """
    files = {table.name for table in tables}
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        types = {column.name: column.duckdb for column in table.contract}
        for lookup in table.lookups:
            if lookup.table not in files:
                natural = zip(lookup.natural_key, lookup.natural, strict=True)
                kind = "UUID" if lookup.key_kind == "uuid" else "BIGINT"
                columns = found.setdefault(lookup.table, {lookup.key: kind})
                columns |= {theirs: types[ours] for theirs, ours in natural}
    return [LakeTable(name, tuple(columns.items())) for name, columns in found.items()]
