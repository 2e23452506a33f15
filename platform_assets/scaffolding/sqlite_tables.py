"""Table files for the tables of a SQLite database, to begin with: written once, then a person's.

Left out: SQLite's own tables, virtual tables and the shadow tables that keep their data.
"""

from __future__ import annotations

import keyword
import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lakebed.scaffolding.sqlite_types import field_type, stored_columns
from lakebed.scaffolding.table_file import (
    AddError,
    TableFile,
    names_in_postgres,
    table_name,
    transforms_of,
)
from lakebed.spec.names import is_name


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str
    remark: str
    key: int
    nullable: bool
    has_nulls: bool


def table_files(
    database: Path, named: str, tables: Sequence[str], called: str | None = None
) -> list[TableFile]:
    """Return the table files of a SQLite database's tables, or of the named ones.

    Args:
        database: The file.
        named: The file as the table files name it.
        tables: Names of tables; without one, all of them.
        called: The name in Lakebed, of the one table that is named.

    Raises:
        AddError: The file cannot be read, or has no such table.
    """
    there = sqlite_table_names(database)
    try:
        with closing(_open(database)) as opened:
            unknown = [name for name in tables if name not in there]
            if unknown or not there:
                what = f"no table {unknown[0]!r}" if unknown else "no table"
                known = ", ".join(sorted(there)) or "none"
                raise AddError(f"{database} has {what}; there are: {known}")
            found = [
                _table_file(name, called, named, _columns(opened, name))
                for name in tables or sorted(there)
            ]
    except sqlite3.Error as error:
        raise AddError(f"{database}: SQLite cannot read it ({error})") from error
    return found


def sqlite_table_names(database: Path) -> list[str]:
    """Return the names of a SQLite database's tables, without virtual and shadow tables.

    Raises:
        AddError: The file cannot be read.
    """
    if not database.is_file():
        raise AddError(f"no file {database}. Expected a database in the folder data/")
    try:
        with closing(_open(database)) as opened:
            return [
                name
                for name, kind in opened.execute("select name, type from pragma_table_list")
                if kind == "table" and not name.startswith("sqlite_")
            ]
    except sqlite3.Error as error:
        raise AddError(f"{database}: SQLite cannot read it ({error})") from error


def _open(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(database))}?mode=ro", uri=True)


def _columns(connection: sqlite3.Connection, table: str) -> list[_Column]:
    rows = connection.execute(
        'select name, type, pk, "notnull" from pragma_table_xinfo(?) where hidden <> 1', [table]
    ).fetchall()
    stored = stored_columns(connection, table, [(name, kind) for name, kind, _, _ in rows])
    return [
        _Column(
            name,
            *field_type(connection, table, column),
            key=key,
            nullable=column.nulls or not (required or key),
            has_nulls=column.nulls,
        )
        for (name, _, key, required), column in zip(rows, stored, strict=True)
    ]


def _table_file(table: str, called: str | None, database: str, columns: list[_Column]) -> TableFile:
    name = table_name(table) if called is None else called
    if not is_name(name):
        raise AddError(f"{name!r} cannot be the name of a table, such as orders")
    model = "".join(part.capitalize() for part in name.split("_")) or "Row"
    names = names_in_postgres([column.name for column in columns])
    keyed = sorted((column for column in columns if column.key), key=lambda column: column.key)
    nulls = [column.name for column in keyed if column.has_nulls]
    key = [] if nulls else [names[column.name] for column in keyed]
    fields = [
        _field(number, column, names[column.name]) for number, column in enumerate(columns, 1)
    ]
    key_text = (
        f'    key=({", ".join(map(repr, key))},),\n    write_mode="merge",\n'
        '    deletes="full_extract",  # a row that the source no longer has is deleted here\n'
        if key
        else ""
    )
    why = f"its key holds nulls in {nulls[0]}" if nulls else "it has no key"
    whole = "" if key else f'    write_mode="replace",  # {why}: read whole when it changed\n'
    text = (
        f'"""{name}: table {table} of {database}. Written by `lakebed add`; edit it."""\n\n'
        "from typing import Annotated\n\n"
        "import pandera.polars as pa\nimport polars as pl\n\n"
        "from lakebed import SourceTable, SqliteTable\n\n\n"
        f"class {model}(pa.DataFrameModel):\n"
        f'    """Table {table}."""\n\n' + "".join(fields) + "\n\n"
        f"{name} = SourceTable(\n"
        f"    name={name!r},\n    model={model},\n"
        f"    source=SqliteTable(database={database!r}, table={table!r}),\n"
        f"{key_text}{whole}{transforms_of(names)}"
        "    # cursor=...: a column that grows with each change; then only what is new is read.\n"
        ")\n"
    )
    if "Annotated[" not in "".join(fields):
        text = text.replace("from typing import Annotated\n\n", "")
    if "Mapped(" in text:
        text = text.replace("from lakebed import ", "from lakebed import Mapped, ", 1)
    if "pl." not in "".join(fields):
        text = text.replace("import polars as pl\n", "")
    return TableFile(name, text)


def _field(number: int, column: _Column, called: str) -> str:
    name = _identifier(called, f"column_{number}")
    options = [f"alias={called!r}"] if name != called else []
    options += ["nullable=True"] if column.nullable else []
    default = f" = pa.Field({', '.join(options)})" if options else ""
    remark = f"  # {column.remark}" if column.remark else ""
    return f"    {name}: {column.kind}{default}{remark}\n"


def _identifier(name: str, otherwise: str) -> str:
    """Return a name as a Python name in lower case."""
    plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
    if not plain or keyword.iskeyword(plain):
        return otherwise if not plain else f"{plain}_"
    return plain if not plain[0].isdigit() else f"n{plain}"
