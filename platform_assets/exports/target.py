"""Write an export next to its target, and rename it when all of it is on the disk.

The old file stays unchanged if a writer stops early. A lock on the unfinished file admits one
writer for each target. The next export deletes what a killed writer left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from lakebed.errors import LakebedError
from lakebed.ingest.sources.places import filesystem_of, is_url, store_errors
from lakebed.resources.durable import make_durable
from lakebed.resources.private import FILE_MODE, FOLDER_MODE, users_file_mode
from lakebed.resources.settings import Settings
from lakebed.resources.spill import spill_folder
from lakebed.spec.export import Export, ExportError, Format
from lakebed.store.platform import Platform

MARK = "lakebed_export"
"""The table that marks a DuckDB file as an export. Exports do not replace files without it."""

_BEGINNINGS: dict[Format, bytes] = {"parquet": b"PAR1", "csv.gz": b"\x1f\x8b"}
_PEEK_BYTES = 4096
_CSV_SUFFIXES = (".csv", ".tsv", ".txt")


class ExportFailedError(LakebedError, RuntimeError):
    """An export could not be written. The text names the file and the reason."""


def target_of(export: Export, settings: Settings) -> str:
    """Return the URL or the absolute path of an export."""
    return export.path if is_url(export.path) else str(settings.exports / export.path)


@contextmanager
def written(target: str, form: Format, platform: Platform) -> Iterator[Path]:
    """Yield a local path to write to. It becomes the target when the block succeeds.

    Raises:
        ExportError: The target must not be replaced.
        ExportFailedError: The file cannot be written.
    """
    if is_url(target):
        if target.startswith(f"{platform.lake.files.uri.rstrip('/')}/"):
            raise ExportError(f"{target} lies in the lake. Name another place")
        with _uploaded(target, platform.lake.files.spill) as path:
            yield path
        return
    file = Path(target).resolve()  # a link keeps its place
    _check_place(file, platform)
    _check_old(file, form)
    try:
        with _unfinished(file) as path:
            yield path
            make_durable(path, file, file.parent, _mode(file, platform.settings))
    except OSError as error:
        raise failed(str(file), error) from error


def _mode(file: Path, settings: Settings) -> int | None:
    """Return the mode of an export: that of the file it replaces, or private in the home."""
    if file.exists():
        return stat.S_IMODE(file.stat().st_mode)
    return FILE_MODE if settings.home in file.parents else users_file_mode()


def failed(target: str, error: BaseException) -> ExportFailedError:
    """Return the error of a file that could not be written."""
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left on device" in str(error):
        why = "the disk is full. Free some space, or name a file on another disk"
    else:
        why = (os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "") or (
            str(error).strip()
        )
    return ExportFailedError(f"{target} could not be written: {why}. The old file is unchanged")


def _check_place(file: Path, platform: Platform) -> None:
    if file.exists() and not file.is_file():
        kind = "a folder" if file.is_dir() else "not a regular file"
        raise ExportError(f"{file} is {kind}. Name a file, or - for CSV to standard output")
    if not file.parent.is_dir():
        raise ExportError(f"The folder {file.parent} does not exist. Create it first")
    settings = platform.settings
    kept = (settings.tables, settings.models, settings.home / "postgres", settings.dagster_home)
    for folder in (settings.lake, *kept):
        if isinstance(folder, Path) and folder.resolve() in file.parents:
            raise ExportError(f"{file} lies in {folder}, which Lakebed uses. Name another place")


def _check_old(file: Path, form: Format) -> None:
    """Refuse to replace a file that is not an export of this format."""
    if not file.exists() or not file.stat().st_size:
        return
    with file.open("rb") as stream:
        begins = stream.read(_PEEK_BYTES)
    if form == "duckdb":
        fits = _is_export(file)
    elif form == "csv":
        # Any text can be CSV. The suffix distinguishes it from other text files.
        fits = file.suffix.lower() in _CSV_SUFFIXES and b"\0" not in begins
    else:
        fits = begins.startswith(_BEGINNINGS[form])
    if not fits:
        raise ExportError(
            f"{file} exists and is not an export as {form}. Delete it, or name another file"
        )


def _is_export(file: Path) -> bool:
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            found = connection.execute(
                "select count(*) from duckdb_tables() where table_name = $1", [MARK]
            ).fetchall()
    except duckdb.Error:
        return False
    return bool(found[0][0])


@contextmanager
def _unfinished(file: Path) -> Iterator[Path]:
    """Yield a path in a folder next to the file. Delete the folder afterwards."""
    folder = file.with_name(f".{file.name}.part")
    lock = _locked(folder, file)
    try:
        yield folder / file.name
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _locked(folder: Path, file: Path) -> int:
    """Lock the folder, created or emptied, for this process. Return its descriptor."""
    while True:
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # its writer has just removed it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise ExportError(
                f"Another export is writing to {file}. Wait for it, or stop it"
            ) from None
        if _is_still(descriptor, folder):
            for left in folder.iterdir():
                left.unlink()
            return descriptor
        os.close(descriptor)


def _is_still(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False


@contextmanager
def _uploaded(url: str, spill: Path) -> Iterator[Path]:
    """Yield a local path, and then upload its file to the store as one object."""
    filesystem, name = filesystem_of(url)
    with spill_folder(spill) as folder:
        yield folder / "export"
        with store_errors(url):
            filesystem.put_file(str(folder / "export"), name)
