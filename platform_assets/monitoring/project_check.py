"""Find what cannot be used in a project: table files, exports, models, tests, and their readers."""

from __future__ import annotations

from collections.abc import Iterator

from lakebed.errors import LakebedError
from lakebed.exports.target import target_of
from lakebed.models.model import ModelSet
from lakebed.models.runner import columns_of_tables, models_of
from lakebed.models.schemas import fitting_models
from lakebed.spec.broken import Broken
from lakebed.spec.export import Export, ExportError, check_exports
from lakebed.store.platform import Platform


def check_project(platform: Platform) -> list[Broken]:
    """Return everything in the project that is broken. Connects to no server, opens no data."""
    models, _ = fitting_models(models_of(platform), columns_of_tables(platform))
    return [*platform.broken, *models.broken, *broken_exports(platform, models)]


def broken_exports(platform: Platform, models: ModelSet) -> Iterator[Broken]:
    """Yield the exports of tables and models that do not exist or are broken."""
    known = {*(model.name for model in models.built()), *(t.name for t in platform.tables)}
    broken = {item.name for item in (*platform.broken, *models.broken)}
    for export in platform.exports:
        try:
            check_exports([export], known)
            target_of(export, platform.settings)
        except LakebedError as error:
            path = platform.export_files.get(export.name)
            read = next((name for name in export.names if name in broken), None)
            why = error if read is None else _reads_broken(export, read)
            yield Broken("export", export.name, path, why, reads=read)


def _reads_broken(export: Export, read: str) -> ExportError:
    return ExportError(f"export {export.name!r} reads {read!r}, which is broken. Fix {read} first")
