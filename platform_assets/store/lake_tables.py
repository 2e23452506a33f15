"""What reading needs to know of the tables, kept in the home: a query imports no table file.

Importing the table files takes most of the time of a small query: they bring pandera, which brings
pandas and polars. What the reading protocol knows of a table is a few names and types. They are
kept in `tables.json` in the home, under a digest of the files and of this version of Lakebed, and
used as long as the digest is the same. Files whose tables may depend on something else than their
own text are not kept: see `_depends_on_its_text`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lakebed.resources.durable import replacing
from lakebed.resources.lake import Lake
from lakebed.resources.lake_files import lake_files
from lakebed.resources.postgres import Postgres
from lakebed.resources.session import ReadSession
from lakebed.resources.settings import Settings, read_settings
from lakebed.resources.tiers import LakeTable
from lakebed.spec.broken import Broken

FORM = 1
"""The version of what is kept. Raise it when LakeTable, or what a type becomes, changes."""
IMPORTS: Mapping[str, frozenset[str] | None] = {
    "__future__": None,
    "datetime": frozenset(["UTC", "date", "datetime", "time", "timedelta", "timezone"]),
    "decimal": frozenset(["Decimal"]),
    "typing": None,
    "pandera.polars": frozenset(),
    "polars": frozenset(),
    "lakebed": frozenset(
        [
            "ArrowFiles",
            "CopyFiles",
            "Csv",
            "CsvFiles",
            "Deletes",
            "DltResource",
            "DuckdbTable",
            "Export",
            "Grain",
            "JsonFiles",
            "Lookup",
            "Mapped",
            "ParquetFiles",
            "Partitioning",
            "RestApi",
            "Secret",
            "SourceTable",
            "SqlTable",
            "SqliteTable",
            "Surrogate",
            "Tiering",
        ]
    ),
}
"""What a table file may import by name and still say the same whenever it is imported; None stands
for every name."""
ATTRIBUTES = {
    "pandera.polars": frozenset(["Check", "Config", "DataFrameModel", "Field"]),
    "polars": frozenset(
        [
            "Array",
            "Binary",
            "Boolean",
            "Categorical",
            "Date",
            "Datetime",
            "Decimal",
            "Duration",
            "Enum",
            "Float32",
            "Float64",
            "Int8",
            "Int16",
            "Int32",
            "Int64",
            "List",
            "Object",
            "String",
            "Struct",
            "Time",
            "UInt8",
            "UInt16",
            "UInt32",
            "UInt64",
            "Utf8",
            "coalesce",
            "col",
            "concat_str",
            "lit",
            "struct",
            "when",
        ]
    ),
}
"""What a table file may take from these modules: types and expressions, no files, no settings."""
IMPURE_NAMES = frozenset(
    [
        "compile",
        "delattr",
        "dir",
        "eval",
        "exec",
        "fromtimestamp",
        "getattr",
        "globals",
        "input",
        "locals",
        "now",
        "open",
        "setattr",
        "today",
        "utcfromtimestamp",
        "utcnow",
        "vars",
    ]
)


def open_lake(
    settings: Settings, on_broken: Callable[[tuple[Broken, ...]], None] = lambda broken: None
) -> Lake:
    """Return the lake with the tables that it can read. Opens nothing.

    Args:
        settings: Where everything is.
        on_broken: Receives the table files that cannot be used, if any. Their tables are left out,
            and the cache is not written.

    Raises:
        SettingsError: The folder of table files does not exist.
    """
    files = sorted(settings.tables.glob("[!_.]*.py")) if settings.tables.is_dir() else []
    kept = settings.home / "tables.json"
    digest = _digest(files)
    tables = _read(kept, digest) if digest is not None else None
    if tables is not None:
        return Lake(lake_files(settings), Postgres(settings), tables)

    from lakebed.store.platform import open_platform

    platform = open_platform(settings)
    if platform.broken:
        on_broken(platform.broken)
    elif digest is not None and settings.home.is_dir() and _digest(files) == digest:
        _keep(kept, digest, platform.lake.tables)
    return platform.lake


@contextmanager
def connect(settings: Settings | None = None) -> Iterator[ReadSession]:
    """Open one snapshot of the platform that the settings name, by default the environment's.

    A table file that cannot be used is left out. Raises SettingsError, PostgresUnavailableError.
    """
    settings = read_settings() if settings is None else settings
    with open_lake(settings).session() as session:
        yield session


def _digest(files: Iterable[Path]) -> str | None:
    """Return a digest of the files' text and this version; None if the text is not enough."""
    versions = [version(package) for package in ("lakebed", "pandera", "polars")]
    digest = hashlib.sha256(f"{FORM} {versions} {sys.version_info[:2]}".encode())
    for module in sorted((Path(__file__).parents[1] / "spec").glob("*.py")):  # of a checkout
        found = module.stat()
        digest.update(f"{module.name} {found.st_size} {found.st_mtime_ns} ".encode())
    for file in files:
        try:
            text = file.read_bytes()
        except OSError:
            return None
        if not _depends_on_its_text(text):
            return None
        digest.update(f"{file.name} {len(text)} ".encode() + text)
    return digest.hexdigest()


def _depends_on_its_text(text: bytes) -> bool:
    """Whether a table file says the same whenever it is imported, as far as its text shows.

    It may import and use what is listed above, and nothing that could read a file, the clock, the
    environment or another module.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            if any(not ATTRIBUTES.get(alias.name) or not alias.asname for alias in node.names):
                return False
            modules |= {str(alias.asname): alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not _is_pure_import(node):
            return False
    return all(_is_pure(node, modules) for node in ast.walk(tree))


def _is_pure_import(node: ast.ImportFrom) -> bool:
    module = node.module or ""
    if node.level or module not in IMPORTS:
        return False
    allowed = IMPORTS[module]
    return allowed is None or all(alias.name in allowed for alias in node.names)


def _is_pure(node: ast.AST, modules: Mapping[str, str]) -> bool:
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)
    if isinstance(name, str) and (name in IMPURE_NAMES or name.startswith("__")):
        return False
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        module = modules.get(node.value.id)
        return module is None or node.attr in ATTRIBUTES[module]
    # A module by itself could be handed on, and anything taken from it there.
    return True


def _read(kept: Path, digest: str) -> list[LakeTable] | None:
    try:
        found = json.loads(kept.read_text())
        if found["digest"] != digest:
            return None
        return [_from_json(table) for table in found["tables"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # rebuilt from the table files


def _keep(kept: Path, digest: str, tables: Iterable[LakeTable]) -> None:
    text = json.dumps({"digest": digest, "tables": [_to_json(table) for table in tables]}, indent=1)
    try:
        with replacing(kept) as written:
            written.write_text(text)
    except OSError:
        return  # a home that cannot be written to is read without it, more slowly


def _to_json(table: LakeTable) -> dict[str, Any]:
    return vars(table) | {"as_text": sorted(table.as_text), "opaque": sorted(table.opaque)}


def _from_json(table: dict[str, Any]) -> LakeTable:
    return LakeTable(
        **table
        | {
            "columns": tuple((str(name), str(kind)) for name, kind in table["columns"]),
            "key": tuple(table["key"]),
            "as_text": frozenset(table["as_text"]),
            "opaque": frozenset(table["opaque"]),
        }
    )
