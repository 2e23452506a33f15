"""Which reader reads which source."""

from __future__ import annotations

from typing import assert_never

import psycopg

from lakebed.ingest.sources.arrow import ArrowReader
from lakebed.ingest.sources.delimited import CsvReader
from lakebed.ingest.sources.duckdb_file import DuckdbReader
from lakebed.ingest.sources.isolation import IsolatedReader
from lakebed.ingest.sources.json_lines import JsonReader
from lakebed.ingest.sources.parquet import ParquetReader
from lakebed.ingest.sources.quarantined import QuarantineReader
from lakebed.ingest.sources.reader import Reader, SourceError
from lakebed.ingest.sources.resource import DltReader
from lakebed.ingest.sources.rest import RestReader
from lakebed.ingest.sources.sqlite import SqliteReader
from lakebed.resources.postgres import Postgres
from lakebed.resources.settings import Settings, SettingsError, read_secret
from lakebed.spec.queried_sources import DltResource, DuckdbTable, RestApi, SqliteTable, SqlTable
from lakebed.spec.sources import ArrowFiles, CsvFiles, JsonFiles, ParquetFiles, RejectedRows
from lakebed.spec.table import SourceTable


def reader_of(table: SourceTable, settings: Settings) -> Reader:
    """Return what reads a table's source; opens nothing. Raises TableError, SourceError.

    Whatever it raises of an item is a SourceError that names the item.
    """
    reader = _reader_of(table, settings)
    reader.keep_json(table.json_columns)
    # An error of the home's own server concerns more than the rejects that are read.
    pass_on = (psycopg.Error,) if isinstance(table.source, RejectedRows) else ()
    return IsolatedReader(reader, reader.place or table.require_source.title, pass_on)


def _reader_of(table: SourceTable, settings: Settings) -> Reader:
    source = table.require_source
    match source:
        case ParquetFiles():
            return ParquetReader(source, settings.data)
        case CsvFiles():
            return CsvReader(source, settings.data)
        case JsonFiles():
            return JsonReader(source, settings.data)
        case ArrowFiles():
            return ArrowReader(source, settings.data)
        case RejectedRows():
            return QuarantineReader(source, Postgres(settings))
        case SqliteTable():
            return SqliteReader(source, settings)
        case DuckdbTable():
            return DuckdbReader(source, settings)
        case SqlTable():
            return _server_reader(source, table, settings)
        case RestApi():
            return RestReader(source, settings)
        case DltResource():
            return DltReader(source, settings)
        case _:
            assert_never(source)


def _server_reader(source: SqlTable, table: SourceTable, settings: Settings) -> Reader:
    # SQLAlchemy takes a while to import; only a table of a server pays for it.
    from lakebed.ingest.sources.postgres_server import PostgresReader
    from lakebed.ingest.sources.server import SqlReader

    try:
        url = read_secret(settings.home, source.url_setting)
    except SettingsError as error:
        raise SourceError(f"{source.url_setting}:{source.label}", str(error)) from None
    if url.startswith(("postgresql:", "postgresql+", "postgres:")):
        return PostgresReader(source, table, settings)
    return SqlReader(source, table, settings)
