"""The folder of table files: imported, a module a file, searched for tables and exports."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakebed.spec.export import Export, ExportError
from lakebed.spec.table import SourceTable, TableError


@dataclass(frozen=True)
class TableFiles:
    """What the files of a folder declare, sorted by name. export_files: of each export, by name."""

    tables: tuple[SourceTable, ...]
    exports: tuple[Export, ...]
    export_files: Mapping[str, Path]


def read_table_files(folder: Path) -> TableFiles:
    """Import every table file of a folder; return their tables and exports.

    Files that begin with _ are left out. Raises TableError, naming the file.
    """
    tables: dict[str, tuple[SourceTable, Path]] = {}
    exports: dict[str, tuple[Export, Path]] = {}
    for file in sorted(folder.glob("[!_]*.py")):
        found = _import(file).values()
        mine = [value for value in found if isinstance(value, SourceTable)]
        out = [value for value in found if isinstance(value, Export)]
        if not mine and not out:
            raise TableError(f"{file} holds no SourceTable; a table file ends with one")
        for table in mine:
            if table.name in tables:
                raise TableError(
                    f"table {table.name!r} is in {tables[table.name][1]} and in {file}"
                )
            tables[table.name] = (table, file)
        for export in out:
            if export.name in exports:
                raise ExportError(
                    f"export {export.name!r} is in {exports[export.name][1]} and in {file}"
                )
            exports[export.name] = (export, file)
    return TableFiles(
        tuple(tables[name][0] for name in sorted(tables)),
        tuple(exports[name][0] for name in sorted(exports)),
        {name: file for name, (_, file) in exports.items()},
    )


def load_tables(folder: Path) -> tuple[SourceTable, ...]:
    """Return the tables of `read_table_files`."""
    return read_table_files(folder).tables


def table_named(tables: tuple[SourceTable, ...], name: str) -> SourceTable:
    """Return the table of this name. Raises TableError with the names that there are."""
    for table in tables:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in tables) or "none"
    raise TableError(f"there is no table {name!r}; there are: {known}")


def _import(file: Path) -> dict[str, object]:
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"lakebed_table_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TableError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        last = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(last) if frame.filename == str(file)), None)
        if line is None and isinstance(error, SyntaxError):
            line = error.lineno
        raise TableError(f"{file}, line {line}: {error}") from error
    return vars(module)
