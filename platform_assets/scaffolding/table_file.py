"""The text of a table file, for a table of a source whose columns are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.resources.private import as_users
from lakebed.spec.names import is_name
from lakebed.spec.postgres_types import cold_type, field_line
from lakebed.spec.schema import Column
from lakebed.spec.table_rules import MAX_IDENTIFIER_BYTES
from lakebed.spec.types import SchemaError, named_type


class AddError(LakebedError, ValueError):
    """A source for which no table file can be written; nothing was written."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True)
class TableFile:
    """A table file to be.

    Attributes:
        name: The name of the table, and of the file without .py.
        text: The text of the file.
    """

    name: str
    text: str


@dataclass(frozen=True)
class SourceColumn:
    """A column as a source has it.

    Attributes:
        name: The name in the source.
        dtype: The polars type of its values; Null where no value is known.
        nullable: Whether a value may be missing.
        remark: What a person should look at.
        postgres: The PostgreSQL type that the field names; by default that of the polars type.
    """

    name: str
    dtype: pl.DataType
    nullable: bool = True
    remark: str = ""
    postgres: str = ""


@dataclass(frozen=True)
class DescribedTable:
    """A table of a source.

    Attributes:
        name: What the source calls it.
        title: What it is, for the docstring.
        source: The call that makes the source, such as CsvFiles(glob="orders/*.csv").
        columns: Its columns, in order.
        key: The columns that tell one row from another, if the source says so.
        whole: Whether a load reads the whole source without a key and a cursor.
    """

    name: str
    title: str
    source: str
    columns: Sequence[SourceColumn]
    key: tuple[str, ...] = ()
    whole: bool = False


def write_files(files: Sequence[TableFile], folder: Path) -> list[Path]:
    """Write table files into a folder; none where one of them exists.

    Raises:
        AddError: A file exists, or two tables would have one name.
    """
    names = [file.name for file in files]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AddError(
            f"several tables would be called {twice[0]}. Add one of them with --tables, and give "
            "it another name with --name"
        )
    paths = [folder / f"{file.name}.py" for file in files]
    there = [path for path in paths if path.exists()]
    if there:
        raise AddError(
            f"{there[0]} exists, and nothing was written. Add other tables with --tables, give the "
            "table another name with --name, or move the file away"
        )
    with as_users():
        folder.mkdir(parents=True, exist_ok=True)
        for path, file in zip(paths, files, strict=True):
            part = path.with_suffix(".py.part")  # a killed command leaves no half table file
            part.write_text(file.text, encoding="utf-8")
            part.replace(path)
    return paths


def table_file(table: DescribedTable, name: str | None = None) -> TableFile:
    """Return the table file of a described table.

    Args:
        table: The table of the source.
        name: The name of the table in Lakebed; by default made of the source's name.

    Raises:
        AddError: The name cannot be one.
    """
    name = table_name(table.name) if name is None else name
    if not is_name(name):
        raise AddError(
            f"{name!r} cannot be the name of a table. Use lower case letters, digits and _, at "
            "most 40, a letter first"
        )
    names = names_in_postgres([column.name for column in table.columns])
    columns = [replace(column, name=names[column.name]) for column in table.columns]
    table = replace(table, columns=columns, key=tuple(names[key] for key in table.key))
    transforms = transforms_of(names).rstrip("\n")
    fields = [_field(column) for column in table.columns]
    imported = {table.source.partition("(")[0], "SourceTable"}
    imported |= {"Mapped"} if transforms else set()
    lines = [
        f'"""{name}: {table.title}. Written by `lakebed add`; edit it."""\n',
        *(["from typing import Annotated\n"] if "Annotated[" in "".join(fields) else []),
        "import pandera.polars as pa",
        *(["import polars as pl"] if "pl." in "".join(fields) else []),
        f"\nfrom lakebed import {', '.join(sorted(imported))}\n\n",
        f"class {_model_name(name)}(pa.DataFrameModel):",
        f'    """{table.title[0].upper()}{table.title[1:]}."""\n',
        *(f"    {field}" for field in fields),
        "\n",
        f"{name} = SourceTable(",
        f"    name={name!r},",
        f"    model={_model_name(name)},",
        f"    source={table.source},",
        *([transforms] if transforms else []),
        *_policies(table),
        ")",
    ]
    return TableFile(name, "\n".join(lines) + "\n")


def names_in_postgres(source: Sequence[str]) -> dict[str, str]:
    """Return what each column of a source is called: its name, cut to what PostgreSQL holds."""
    found: dict[str, str] = {}
    for number, name in enumerate(source, 1):
        data, mark = name.encode(), f"_{number}"
        found[name] = name
        if len(data) > MAX_IDENTIFIER_BYTES:
            found[name] = data[: MAX_IDENTIFIER_BYTES - len(mark)].decode(errors="ignore") + mark
    return found


def transforms_of(names: Mapping[str, str]) -> str:
    """Return the lines of a table file that say which columns have other names in the source."""
    renamed = {ours: theirs for theirs, ours in names.items() if ours != theirs}
    if not renamed:
        return ""
    lines = "".join(f"        {ours!r}: Mapped({theirs!r}),\n" for ours, theirs in renamed.items())
    return f"    transforms={{\n{lines}    }},\n"


def table_name(text: str) -> str:
    """Return the name of a table for what a source calls it."""
    plain = re.sub(r"\W+", "_", text.lower(), flags=re.ASCII).strip("_")
    name = (plain if plain[:1].isalpha() else f"t_{plain}")[:40].rstrip("_")
    return name if is_name(name) else "t"


def _policies(table: DescribedTable) -> list[str]:
    lines = []
    if table.key:
        lines += [f"    key=({', '.join(map(repr, table.key))},),", '    write_mode="merge",']
    if table.key and table.whole:
        lines += ['    deletes="full_extract",  # a row that the source no longer has is deleted']
    if table.whole and not table.key:
        lines += ['    write_mode="replace",  # it has no key: read whole when it changed']
    moments = [c.name for c in table.columns if isinstance(c.dtype, pl.Datetime | pl.Date)]
    column = moments[0] if moments else "..."
    lines += [f"    # cursor={column!r}, if it grows with each change: then what is new is read."]
    if moments:
        lines += [
            "    # partitioning=..., tiering=...: then old partitions go to the lake.",
        ]
    return lines


def _field(column: SourceColumn) -> str:
    dtype, remark = column.dtype, column.remark
    if isinstance(dtype, pl.Null):
        dtype, remark = pl.String(), remark or "no value is known: look at the type"
    try:
        settled = cold_type(column.name, dtype)
    except SchemaError:
        settled, remark = pl.String(), f"{dtype} in the source: look at the type"
    named = {"postgres": column.postgres} if column.postgres else {}
    types = named_type("", column.name, settled, named)
    line = field_line(Column(column.name, settled, types, column.nullable, False, "", ()))
    line = line.replace(" = pa.Field()", "")
    return f"{line}  # {remark}" if remark else line


def _model_name(name: str) -> str:
    model = "".join(part.capitalize() for part in name.split("_"))
    return f"{model}Row" if model == "SourceTable" else model
