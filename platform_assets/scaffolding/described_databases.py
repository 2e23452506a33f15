"""What the tables of a database look like: DuckDB files, PostgreSQL, MySQL and their like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
from psycopg import sql

from lakebed.ingest.sources.reader import first_line, frame_of
from lakebed.resources.settings import Settings, read_secret
from lakebed.scaffolding.table_file import AddError, DescribedTable, SourceColumn


def describe_duckdb(database: Path, named: str, tables: Sequence[str]) -> list[DescribedTable]:
    """Describe the tables of a DuckDB file, or the named ones.

    Args:
        database: The file.
        named: The file as the table files name it.
        tables: Names of tables of the schema main; without one, all of them.

    Raises:
        AddError: The file cannot be opened, or has no such table.
    """
    with _opened(database) as connection:
        chosen = _chosen(str(database), _duckdb_names(connection), tables)
        return [_duckdb_table(connection, name, named) for name in chosen]


def duckdb_table_names(database: Path) -> list[str]:
    """Return the names of the tables of a DuckDB file's schema main.

    Raises:
        AddError: The file cannot be opened, or has no table.
    """
    with _opened(database) as connection:
        return list(_chosen(str(database), _duckdb_names(connection), ()))


@contextmanager
def _opened(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    if not database.is_file():
        raise AddError(f"no file {database}. Expected a database in the folder data/")
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            yield connection
    except duckdb.Error as error:
        raise AddError(f"{database}: DuckDB cannot read it ({first_line(error)})") from error


def _duckdb_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    found = connection.execute(
        "select table_name from duckdb_tables() where schema_name = 'main'"
        " and not internal order by 1"
    ).fetchall()
    return [name for (name,) in found]


def _duckdb_column(
    connection: duckdb.DuckDBPyConnection, table: str, name: str, kind: str, nullable: bool
) -> SourceColumn:
    """Describe a column; a type that Arrow or polars has not is read as text."""
    named = {"INTERVAL": "interval", "TIME WITH TIME ZONE": "timetz"}.get(kind)
    if named is not None:
        return SourceColumn(name, pl.String(), nullable, postgres=named)
    as_text = SourceColumn(name, pl.String(), nullable, f"{kind} in the source: look at the type")
    # An interval in a nested type makes polars panic; Arrow has bits and long numbers as bytes.
    if "INTERVAL" in kind or kind in ("BIT", "BIGNUM"):
        return as_text
    query = sql.SQL("select {} from main.{} limit 0").format(
        sql.Identifier(name), sql.Identifier(table)
    )
    try:
        frame = frame_of(connection.sql(query.as_string()).to_arrow_table())
    except (duckdb.NotImplementedException, pa.ArrowInvalid):
        return as_text
    return SourceColumn(name, frame.dtypes[0], nullable)


def _duckdb_table(connection: duckdb.DuckDBPyConnection, name: str, named: str) -> DescribedTable:
    columns = connection.execute(
        "select column_name, data_type, is_nullable from duckdb_columns()"
        " where schema_name = 'main' and table_name = ? order by column_index",
        [name],
    ).fetchall()
    keys = connection.execute(
        "select constraint_column_names from duckdb_constraints() where schema_name = 'main'"
        " and table_name = ? and constraint_type = 'PRIMARY KEY'",
        [name],
    ).fetchall()
    return DescribedTable(
        name=name,
        title=f"table {name} of {named}",
        source=f"DuckdbTable(database={named!r}, table={name!r})",
        columns=[_duckdb_column(connection, name, *column) for column in columns],
        key=tuple(keys[0][0]) if keys else (),
        whole=True,
    )


def describe_server(
    settings: Settings, url_setting: str, schema: str | None, tables: Sequence[str]
) -> list[DescribedTable]:
    """Describe the tables of a database server, or the named ones.

    Args:
        settings: The settings of the project, in whose .env the address may be.
        url_setting: The name of the variable that holds the database's URL.
        schema: The schema of the tables; by default the database's own.
        tables: Names of tables; without one, all of the schema.

    Raises:
        SettingsError: The variable is not set.
        AddError: The database cannot be reached, or has no such table.
    """
    with open_server(settings, url_setting) as inspector:
        chosen = _chosen(url_setting, sorted(inspector.get_table_names(schema)), tables)
        return [_server_table(inspector, url_setting, schema, name) for name in chosen]


@contextmanager
def open_server(settings: Settings, url_setting: str) -> Iterator[Any]:
    """Open SQLAlchemy's inspector of a database server; its errors never show the password.

    Args:
        settings: The settings of the project, in whose .env the address may be.
        url_setting: The name of the variable that holds the database's URL.

    Raises:
        SettingsError: The variable is not set.
        AddError: The database cannot be reached or read.
    """
    import sqlalchemy as sa

    try:
        url = sa.make_url(read_secret(settings.home, url_setting))
    except sa.exc.ArgumentError:
        raise AddError(
            f"{url_setting} is not a URL such as postgresql://user:password@host/database"
        ) from None
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    try:
        yield sa.inspect(sa.create_engine(url, poolclass=sa.NullPool))
    except (sa.exc.SQLAlchemyError, ImportError) as error:
        text = first_line(getattr(error, "orig", None) or error)
        hidden = text.replace(str(url.password), "***") if url.password else text
        raise AddError(f"the database of {url_setting} says: {hidden}") from None


def _server_table(
    inspector: Any, url_setting: str, schema: str | None, name: str
) -> DescribedTable:
    key = tuple(inspector.get_pk_constraint(name, schema)["constrained_columns"])
    where = "" if schema is None else f", schema={schema!r}"
    return DescribedTable(
        name=name,
        title=f"table {name} of the database in {url_setting}",
        source=f"SqlTable(url_setting={url_setting!r}, table={name!r}{where})",
        columns=[_server_column(column) for column in inspector.get_columns(name, schema)],
        key=key,
        whole=True,
    )


def _server_column(column: Any) -> SourceColumn:
    import sqlalchemy as sa

    kind, name, nullable = column["type"], column["name"], bool(column["nullable"])
    exact: tuple[tuple[Any, pl.DataType], ...] = (
        (sa.Boolean, pl.Boolean()),
        (sa.SmallInteger, pl.Int16()),
        (sa.BigInteger, pl.Int64()),
        (sa.Integer, pl.Int32()),
        (sa.Float, pl.Float64()),
        (sa.Date, pl.Date()),
        (sa.Time, pl.Time()),
        (sa.LargeBinary, pl.Binary()),
        (sa.String, pl.String()),
    )
    if isinstance(kind, sa.DateTime):
        return SourceColumn(name, pl.Datetime("us", "UTC" if kind.timezone else None), nullable)
    if isinstance(kind, sa.Numeric) and not isinstance(kind, sa.Float):
        if kind.precision is not None and kind.precision <= 38:
            return SourceColumn(name, pl.Decimal(kind.precision, kind.scale or 0), nullable)
        remark = "numeric without a precision: choose digits and scale"
        return SourceColumn(name, pl.Decimal(38, 9), nullable, remark)
    for family, dtype in exact:
        if isinstance(kind, family):
            unsigned = dtype.is_integer() and getattr(kind, "unsigned", False)
            return SourceColumn(name, _wider(dtype) if unsigned else dtype, nullable)
    return SourceColumn(name, pl.String(), nullable, f"{kind} in the source: look at the type")


def _wider(dtype: pl.DataType) -> pl.DataType:
    """Return the type that holds the unsigned values of an integer type."""
    if dtype == pl.Int64:
        return pl.Decimal(20, 0)
    return pl.Int32() if dtype == pl.Int16 else pl.Int64()


def _chosen(place: str, known: Sequence[str], wanted: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in wanted if name not in known]
    if unknown or not known:
        what = f"no table {unknown[0]!r}" if unknown else "no table"
        raise AddError(f"{place} has {what}. Its tables: {', '.join(known) or 'none'}")
    return list(dict.fromkeys(wanted)) or known
