"""Writing a file of the lake: copied by DuckDB, read again, verified, and only then given its name.

new_file         takes a name that was never used; takes the file away where anything raises
write_verified   copied, verified against what PostgreSQL counted in the snapshot
publish          renamed; verified once more where its bytes were copied to another machine
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

    notes: what its metadata says beside the name of the table and what its columns are.
    """

    sort: tuple[str, ...] = ()
    compression: Compression = Tiering.compression
    row_group_rows: int = Tiering.row_group_rows
    notes: dict[str, str] = field(default_factory=dict)


@contextmanager
def new_file(files: LakeFiles, path_of: PathOf, first: int) -> Iterator[NewFile]:
    """Give a new file, of the first generation from first on whose name was never used.

    What raises in the block takes it away again: no transaction must have been committed in it that
    names it.
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
    meanwhile: Callable[[], None] = lambda: None,
) -> Fingerprint:
    """Copy and verify; return what was counted.

    rows: a query of DuckDB, of the table's columns.  counted: gives what they must come to, and is
    asked when they are copied.  meanwhile: further work in the transaction, done while the file is
    read again, or afterwards where the rows may be needed once more. A table with floats that fails
    or holds -0.0 is written again, without dictionaries: those of DuckDB's Parquet take -0.0 for
    the 0.0 before, and their bloom filters have no 0 where -0.0 is.
    Steps: copied, verified. Raises VerificationError, and what meanwhile raises.
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
        meanwhile()
    else:
        with hot.aside() as aside, ThreadPoolExecutor(1, "lakebed_verify") as thread:
            verified = thread.submit(_verify, aside, written, expected)
            meanwhile()
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
            sql.SQL("{}: {}").format(sql.SQL(name), sql.Literal(said))
            for name, said in notes.items()
        ),
    )
    hot.connection.execute(copy.as_string())


def _sorted_by(table: SourceTable, name: str) -> sql.Composable:
    """Return what rows are sorted by: DuckDB writes -0.0 as 0.0 in a column that it sorts by."""
    floats = any(column.name == name and column.polars.is_float() for column in table.columns)
    return sql.SQL("coalesce({0}, {0})" if floats else "{0}").format(sql.Identifier(name))


def _verify(hot: HotTable, file: str, expected: Fingerprint) -> None:
    """Re-read the file and hold it against what the snapshot held."""
    wrong = hot.fingerprint(relation_of(file)).differences(expected)
    if wrong:
        raise VerificationError(
            f"{hot}: the file does not hold what PostgreSQL held ({'; '.join(wrong)}); "
            f"{hot.unchanged}. {hot.again}; if it fails alike, the rows hold values "
            "that Parquet cannot carry."
        )


def _has_negative_zeros(hot: HotTable, file: str) -> bool:
    """Whether a file holds -0.0 in a column of floats; those in lists have no bloom filter."""
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
