"""Writing a file of the lake: DuckDB copies it, reads it back, verifies it, and then names it.

new_file         takes a name that was never used; removes the file if the block raises
write_verified   copies, and verifies against what PostgreSQL counted in the snapshot
publish          renames; verifies once more if the bytes were copied to another machine
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import polars as pl
from psycopg import sql

from lakebed.errors import VerificationError
from lakebed.resources.lake_files import LakeFiles, NewFile, PathOf
from lakebed.resources.tiers import blooms
from lakebed.spec.policies import Compression, Tiering
from lakebed.spec.steps import OnFileStep
from lakebed.spec.table import SourceTable
from lakebed.store.fingerprint import Fingerprint
from lakebed.tiering.transaction import HotTable


@dataclass(frozen=True)
class Form:
    """How a file is written. sort: the order of its rows, any where empty.

    notes: metadata in addition to the name of the table and its columns.
    """

    sort: tuple[str, ...] = ()
    compression: Compression = Tiering.compression
    row_group_rows: int = Tiering.row_group_rows
    notes: dict[str, str] = field(default_factory=dict)


@contextmanager
def new_file(files: LakeFiles, path_of: PathOf, first: int) -> Iterator[NewFile]:
    """Yield a new file, of the first generation from `first` on whose name was never used.

    If the block raises, the file is removed; so the block must not commit a transaction that names
    it.
    """
    file = files.reserve(path_of, first)
    try:
        yield file
    except BaseException:
        file.discard()
        raise


def write_verified(
    hot: HotTable,
    file: NewFile,
    rows: sql.Composable,
    counted: Callable[[], Fingerprint],
    form: Form,
    on_step: OnFileStep,
    on_copied: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """Copy and verify; return the counted fingerprint.

    A table with floats that fails or holds -0.0 is written once more without dictionaries: DuckDB's
    Parquet dictionaries merge -0.0 into an earlier 0.0, and their bloom filters then miss 0.
    Steps: copied, verified.

    Args:
        hot: The table or partition, locked.
        file: Where to write.
        rows: DuckDB's query of the rows, with the table's columns.
        counted: Returns the fingerprint that the file must have; called once the rows are copied.
        form: How the file is written.
        on_step: Receives each step.
        on_copied: Work in the transaction, done while the file is read back, or afterwards if the
            rows may be needed once more.

    Raises:
        VerificationError: The file does not hold the counted rows.
    """
    written = str(file.writing)
    _copy(hot, rows, written, form)
    on_step("copied")
    expected = counted()
    if any(_holds_floats(column.polars) for column in hot.table.columns):
        try:
            _verify(hot, written, expected)
            sound = not _has_negative_zeros(hot, written)
        except VerificationError:
            sound = False
        if not sound:
            _copy(hot, rows, written, form, dictionaries=False)
            _verify(hot, written, expected)
        on_copied()
    else:
        with hot.aside() as aside, ThreadPoolExecutor(1, "lakebed_verify") as thread:
            verified = thread.submit(_verify, aside, written, expected)
            on_copied()
            verified.result()
    on_step("verified")
    return expected


def publish(
    hot: HotTable, file: NewFile, expected: Fingerprint, on_step: OnFileStep
) -> tuple[int, str]:
    """Give a verified file its name; return its size in bytes and its SHA-256.

    Step: renamed. Raises VerificationError, LakeFileError.
    """
    size, digest = file.bytes, file.sha256()
    file.publish()
    if file.copied:
        _verify(hot, hot.files.address(file.path), expected)
    on_step("renamed")
    return size, digest


def stored_columns(hot: HotTable) -> sql.Composable:
    """Return the columns of the hot table as the file holds them, for DuckDB."""
    return sql.SQL(", ").join(
        sql.SQL("{} as {}").format(
            sql.SQL(column.types.stored).format(
                sql.SQL("cast({} as {})").format(
                    sql.Identifier(column.name), sql.SQL(column.duckdb)
                )
            ),
            sql.Identifier(column.name),
        )
        for column in hot.table.columns
    )


def relation_of(file: str) -> sql.Composable:
    """Return the relation of a Parquet file, in DuckDB."""
    return sql.SQL("read_parquet([{}], hive_partitioning = false)").format(sql.Literal(file))


def _copy(
    hot: HotTable, rows: sql.Composable, file: str, form: Form, *, dictionaries: bool = True
) -> None:
    table = hot.table
    described = {c.name: c.description for c in table.columns if c.description}
    notes = {
        "lakebed_table": table.name,
        **form.notes,
        "lakebed_columns": json.dumps(described, ensure_ascii=False),
    }
    order = sql.SQL(" order by {}").format(
        sql.SQL(", ").join(_sorted_by(table, name) for name in form.sort)
    )
    copy = sql.SQL(
        "copy (select * from ({rows}){order}) to {file} (format parquet,"
        " use_tmp_file false, compression {compression}, row_group_size {group}{encoding}{blooms},"
        " kv_metadata {{{notes}}})"
    ).format(
        rows=rows,
        order=order if form.sort else sql.SQL(""),
        file=sql.Literal(file),
        compression=sql.Literal(form.compression),
        group=sql.Literal(form.row_group_rows),
        blooms=blooms(c.in_file for c in table.columns if not c.polars.is_float()),
        encoding=sql.SQL("" if dictionaries else ", dictionary_size_limit 0"),
        notes=sql.SQL(", ").join(
            sql.SQL("{}: {}").format(sql.SQL(name), sql.Literal(value))
            for name, value in notes.items()
        ),
    )
    hot.connection.execute(copy.as_string())


def _sorted_by(table: SourceTable, name: str) -> sql.Composable:
    """Return what rows are sorted by: DuckDB writes -0.0 as 0.0 in a column that it sorts by."""
    floats = any(column.name == name and column.polars.is_float() for column in table.columns)
    return sql.SQL("coalesce({0}, {0})" if floats else "{0}").format(sql.Identifier(name))


def _verify(hot: HotTable, file: str, expected: Fingerprint) -> None:
    """Re-read the file and compare it with the rows of the snapshot."""
    wrong = hot.fingerprint(relation_of(file)).differences(expected)
    if wrong:
        raise VerificationError(
            f"{hot}: the file differs from the rows in PostgreSQL ({'; '.join(wrong)}); "
            f"{hot.unchanged}. {hot.again}; if it fails the same way, the rows hold values that "
            "Parquet cannot store."
        )


def _has_negative_zeros(hot: HotTable, file: str) -> bool:
    """Whether a file holds -0.0 in a column of floats; lists of floats have no bloom filter."""
    floats = [sql.Identifier(c.name) for c in hot.table.columns if c.polars.is_float()]
    if not floats:
        return False
    # Not a filter, which the bloom filters would answer.
    counts = [sql.SQL("count(*) filter ({0} = 0 and signbit({0}))").format(c) for c in floats]
    query = sql.SQL("select {} from {}").format(sql.SQL(" + ").join(counts), relation_of(file))
    ((count,),) = hot.connection.execute(query.as_string()).fetchall()
    return bool(count)


def _holds_floats(dtype: pl.DataType) -> bool:
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return inner.is_float()
