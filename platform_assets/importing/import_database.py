"""Import a database: table files, then rows, then structure, then the comparison with the source.

    plan_import:  which tables the source has, which of them have a table file already
    write:        a table file for each of the others; existing files stay as they are
    load:         parents first, each table in its own load transaction
    structure:    each object in its own short transaction (create_structure.py)
    compare:      counts and figures of both sides

Each step finds what an earlier run has done. An import that was killed is run again with the same
command; it loads what is missing and doubles nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from lakebed.errors import LakebedError
from lakebed.importing.compare import TableCheck
from lakebed.importing.create_structure import StructureOutcome, create_structure
from lakebed.importing.sources import ImportSource
from lakebed.importing.statements import ImportedTable
from lakebed.importing.structure import DatabaseStructure, ImportSourceError, LeftOut
from lakebed.ingest.report import LoadReport
from lakebed.operations.load_tables import LoadOne, chosen_loads, load_in_order, load_one
from lakebed.resources.settings import Settings
from lakebed.scaffolding.table_file import TableFile, write_files
from lakebed.schema.ddl import relation_exists
from lakebed.spec.table import SourceTable
from lakebed.spec.table_files import load_tables, read_table_files
from lakebed.store.platform import Platform, open_platform


@dataclass(frozen=True)
class ImportPlan:
    """What an import would do.

    Attributes:
        source: The database.
        files: The table files to write.
        tables: The tables, with those whose files are still to be written.
        structure: What the source has besides rows.
        excluded: Tables of the source that the patterns leave out.
        failures: Why tables of the source can have no table file; the others are imported.
    """

    source: ImportSource
    files: tuple[TableFile, ...]
    tables: tuple[ImportedTable, ...]
    structure: DatabaseStructure
    excluded: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        loads: The loads of the tables, in order.
        failures: Why tables or files were not loaded, by table.
        structure: What became of each object of the structure.
        left_out: What the source has and PostgreSQL did not get, with its text.
        checks: How the tables compare with the source.
    """

    loads: tuple[LoadReport, ...]
    failures: dict[str, tuple[str, ...]]
    structure: tuple[StructureOutcome, ...]
    left_out: tuple[LeftOut, ...]
    checks: tuple[TableCheck, ...]

    @property
    def problems(self) -> list[str]:
        """What differs from the source, in words. Empty where the import is whole."""
        found = [text for texts in self.failures.values() for text in texts]
        found += [
            f"{one.table}: {one.kind} {one.name}: {one.why}\n      {one.sql}"
            for one in self.structure
            if one.state == "failed"
        ]
        found += [f"{one.table}: {text}" for one in self.checks for text in one.differences]
        return found


