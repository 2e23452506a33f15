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

from psycopg import sql

from lakebed.scaffolding.table_file import (
    AddError,
    TableFile,
    names_in_postgres,
    table_name,
    transforms_of,
)
from lakebed.spec.names import is_name

SAMPLED_ROWS = 10_000


@dataclass(frozen=True)
class _Column:
    name: str
    declared: str
    key: int
    stored: frozenset[str]
    nullable: bool


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
        raise AddError(f"there is no file {database}; name a database in the folder data/")
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
    columns = []
    for name, declared, key, required in connection.execute(
        'select name, type, pk, "notnull" from pragma_table_xinfo(?) where hidden <> 1', [table]
    ).fetchall():
        query = sql.SQL("select distinct typeof({0}) from (select {0} from {1} limit {2})").format(
            sql.Identifier(name), sql.Identifier(table), sql.Literal(SAMPLED_ROWS)
        )
        stored = frozenset(kind for (kind,) in connection.execute(query.as_string()))
        nullable = not (required or key) or (not key and "null" in stored)
        columns.append(_Column(name, declared.upper(), key, stored - {"null"}, nullable))
    return columns


def _table_file(table: str, called: str | None, database: str, columns: list[_Column]) -> TableFile:
    name = table_name(table) if called is None else called
    if not is_name(name):
        raise AddError(f"{name!r} cannot be the name of a table, such as orders")
    model = "".join(part.capitalize() for part in name.split("_")) or "Row"
    names = names_in_postgres([column.name for column in columns])
    key = [names[column.name] for column in sorted(columns, key=lambda c: c.key) if column.key]
    fields = [
        _field(number, column, names[column.name]) for number, column in enumerate(columns, 1)
    ]
    key_text = (
        f'    key=({", ".join(map(repr, key))},),\n    write_mode="merge",\n'
        '    deletes="full_extract",  # a row that the source no longer has is deleted here\n'
        if key
        else ""
    )
    whole = (
        "" if key else '    write_mode="replace",  # it has no key: read whole when it changed\n'
    )
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
    kind, remark = _type_of(column)
    default = f" = pa.Field({', '.join(options)})" if options else ""
    return f"    {name}: {kind}{default}{remark}\n"


def _type_of(column: _Column) -> tuple[str, str]:
    """Return the field's type by what is declared and stored, with a remark for a person."""
    declared, stored = column.declared, column.stored
    if len(stored) > 1 and stored != {"integer", "real"}:
        return "str", f"  # declared {declared or 'nothing'}, holds {', '.join(sorted(stored))}"
    if re.search("DATE|TIME", declared):
        if stored <= {"text"}:
            is_date = declared == "DATE"
            return ("pl.Date" if is_date else 'Annotated[pl.Datetime, "us", "UTC"]'), ""
        kind = "pl.Int64" if stored == {"integer"} else "pl.Float64"
        return kind, "  # a time that is counted? see dates={...} of SqliteTable"
    if "BOOL" in declared and stored <= {"integer"}:
        return "bool", ""
    decimal = re.fullmatch(r"(?:DECIMAL|NUMERIC) ?\((\d+)(?:, ?(\d+))?\)", declared)
    if decimal and stored <= {"integer", "real"} and int(decimal[1]) <= 38:
        return f"Annotated[pl.Decimal, {decimal[1]}, {decimal[2] or 0}]", ""
    if stored:
        return {
            frozenset({"integer"}): "pl.Int64",
            frozenset({"text"}): "str",
            frozenset({"blob"}): "pl.Binary",
        }.get(stored, "pl.Float64"), ""
    if "INT" in declared:
        return "pl.Int64", ""
    if re.search("CHAR|CLOB|TEXT", declared):
        return "str", ""
    if not declared or "BLOB" in declared:
        return "pl.Binary", "  # nothing is stored in it yet"
    return "pl.Float64", ""


def _identifier(name: str, otherwise: str) -> str:
    """Return a name as a Python name in lower case."""
    plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_")
    if not plain or keyword.iskeyword(plain):
        return otherwise if not plain else f"{plain}_"
    return plain if not plain[0].isdigit() else f"n{plain}"
