"""Lakebed: PostgreSQL for recent rows, Parquet for old ones, one SQL over both.

Everything that a table file, a script or a Dagster project needs is here:

    from lakebed import CsvFiles, Grain, Partitioning, SourceTable, Tiering
    from lakebed import Lakebed, LakebedError
    from lakebed import build_defs

Names are imported from their modules when they are first used, so that `import lakebed` is quick.
The other modules of the package are not for users, and can change with any version.

The folder platform_assets/ of the checkout is this package: it is installed as `lakebed`, and a
link of that name is in the checkout.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ != "lakebed":
    raise ImportError(f"import lakebed, not {__name__}: a class of both names would be two classes")

if TYPE_CHECKING:
    from lakebed.build import build_defs as build_defs
    from lakebed.doors.write import ClientCatalogError as ClientCatalogError
    from lakebed.errors import BusyError as BusyError
    from lakebed.errors import LakebedError as LakebedError
    from lakebed.errors import PartlyFailedError as PartlyFailedError
    from lakebed.errors import TieringError as TieringError
    from lakebed.errors import VerificationError as VerificationError
    from lakebed.exports.target import ExportFailedError as ExportFailedError
    from lakebed.importing.expressions import UntranslatableError as UntranslatableError
    from lakebed.importing.structure import ImportSourceError as ImportSourceError
    from lakebed.ingest.constraints import TooManyViolationsError as TooManyViolationsError
    from lakebed.ingest.report import LoadReport as LoadReport
    from lakebed.ingest.sources.reader import SourceError as SourceError
    from lakebed.ingest.writers.writer import LoadConflictError as LoadConflictError
    from lakebed.ingest.writers.writer import RelatedRowsError as RelatedRowsError
    from lakebed.ingest.writers.writer import RepeatedKeyError as RepeatedKeyError
    from lakebed.models.model import ModelError as ModelError
    from lakebed.models.selection import SelectionError as SelectionError
    from lakebed.monitoring.status import PlatformStatus as PlatformStatus
    from lakebed.operations.load_tables import LoadChoiceError as LoadChoiceError
    from lakebed.orchestration.dagster_private import DagsterVersionError as DagsterVersionError
    from lakebed.orchestration.dagster_resources import HotResource as HotResource
    from lakebed.orchestration.dagster_resources import LakeResource as LakeResource
    from lakebed.project import ClosedError as ClosedError
    from lakebed.project import Lakebed as Lakebed
    from lakebed.project import QueryResult as QueryResult
    from lakebed.recovery.backup import BackupError as BackupError
    from lakebed.recovery.rollback_candidates import RollbackError as RollbackError
    from lakebed.resources.dlt_pipelines import ExtractError as ExtractError
    from lakebed.resources.embedded_programs import EmbeddedServerError as EmbeddedServerError
    from lakebed.resources.extensions import ExtensionError as ExtensionError
    from lakebed.resources.extras import MissingExtraError as MissingExtraError
    from lakebed.resources.lake_files import LakeFileError as LakeFileError
    from lakebed.resources.lake_owner import ForeignLakeError as ForeignLakeError
    from lakebed.resources.postgres import LockWaitError as LockWaitError
    from lakebed.resources.postgres import MigrationError as MigrationError
    from lakebed.resources.postgres import PostgresUnavailableError as PostgresUnavailableError
    from lakebed.resources.postgres import UnreleasedSchemaError as UnreleasedSchemaError
    from lakebed.resources.private import OpenDoorError as OpenDoorError
    from lakebed.resources.project_folder import ProjectError as ProjectError
    from lakebed.resources.read_errors import ErasedError as ErasedError
    from lakebed.resources.read_errors import FileMissingError as FileMissingError
    from lakebed.resources.read_errors import InexactError as InexactError
    from lakebed.resources.read_errors import LakeReadError as LakeReadError
    from lakebed.resources.read_errors import ReadOnlyError as ReadOnlyError
    from lakebed.resources.read_errors import SessionEndedError as SessionEndedError
    from lakebed.resources.session import ReadSession as ReadSession
    from lakebed.resources.settings import Settings as Settings
    from lakebed.resources.settings import SettingsError as SettingsError
    from lakebed.resources.settings import read_settings as read_settings
    from lakebed.scaffolding.adoption import AdoptionError as AdoptionError
    from lakebed.scaffolding.project_files import NewProjectError as NewProjectError
    from lakebed.scaffolding.table_file import AddError as AddError
    from lakebed.schema.apply import ApplyError as ApplyError
    from lakebed.schema.ddl import DriftError as DriftError
    from lakebed.spec.export import Csv as Csv
    from lakebed.spec.export import Export as Export
    from lakebed.spec.export import ExportError as ExportError
    from lakebed.spec.partitions import Grain as Grain
    from lakebed.spec.policies import Deletes as Deletes
    from lakebed.spec.policies import Lookup as Lookup
    from lakebed.spec.policies import Partitioning as Partitioning
    from lakebed.spec.policies import Surrogate as Surrogate
    from lakebed.spec.policies import Tiering as Tiering
    from lakebed.spec.queried_sources import DltResource as DltResource
    from lakebed.spec.queried_sources import DuckdbTable as DuckdbTable
    from lakebed.spec.queried_sources import RestApi as RestApi
    from lakebed.spec.queried_sources import Secret as Secret
    from lakebed.spec.queried_sources import SqliteTable as SqliteTable
    from lakebed.spec.queried_sources import SqlTable as SqlTable
    from lakebed.spec.sources import ArrowFiles as ArrowFiles
    from lakebed.spec.sources import CopyFiles as CopyFiles
    from lakebed.spec.sources import CsvFiles as CsvFiles
    from lakebed.spec.sources import JsonFiles as JsonFiles
    from lakebed.spec.sources import ParquetFiles as ParquetFiles
    from lakebed.spec.table import SourceTable as SourceTable
    from lakebed.spec.table import TableError as TableError
    from lakebed.spec.times import TimeTextError as TimeTextError
    from lakebed.spec.transforms import Mapped as Mapped
    from lakebed.store.grain_mismatch import GrainError as GrainError
    from lakebed.store.lake_tables import connect as connect
    from lakebed.store.locks import LoadBusyError as LoadBusyError
    from lakebed.tiering.holds import PartitionHeldError as PartitionHeldError
    from lakebed.tiering.lake_copies import LakeCopyBusyError as LakeCopyBusyError
    from lakebed.tiering.literals import PredicateError as PredicateError
    from lakebed.tiering.partition import PartitionBusyError as PartitionBusyError
    from lakebed.tiering.report import Moved as Moved
    from lakebed.tiering.restorable import RestoreRequestError as RestoreRequestError

_MODULES = {
    # Table files
    "SourceTable": "lakebed.spec.table",
    "Grain": "lakebed.spec.partitions",
    "Partitioning": "lakebed.spec.policies",
    "Tiering": "lakebed.spec.policies",
    "Deletes": "lakebed.spec.policies",
    "Lookup": "lakebed.spec.policies",
    "Surrogate": "lakebed.spec.policies",
    "Mapped": "lakebed.spec.transforms",
    "ArrowFiles": "lakebed.spec.sources",
    "CopyFiles": "lakebed.spec.sources",
    "CsvFiles": "lakebed.spec.sources",
    "JsonFiles": "lakebed.spec.sources",
    "ParquetFiles": "lakebed.spec.sources",
    "DltResource": "lakebed.spec.queried_sources",
    "DuckdbTable": "lakebed.spec.queried_sources",
    "RestApi": "lakebed.spec.queried_sources",
    "Secret": "lakebed.spec.queried_sources",
    "SqliteTable": "lakebed.spec.queried_sources",
    "SqlTable": "lakebed.spec.queried_sources",
    "Csv": "lakebed.spec.export",
    "Export": "lakebed.spec.export",
    # Scripts and notebooks
    "Lakebed": "lakebed.project",
    "QueryResult": "lakebed.project",
    "LoadReport": "lakebed.ingest.report",
    "Moved": "lakebed.tiering.report",
    "PlatformStatus": "lakebed.monitoring.status",
    "connect": "lakebed.store.lake_tables",
    "ReadSession": "lakebed.resources.session",
    "Settings": "lakebed.resources.settings",
    "read_settings": "lakebed.resources.settings",
    # Dagster projects
    "build_defs": "lakebed.build",
    "LakeResource": "lakebed.orchestration.dagster_resources",
    "HotResource": "lakebed.orchestration.dagster_resources",
    # Errors
    "LakebedError": "lakebed.errors",
    "AddError": "lakebed.scaffolding.table_file",
    "AdoptionError": "lakebed.scaffolding.adoption",
    "ApplyError": "lakebed.schema.apply",
    "BackupError": "lakebed.recovery.backup",
    "BusyError": "lakebed.errors",
    "ClientCatalogError": "lakebed.doors.write",
    "ClosedError": "lakebed.project",
    "DagsterVersionError": "lakebed.orchestration.dagster_private",
    "DriftError": "lakebed.schema.ddl",
    "EmbeddedServerError": "lakebed.resources.embedded_programs",
    "ErasedError": "lakebed.resources.read_errors",
    "ExportError": "lakebed.spec.export",
    "ExportFailedError": "lakebed.exports.target",
    "ExtensionError": "lakebed.resources.extensions",
    "ExtractError": "lakebed.resources.dlt_pipelines",
    "FileMissingError": "lakebed.resources.read_errors",
    "ForeignLakeError": "lakebed.resources.lake_owner",
    "GrainError": "lakebed.store.grain_mismatch",
    "ImportSourceError": "lakebed.importing.structure",
    "InexactError": "lakebed.resources.read_errors",
    "LakeCopyBusyError": "lakebed.tiering.lake_copies",
    "LakeFileError": "lakebed.resources.lake_files",
    "LakeReadError": "lakebed.resources.read_errors",
    "LoadBusyError": "lakebed.store.locks",
    "LoadChoiceError": "lakebed.operations.load_tables",
    "LoadConflictError": "lakebed.ingest.writers.writer",
    "LockWaitError": "lakebed.resources.postgres",
    "MigrationError": "lakebed.resources.postgres",
    "MissingExtraError": "lakebed.resources.extras",
    "ModelError": "lakebed.models.model",
    "NewProjectError": "lakebed.scaffolding.project_files",
    "OpenDoorError": "lakebed.resources.private",
    "PartitionBusyError": "lakebed.tiering.partition",
    "PartitionHeldError": "lakebed.tiering.holds",
    "PartlyFailedError": "lakebed.errors",
    "PostgresUnavailableError": "lakebed.resources.postgres",
    "PredicateError": "lakebed.tiering.literals",
    "ProjectError": "lakebed.resources.project_folder",
    "ReadOnlyError": "lakebed.resources.read_errors",
    "RelatedRowsError": "lakebed.ingest.writers.writer",
    "RepeatedKeyError": "lakebed.ingest.writers.writer",
    "RestoreRequestError": "lakebed.tiering.restorable",
    "RollbackError": "lakebed.recovery.rollback_candidates",
    "SelectionError": "lakebed.models.selection",
    "SessionEndedError": "lakebed.resources.read_errors",
    "SettingsError": "lakebed.resources.settings",
    "SourceError": "lakebed.ingest.sources.reader",
    "TableError": "lakebed.spec.table",
    "TieringError": "lakebed.errors",
    "TimeTextError": "lakebed.spec.times",
    "TooManyViolationsError": "lakebed.ingest.constraints",
    "UnreleasedSchemaError": "lakebed.resources.postgres",
    "UntranslatableError": "lakebed.importing.expressions",
    "VerificationError": "lakebed.errors",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name from its module, once."""
    if name not in _MODULES:
        raise AttributeError(f"module 'lakebed' has no attribute {name!r}")
    found: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
