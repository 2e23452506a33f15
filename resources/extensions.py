"""DuckDB's extensions, which come as wheels and are loaded from where they lie."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import duckdb
from psycopg import sql

from lakebed.errors import LakebedError
from lakebed.resources.extras import MissingExtraError


class ExtensionError(LakebedError, RuntimeError):
    """An extension of DuckDB that is not installed as it should be."""


def extension_file(name: str) -> Path:
    """Return the path of an extension. Raises ExtensionError."""
    spec = find_spec(f"duckdb_extension_{name}")
    if spec is None or not spec.submodule_search_locations:
        if name == "httpfs":
            raise MissingExtraError("s3", "Reading a lake in object storage")
        wheel = f"duckdb-extension-{name.replace('_', '-')}"
        raise ExtensionError(
            f"the wheel {wheel} is not installed: pip install '{wheel}=={duckdb.__version__}'"
        )
    folder = Path(spec.submodule_search_locations[0]) / "extensions" / f"v{duckdb.__version__}"
    file = folder / f"{name}.duckdb_extension"
    if not file.exists():
        raise ExtensionError(
            f"the wheel of the DuckDB extension {name} is not for DuckDB {duckdb.__version__}; "
            "install both at one version (see requirements.lock)"
        )
    return file


def in_memory(extensions: Iterable[str] = ()) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with extensions; no query can load an unsigned one.

    The signatures of these extensions are not checked, which takes 0.2 s of processor time for 40
    MB each time: a user who can write to the wheels can replace DuckDB itself. Raises
    ExtensionError.
    """
    files = [extension_file(name) for name in extensions]
    connection = duckdb.connect(":memory:", config={"allow_unsigned_extensions": bool(files)})
    try:
        for file in files:
            connection.execute(sql.SQL("load {}").format(sql.Literal(str(file))).as_string())
        # This cannot be turned on again.
        connection.execute("set allow_unsigned_extensions = false")
    except BaseException:
        connection.close()
        raise
    return connection
