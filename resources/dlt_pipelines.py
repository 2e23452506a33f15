"""dlt: one private pipeline a load, which extracts rows into Parquet packages, one file each.

dlt extracts the resource, package by package, and hands over the files; what commits them is ours,
all of them in one transaction. Nothing of dlt's state is kept: the truth about what was loaded is
the ledger in PostgreSQL, so a pipeline's folder can be deleted at any time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.parquet as pq
from dlt.common.runtime.telemetry import stop_telemetry
from dlt.common.schema.typing import TTableSchema
from dlt.common.storages import FileStorage
from dlt.pipeline.exceptions import PipelineStepFailed

from lakebed.errors import LakebedError
from lakebed.resources.private import make_private_folder


class ExtractError(LakebedError, RuntimeError):
    """dlt could not do its part; nothing was loaded. The text says where and why."""


SETTINGS = {
    "runtime.dlthub_telemetry": False,
    # Errors are raised: dlt would print them a second and a third time.
    "runtime.log_level": "CRITICAL",
    # A completed package is not kept.
    "load.delete_completed_jobs": True,
}
"""What dlt is set to, where neither its config.toml nor the environment says otherwise."""

PLAIN = {"compression": "none", "use_dictionary": False, "write_statistics": False}
"""A package is read once, at once, and deleted: compression costs more than it saves."""
ROW_GROUP_ROWS = 16_384
"""How many rows are buffered before they are written."""


@cache
def configure_dlt() -> None:
    """Give dlt Lakebed's settings, once a process, before dlt runs."""
    for name, value in SETTINGS.items():
        if dlt.config.get(name) is None:
            dlt.config[name] = value
    # Reading the settings has started dlt with its own defaults: restart it with these.
    stop_telemetry()
    dlt.current.run_context().initialize_runtime()


def extract_packages(
    name: str, folder: Path, rows: Iterator[pa.Table], full: Callable[[int, int], bool]
) -> Iterator[Path]:
    """Extract rows (tables of one schema) into Parquet files, each a dlt package; yield them.

    folder: the pipeline's own, emptied first; the caller makes sure that no other process uses it,
    and removes it when the files are no longer needed. full: receives the rows and bytes of a
    package, and returns whether it is large enough. Raises the errors of rows, ExtractError.
    """
    configure_dlt()
    shutil.rmtree(folder, ignore_errors=True)
    files = folder / "files"
    make_private_folder(files)
    delivered: list[Path] = []

    def deliver(path: Any, table: TTableSchema) -> None:
        target = files / f"{len(delivered):06}.parquet"
        FileStorage.link_hard_with_fallback(str(path), str(target))
        delivered.append(target)

    pipeline = dlt.pipeline(
        pipeline_name=f"lakebed_{name}",
        pipelines_dir=str(folder),
        destination=dlt.destination(
            deliver,
            batch_size=0,
            loader_file_format="parquet",
            name="lakebed",
            naming_convention="direct",
            skip_dlt_columns_and_tables=True,
            max_parallel_load_jobs=1,
        ),
        dataset_name="lakebed",
    )
    # The ledger is the truth: dlt's state is neither restored nor sent along (a second job a load).
    pipeline.config.restore_from_destination = False
    while (first := next(rows, None)) is not None:
        before = len(delivered)
        # A name of its own: what was handed over is a link to the same bytes.
        package = _Package(folder / f"{before:06}.parquet", first, rows, full)
        del first  # or it would be held until the next package
        _run_package(pipeline, name, package)
        if len(delivered) != before + 1:
            raise RuntimeError(f"dlt made {len(delivered) - before} files of a package of {name}")
        yield delivered[-1]


class _Package:
    """The rows of one package; keeps what went wrong, which dlt would wrap."""

    def __init__(
        self,
        path: Path,
        first: pa.Table,
        rows: Iterator[pa.Table],
        full: Callable[[int, int], bool],
    ) -> None:
        self.path = path
        # dlt rewrites some names, which changes their order or merges two into one. So the reader
        # of a package uses positions.
        self.names = [f"c{place}" for place in range(first.num_columns)]
        self.schema: pa.Schema = first.rename_columns(self.names).schema
        self.next: pa.Table | None = first
        self.rows = rows
        self.full = full
        self.error: Exception | None = None

    def file(self) -> Iterator[Any]:
        """Write the file, and give it to dlt."""
        count = self._write()
        schema = self.schema.empty_table()
        yield dlt.mark.with_file_import(str(self.path), "parquet", count, hints=schema)
        self.path.unlink()

    def _write(self) -> int:
        """Write rows until the package is large enough; return how many.

        Holds one table at a time.
        """
        count = size = 0
        with pq.ParquetWriter(self.path, self.schema, **PLAIN) as writer:
            while self.next is not None:
                named = self.next.rename_columns(self.names)
                writer.write_table(named, row_group_size=ROW_GROUP_ROWS)
                count += self.next.num_rows
                size += self.next.nbytes
                self.next = None
                if not self.full(count, size):
                    self._take()
        return count

    def _take(self) -> None:
        try:
            self.next = next(self.rows, None)
        except Exception as error:
            self.error = error
            raise


def _run_package(pipeline: dlt.Pipeline, name: str, package: _Package) -> None:
    resource = dlt.resource(package.file(), name=name, max_table_nesting=0)
    try:
        pipeline.extract(resource, loader_file_format="parquet")
        pipeline.normalize()
        pipeline.load()
    except PipelineStepFailed as error:
        if package.error is not None:
            raise package.error from None
        raise ExtractError(
            f"dlt could not write the rows of {name} below {pipeline.pipelines_dir} "
            f"({_root_of(error)}); nothing was loaded. Make room there, or set LAKEBED_HOME"
        ) from error
    if package.error is not None:
        raise package.error


def _root_of(error: BaseException) -> str:
    """Return in a line what an error came from."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]
