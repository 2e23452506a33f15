"""Import the table files of a folder and find their tables and exports.

Lakebed skips a broken file as a whole, and the tables that look up rows in its tables. All other
files count. `read_table_files` returns what it skipped and why.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from lakebed.errors import LakebedError
from lakebed.spec.broken import Broken, raise_first
from lakebed.spec.export import Export, ExportError
from lakebed.spec.table import SourceTable, TableError

Declared = TypeVar("Declared", SourceTable, Export)


@dataclass(frozen=True)
class TableFiles:
    """What the files of a folder declare.

    Attributes:
        tables: The tables that can be used, sorted by name.
        exports: The exports that can be used, sorted by name.
        export_files: The file that declares an export, by its name.
        broken: The parts that were skipped, and why.
    """

    tables: tuple[SourceTable, ...]
    exports: tuple[Export, ...]
    export_files: Mapping[str, Path]
    broken: tuple[Broken, ...] = ()


@dataclass
class _Folder:
    """The declarations found so far, by name, each with its file."""

    tables: dict[str, list[tuple[SourceTable, Path]]] = field(default_factory=dict)
    exports: dict[str, list[tuple[Export, Path]]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)


def read_table_files(folder: Path) -> TableFiles:
    """Import every table file of a folder; return its tables, exports and broken parts.

    Files whose names begin with _ or a dot (an editor's own) are skipped.
    """
    _let_import_project(folder)
    found = _Folder()
    for file in sorted(folder.glob("[!_.]*.py")):
        values, problem = _import(file)
        if problem is not None:
            found.broken += _broken_file(file, values, problem)
            continue
        for value in values:
            if isinstance(value, SourceTable):
                found.tables.setdefault(value.name, []).append((value, file))
            elif isinstance(value, Export):
                found.exports.setdefault(value.name, []).append((value, file))
        if not any(isinstance(value, SourceTable | Export) for value in values):
            empty = TableError(f"{file} declares no SourceTable; add one, or prefix its name by _")
            found.broken.append(Broken("table", file.stem, file, empty))
    tables = dict(_declared_once(found.tables, found.broken))
    exports = dict(_declared_once(found.exports, found.broken))
    while reader := _reads_broken(tables, found.broken):
        del tables[reader.name]
        found.broken.append(reader)
    return TableFiles(
        tuple(tables[name][0] for name in sorted(tables)),
        tuple(exports[name][0] for name in sorted(exports)),
        {name: file for name, (_, file) in exports.items()},
        tuple(found.broken),
    )


def load_tables(folder: Path) -> tuple[SourceTable, ...]:
    """Return the tables of a folder without broken parts. Raises TableError, ExportError."""
    files = read_table_files(folder)
    raise_first(files.broken)
    return files.tables


def table_named(
    tables: tuple[SourceTable, ...], name: str, broken: tuple[Broken, ...] = ()
) -> SourceTable:
    """Return the table of this name.

    Raises:
        TableError: The table's file is broken, or the name is unknown; the text lists the tables.
    """
    for table in tables:
        if table.name == name:
            return table
    for item in broken:
        if item.kind == "table" and item.name == name:
            raise TableError(f"table {name!r} was skipped: {item.error}") from item.error
    known = ", ".join(table.name for table in tables) or "(none)"
    raise TableError(f"unknown table {name!r}. Expected one of: {known}")


def _declared_once(
    found: Mapping[str, list[tuple[Declared, Path]]], broken: list[Broken]
) -> Iterator[tuple[str, tuple[Declared, Path]]]:
    for name, places in found.items():
        if len(places) == 1:
            yield name, places[0]
            continue
        files = [file for _, file in places]
        is_table = isinstance(places[0][0], SourceTable)
        what = "table" if is_table else "export"
        text = f"{what} {name!r} is declared in {files[0]} and in {files[1]}; rename one"
        error: LakebedError = TableError(text) if is_table else ExportError(text)
        broken.append(Broken("table" if is_table else "export", name, files[1], error))


def _reads_broken(
    tables: Mapping[str, tuple[SourceTable, Path]], broken: list[Broken]
) -> Broken | None:
    """Return a table that looks up rows in a table whose file is broken, if there is one."""
    names = {item.name for item in broken if item.kind == "table"}
    for name, (table, file) in tables.items():
        for lookup in table.lookups:
            if lookup.table in names:
                error = TableError(
                    f"{file}: table {name!r} looks up rows in {lookup.table!r}, whose own file is "
                    "broken. Fix that file"
                )
                return Broken("table", name, file, error, reads=lookup.table)
    return None


def _broken_file(file: Path, values: Iterable[object], error: TableError) -> list[Broken]:
    """Return the tables and exports that a broken file names, or the file where it names none.

    Args:
        file: The file.
        values: The values that it had declared before it failed.
        error: Why it failed.
    """
    try:
        calls = [node for node in ast.walk(ast.parse(file.read_bytes())) if _is_call(node)]
    except (OSError, SyntaxError, ValueError):  # a link to nowhere, a folder
        calls = []
    found: dict[tuple[Literal["table", "export"], str], None] = {}
    for value in values:
        if isinstance(value, SourceTable | Export):
            found["table" if isinstance(value, SourceTable) else "export", value.name] = None
    for call in calls:
        for name in _names_in(call):
            found["export" if _called(call) == "Export" else "table", str(name)] = None
    return [Broken(kind, name, file, error) for kind, name in found or {("table", file.stem): None}]


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _called(node) in ("SourceTable", "Export")


def _called(node: ast.AST) -> str | None:
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(called, "id", None) or getattr(called, "attr", None)


def _names_in(node: ast.AST) -> Iterator[object]:
    for keyword in node.keywords if isinstance(node, ast.Call) else ():
        if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
            yield keyword.value.value


def _let_import_project(folder: Path) -> None:
    """Let table files import modules of their project, from whatever folder a command runs.

    The project is the nearest folder above that has a pyproject.toml, else the folder above. It
    comes last on the path, so that nothing installed is hidden by it.
    """
    above = folder.resolve().parents
    root = next((path for path in above if (path / "pyproject.toml").is_file()), above[0])
    if str(root) not in sys.path:
        sys.path.append(str(root))


def _import(file: Path) -> tuple[list[object], TableError | None]:
    """Return the values that a file declares, up to its failure, and the failure."""
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"lakebed_table_{digest}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        return [], TableError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (KeyboardInterrupt, GeneratorExit):
        sys.modules.pop(name, None)
        raise
    except BaseException as error:  # sys.exit() in a file, and the panics of libraries in Rust
        sys.modules.pop(name, None)
        last = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(last) if frame.filename == str(file)), None)
        if line is None and isinstance(error, SyntaxError):
            line = error.lineno
        text = str(error) or type(error).__name__
        where = str(file) if line is None else f"{file}, line {line}"
        problem = TableError(f"{where}: {text}")
        problem.__cause__ = error
        return [*vars(module).values()], problem
    return [*vars(module).values()], None
