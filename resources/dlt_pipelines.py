"""dlt: one private pipeline a load, whose package goes to a function of ours as one Parquet file.

dlt extracts the resource into Parquet and hands over the file; what commits it is ours. Nothing of
dlt's state is kept: the truth about what was loaded is the ledger in PostgreSQL, so a pipeline's
folder can be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# dlt reads these when it is imported. It must not phone home, and what goes wrong is raised: dlt
# would print it a second and a third time.
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")

import dlt
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.schema.typing import TTableSchema
from dlt.pipeline.exceptions import PipelineStepFailed

Commit = Callable[[Path], None]
"""Commits one Parquet file of rows; raises psycopg.OperationalError where trying again can help."""


def run_package(name: str, folder: Path, rows: Callable[[], Iterator[Any]], commit: Commit) -> None:
    """Extract rows (Arrow tables of one schema) into one Parquet file and commit it.

    folder: the pipeline's own, emptied first; the caller makes sure that nobody else uses it.
    commit is not called when there is no row. Raises what rows or commit raised.
    """
    shutil.rmtree(folder, ignore_errors=True)
    raised: list[BaseException] = []

    def load(path: Any, table: TTableSchema) -> None:
        try:
            commit(Path(path))
        except Exception as error:
            raised.append(error)
            raise DestinationTerminalException(str(error)) from error

    def extract() -> Iterator[Any]:
        try:
            yield from rows()
        except Exception as error:
            raised.append(error)
            raise

    pipeline = dlt.pipeline(
        pipeline_name=f"lakebed_{name}",
        pipelines_dir=str(folder),
        destination=dlt.destination(
            load,
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
    resource = dlt.resource(extract, name=name, max_table_nesting=0)
    try:
        pipeline.extract(resource(), loader_file_format="parquet")
        pipeline.normalize()
        _refuse_split(pipeline, name)
        pipeline.load()
    except PipelineStepFailed:
        if raised:
            raise raised[0] from None
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if raised:
        raise raised[0]


def _refuse_split(pipeline: dlt.Pipeline, name: str) -> None:
    """A package of several files would be committed by several transactions."""
    for load_id in pipeline.list_normalized_load_packages():
        if len(pipeline.get_load_package_info(load_id).jobs["new_jobs"]) > 1:
            raise RuntimeError(
                f"dlt split the package of {name} in several files, so it is no single transaction;"
                " unset DATA_WRITER__FILE_MAX_ITEMS and DATA_WRITER__FILE_MAX_BYTES"
            )