def plan_import(
    settings: Settings,
    source: ImportSource,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> ImportPlan:
    """Return what an import would do. Changes nothing.

    Args:
        settings: The settings of the project.
        source: The database.
        include: Patterns of table names such as `order*`; without one, all tables.
        exclude: Patterns of table names that are left out.

    Raises:
        ImportSourceError: No table fits the patterns, or a table file stands in the way.
        AddError: The source cannot be read.
    """
    known = source.tables()
    chosen = [
        name for name in known if (not include or _fits(name, include)) and not _fits(name, exclude)
    ]
    if not chosen:
        raise ImportSourceError(
            f"{source.place}: no table to import. Its tables: {', '.join(sorted(known)) or 'none'}"
        )
    existing = read_table_files(settings.tables).tables if settings.tables.is_dir() else ()
    declared = {
        theirs: table for table in existing if (theirs := source.source_table(table)) is not None
    }
    missing = [name for name in chosen if name not in declared]
    taken = {path.stem for path in settings.tables.glob("*.py")} | {t.name for t in existing}
    described, failures = _described(source, missing)
    if len(failures) == len(chosen):
        raise ImportSourceError("\n".join(failures.values()))
    files = _distinct(described, taken)
    written = {source.source_table(table): table for table in _declared(files)}
    tables = tuple(
        imported_table(name, declared[name] if name in declared else written[name])
        for name in chosen
        if name not in failures
    )
    return ImportPlan(
        source,
        tuple(files),
        tables,
        source.structure(tables),
        tuple(name for name in known if name not in chosen),
        failures,
    )


def run_import(
    settings: Settings,
    plan: ImportPlan,
    *,
    load: LoadOne = load_one,
    on_load: Callable[[str, int], None] = lambda table, rows: None,
    on_structure: Callable[[StructureOutcome], None] = lambda outcome: None,
    on_step: Callable[[str], None] = lambda step: None,
) -> ImportReport:
    """Do what a plan says; what fails is in the report, and the rest is done.

    Args:
        settings: The settings of the project.
        plan: The plan.
        load: What loads one table.
        on_load: Called with each table that was loaded, and the rows that were read.
        on_structure: Called with each object of the structure.
        on_step: Called with the name of each step before it begins.

    Raises:
        AddError: A table file appeared since the plan was made.
        LakebedError: PostgreSQL cannot be reached, or the settings are wrong.
    """
    if plan.files:
        on_step("write table files")
        write_files(plan.files, settings.tables)
    platform = open_platform(settings)
    names = {one.source: one.table.name for one in plan.tables}
    with platform.postgres.connect(autocommit=True) as connection:
        tables = [
            replace(one, table=table, fresh=not relation_exists(connection, table))
            for one in plan.tables
            for table in [platform.table(names[one.source])]
        ]
    on_step("load")
    loads, failures = _load(platform, [one.table for one in tables], load, on_load)
    # A load may have added columns: read the tables as they are now.
    tables = [
        replace(imported_table(one.source, platform.table(one.table.name)), fresh=one.fresh)
        for one in tables
    ]
    loaded = [one for one in tables if one.table.name not in failures]
    with platform.postgres.connect(autocommit=True) as connection:
        on_step("create structure")
        structure = create_structure(connection, plan.structure, loaded, on_structure)
        on_step("compare")
        checks = plan.source.compare(connection, loaded)
    left_out = [one for table in plan.structure.tables for one in table.left_out]
    return ImportReport(
        tuple(loads),
        {name: (text,) for name, text in plan.failures.items()} | failures,
        tuple(structure),
        (*left_out, *plan.structure.left_out),
        tuple(checks),
    )


def imported_table(source: str, table: SourceTable) -> ImportedTable:
    """Return a table with the names that the source has for its columns."""
    names = {}
    for column in table.contract:
        how = table.transforms.get(column.name)
        names[column.name if how is None or how.column is None else how.column] = column.name
    return ImportedTable(source, table, names)


def _load(
    platform: Platform,
    tables: Sequence[SourceTable],
    load: LoadOne,
    on_load: Callable[[str, int], None],
) -> tuple[list[LoadReport], dict[str, tuple[str, ...]]]:
    """Load tables; return the reports, and why tables were not loaded.

    A table that fails is loaded again after the others, for as long as that helps: a delete may
    cascade to rows that a table refers to whose own deletes come later.
    """
    reports: list[LoadReport] = []
    failures: dict[str, tuple[str, ...]] = {}
    left = list(tables)
    while left:
        failed: dict[str, tuple[str, ...]] = {}
        for outcome in load_in_order(
            platform, chosen_loads(left, (), skip_windowed=True), load=load
        ):
            reports += outcome.reports
            problems = tuple(outcome.problems(platform))
            failed.pop(outcome.table.name, None)
            if problems:
                failed[outcome.table.name] = problems
            else:
                on_load(outcome.table.name, sum(report.rows_read for report in outcome.reports))
        again = [table for table in left if table.name in failed]
        failures = failed
        if len(again) == len(left):
            break
        left = again
    return reports, failures


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def _distinct(files: Sequence[TableFile], taken: set[str]) -> list[TableFile]:
    """Return the files, and refuse a name that another table file has.

    Raises:
        ImportSourceError: Two tables would have one name.
    """
    seen = set(taken)
    for file in files:
        if file.name in seen:
            raise ImportSourceError(
                f"{file.name}.py is there already and reads another source. Move it away, leave "
                f"the table out with --exclude, or add it under another name: `lakebed add ... "
                "--tables TABLE --name NAME`, then import again"
            )
        seen.add(file.name)
    return list(files)


def _described(
    source: ImportSource, names: Sequence[str]
) -> tuple[list[TableFile], dict[str, str]]:
    """Return the table files of the named tables, and why tables can have none."""
    if not names:
        return [], {}
    try:
        files = source.files(names)
        _declared(files)
    except LakebedError:  # found again below, table by table
        pass
    else:
        return files, {}
    found: list[TableFile] = []
    failures: dict[str, str] = {}
    for name in names:
        try:
            files = source.files([name])
            _declared(files)
        except LakebedError as error:
            failures[name] = f"table {name} of {source.place} was left out: {error}"
        else:
            found += files
    return found, failures


def _declared(files: Sequence[TableFile]) -> tuple[SourceTable, ...]:
    """Return the tables that table files declare, before they are written into the project."""
    if not files:
        return ()
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            (Path(folder) / f"{file.name}.py").write_text(file.text, encoding="utf-8")
        try:
            return load_tables(Path(folder))
        except LakebedError as error:
            raise ImportSourceError(str(error).replace(f"{folder}/", "")) from error
