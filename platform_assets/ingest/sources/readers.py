"""Which reader reads which source."""

from __future__ import annotations

from platform_assets.ingest.sources.delimited import CsvReader
from platform_assets.ingest.sources.parquet import ParquetReader
from platform_assets.ingest.sources.quarantined import QuarantineReader
from platform_assets.ingest.sources.reader import Reader
from platform_assets.sources import CsvFiles, ParquetFiles, RejectedRows, Source
from resources.postgres import Postgres
from resources.settings import Settings


def reader_of(source: Source, settings: Settings) -> Reader:
    """Return what reads a source; opens nothing."""
    match source:
        case ParquetFiles():
            return ParquetReader(source, settings.data)
        case CsvFiles():
            return CsvReader(source, settings.data)
        case RejectedRows():
            return QuarantineReader(source, Postgres(settings))
