"""Settings: the only reader of the environment.

A setting comes from the first of these that names it:

1. the environment
2. `.env` in the project's folder, or in the working folder outside of a project
3. `settings.env` in LAKEBED_HOME, which Lakebed writes (the demo's fixed clock, for example)
4. `[tool.lakebed]` in the project's pyproject.toml (see project_folder.py)
5. the default: ./tables, ./models, ./data and ./.lakebed of the project or the working folder

`.env` is the user's, with all features of dotenv (`${OTHER}` too); settings.env is read literally.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

from dotenv import dotenv_values
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from lakebed.errors import WRONG_USAGE, LakebedError
from lakebed.resources import bucket
from lakebed.resources.bucket import Bucket
from lakebed.resources.clock import Clock, FixedClock, SystemClock
from lakebed.resources.durable import replacing
from lakebed.resources.patience import PATIENCE, Patience
from lakebed.resources.private import make_private_folder
from lakebed.resources.project_folder import ProjectFolder, find_project
from lakebed.spec.times import TimeTextError, read_duration, read_time

NAMES = (
    "LAKEBED_HOME",
    "LAKEBED_POSTGRES_URL",
    "LAKEBED_LAKE",
    "LAKEBED_TABLES",
    "LAKEBED_MODELS",
    "LAKEBED_DATA",
    "LAKEBED_EXPORTS",
    "LAKEBED_ALERT_URL",
    "LAKEBED_UI_URL",
    "LAKEBED_CLOCK",
    "LAKEBED_FILE_GRACE",
    "LAKEBED_KEEP_RUNS",
    "LAKEBED_RUN_TIMEOUT",
)


class SettingsError(LakebedError, ValueError):
    """An invalid setting; the text names the variable and the fix."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where everything is.

    project: the folder whose pyproject.toml has [tool.lakebed]; None outside a project. home:
    state, embedded Postgres, Dagster home. postgres_url: None means the embedded server; kept out
    of repr because it may hold a password. ui_url: the address of the Dagster UI for people. lake:
    folder or bucket of the cold tier. tables: folder of table files. models: folder of SQL models.
    data: where relative source paths start. exports: where relative paths of exports start.
    file_grace: how long superseded and orphaned files of the lake are kept. keep_runs: how long
    Dagster keeps a run. run_timeout: how long a run may take. patience: how long to wait for other
    processes; only code sets it.
    """

    home: Path
    lake: Path | Bucket
    tables: Path
    models: Path
    data: Path
    exports: Path
    postgres_url: str | None = field(default=None, repr=False)
    alert_url: str | None = field(default=None, repr=False)
    ui_url: str | None = None
    fixed_time: datetime | None = None
    file_grace: timedelta = timedelta(hours=24)
    keep_runs: timedelta = timedelta(days=90)
    run_timeout: timedelta = timedelta(hours=24)
    patience: Patience = PATIENCE
    project: Path | None = field(default=None, compare=False)

    @property
    def clock(self) -> Clock:
        """The system's clock, or the fixed one of LAKEBED_CLOCK."""
        return SystemClock() if self.fixed_time is None else FixedClock(self.fixed_time)

    @property
    def dagster_home(self) -> Path:
        """The folder that DAGSTER_HOME names when `lakebed up` starts Dagster."""
        return self.home / "dagster"

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables, for a child process."""
        pairs = {
            "LAKEBED_HOME": str(self.home),
            "LAKEBED_LAKE": str(self.lake),
            "LAKEBED_TABLES": str(self.tables) if self.tables.is_dir() else "",
            "LAKEBED_MODELS": str(self.models) if self.models.is_dir() else "",
            "LAKEBED_DATA": str(self.data),
            "LAKEBED_EXPORTS": str(self.exports),
            "LAKEBED_POSTGRES_URL": self.postgres_url or "",
            "LAKEBED_ALERT_URL": self.alert_url or "",
            "LAKEBED_UI_URL": self.ui_url or "",
            "LAKEBED_CLOCK": self.fixed_time.isoformat() if self.fixed_time else "",
            "LAKEBED_FILE_GRACE": f"{self.file_grace.total_seconds():.0f}s",
            "LAKEBED_KEEP_RUNS": f"{self.keep_runs.total_seconds():.0f}s",
            "LAKEBED_RUN_TIMEOUT": f"{self.run_timeout.total_seconds():.0f}s",
        }
        if isinstance(self.lake, Bucket):
            pairs |= self.lake.environment()
        return {name: value for name, value in pairs.items() if value}


def read_settings(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Read the settings of the project that a folder is in, or of the folder itself.

    Args:
        environ: The environment variables; by default the process's own.
        folder: The folder from which the project is found, and where relative paths of the
            environment start; by default the working folder.

    Raises:
        SettingsError: A setting is unknown or has a value that it cannot have.
        ProjectError: The project's pyproject.toml cannot be used.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    project = find_project(folder, NAMES)
    root = folder if project is None else project.folder
    dot_env = dotenv_values(root / ".env")
    given = _Given.from_layers(
        (_of_project(project), root),
        (_known(dot_env, root / ".env"), root),
        (_known(environ, None), folder),
    )
    home = _plain_path("LAKEBED_HOME", *given.path("LAKEBED_HOME", ".lakebed", root))
    values = _Given.from_layers(
        (_in_home(_of_project(project), home), root),
        (_remembered(home), root),
        (_known(dot_env, root / ".env"), root),
        (_known(environ, None), folder),
    )
    texts = values.text
    return Settings(
        home=home,
        lake=_lake(*values.path("LAKEBED_LAKE", str(home / "lake"), root), (dot_env, environ)),
        tables=_folder("LAKEBED_TABLES", values, root / "tables"),
        models=_folder("LAKEBED_MODELS", values, root / "models"),
        data=_path("LAKEBED_DATA", *values.path("LAKEBED_DATA", "data", root)),
        exports=_path(
            "LAKEBED_EXPORTS", *values.path("LAKEBED_EXPORTS", str(home / "exports"), root)
        ),
        postgres_url=_postgres_url(texts.get("LAKEBED_POSTGRES_URL")),
        alert_url=_http_url("LAKEBED_ALERT_URL", texts),
        ui_url=_http_url("LAKEBED_UI_URL", texts),
        fixed_time=_moment(texts.get("LAKEBED_CLOCK")),
        file_grace=_duration("LAKEBED_FILE_GRACE", texts.get("LAKEBED_FILE_GRACE", "24h")),
        keep_runs=_duration("LAKEBED_KEEP_RUNS", texts.get("LAKEBED_KEEP_RUNS", "90d")),
        run_timeout=_duration("LAKEBED_RUN_TIMEOUT", texts.get("LAKEBED_RUN_TIMEOUT", "24h")),
        project=None if project is None else project.folder,
    )


@dataclass(frozen=True)
class _Given:
    """The given values, by name, and the folder where a relative path of each value starts."""

    text: Mapping[str, str]
    base: Mapping[str, Path]

    @classmethod
    def from_layers(cls, *layers: tuple[Mapping[str, str], Path]) -> _Given:
        """Lay values over one another; a later layer wins."""
        text: dict[str, str] = {}
        base: dict[str, Path] = {}
        for values, folder in layers:
            text |= values
            base |= dict.fromkeys(values, folder)
        return cls(text, base)

    def path(self, name: str, default: str, root: Path) -> tuple[str, Path]:
        """Return a path and the folder where it starts if it is relative."""
        return self.text.get(name, default), self.base.get(name, root)


def _of_project(project: ProjectFolder | None) -> Mapping[str, str]:
    return {} if project is None else project.settings


def _in_home(values: Mapping[str, str], home: Path) -> dict[str, str]:
    return {name: value.replace("{home}", str(home)) for name, value in values.items()}


def environment() -> Mapping[str, str]:
    """Return the process's environment, for the env_var() of SQL models."""
    return MappingProxyType(os.environ)


def read_secret(
    home: Path,
    name: str,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Look up a name in the environment, the folder's `.env` or the home's settings.env.

    For secrets that a table file names. Raises SettingsError if the name is not set.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    project = find_project(folder, NAMES)
    root = folder if project is None else project.folder
    files = (root / ".env", home / "settings.env")
    given = environ.get(name) or next(filter(None, (dotenv_values(f).get(name) for f in files)), "")
    if not given:
        raise SettingsError(
            f"{name} is not set, which a table file names; set it in the environment, or in "
            f"{files[0]}"
        )
    return given


def remember(home: Path, name: str, value: str) -> None:
    """Write one setting into the home's settings.env, keeping its other lines.

    Raises SettingsError for an unknown setting, and for a value that a line cannot hold.
    """
    if name not in NAMES:
        raise SettingsError(f"{name} is not a setting. Known settings: {', '.join(NAMES)}")
    kept = _remembered(home) | {name: value}
    text = "".join(f"{key}={_quoted(kept[key])}\n" for key in sorted(kept))
    if not _is_readable(text, kept):
        raise SettingsError(
            f"{name}: its value cannot be stored in a file (it has a carriage return, or is not "
            "UTF-8); set it in the environment instead"
        )
    make_private_folder(home)
    with replacing(home / "settings.env") as written:
        written.write_text(text, encoding="utf-8")


def _remembered(home: Path) -> dict[str, str]:
    file = home / "settings.env"
    return _known(dotenv_values(file, interpolate=False), file)


def _is_readable(text: str, values: Mapping[str, str]) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    # Reading a file as text removes carriage returns.
    read = dotenv_values(stream=io.StringIO(text.replace("\r", "\n")), interpolate=False)
    return read == values


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _known(values: Mapping[str, str | None], file: Path | None) -> dict[str, str]:
    ours = {k: v for k, v in values.items() if k.startswith("LAKEBED_") and v}
    for name in ours:
        if name not in NAMES:
            where = f"in {file}" if file else "in the environment"
            raise SettingsError(
                f"{name} {where} is not a setting. Known settings: {', '.join(NAMES)}"
            )
    return {k: v for k, v in ours.items() if v is not None}


def _path(name: str, value: str, folder: Path) -> Path:
    if "://" in value:
        raise SettingsError(
            f"{name} is a URL; only LAKEBED_LAKE may be in object storage, name a local folder"
        )
    path = (folder / Path(value).expanduser()).resolve()
    if path.exists() and not path.is_dir():
        raise SettingsError(f"{name}: {path} is a file; name a folder")
    return path


def _plain_path(name: str, value: str, folder: Path) -> Path:
    """Return a folder whose files DuckDB opens by name, not as a pattern."""
    path = _path(name, value, folder)
    if found := re.search(r"[?*\[]", str(path)):
        raise SettingsError(
            f"{name}: {path} has a {found[0]}, by which DuckDB would read files of other folders; "
            "name a folder without it"
        )
    return path


def _lake(value: str, folder: Path, places: Sequence[Mapping[str, str | None]]) -> Path | Bucket:
    """Return the folder or the bucket; places: what may say how to get in, the last one wins."""
    if "://" not in value:
        return _plain_path("LAKEBED_LAKE", value, folder)
    given = {name: value for place in places for name, value in place.items() if value}
    try:
        return bucket.bucket_of(value, {n: given[n] for n in bucket.NAMES if n in given})
    except ValueError as error:
        raise SettingsError(f"LAKEBED_LAKE: {error}") from None


def _folder(name: str, values: _Given, default: Path) -> Path:
    """Return a folder, which must exist if a setting names it."""
    path = _path(name, *values.path(name, str(default), default.parent))
    if name in values.text and not path.is_dir():
        raise SettingsError(f"{name}: the folder {path} does not exist. Create it, or unset {name}")
    return path


def _postgres_url(value: str | None) -> str | None:
    """Check the form of the URL without showing any part: each may belong to the password."""
    if value is None:
        return None
    hint = "postgresql://user:password@host:5432/database"
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("postgresql", "postgres") and parts.netloc.count("@") <= 1
        _ = parts.port
        conninfo_to_dict(value)
    except (ValueError, ProgrammingError):
        fits = False
    if not fits:
        raise SettingsError(
            f"LAKEBED_POSTGRES_URL must look like {hint}, one host, with special characters in the "
            "password percent-encoded (@ is %40, / is %2F); unset it to use the embedded server"
        ) from None
    return value


def _http_url(name: str, values: Mapping[str, str]) -> str | None:
    value = values.get(name)
    if value is not None and urlsplit(value).scheme not in ("http", "https"):
        raise SettingsError(f"{name} must be an http or https address")
    return value


def _moment(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        return read_time(value)
    except TimeTextError as error:
        raise SettingsError(f"LAKEBED_CLOCK: {error}") from error


def _duration(name: str, value: str) -> timedelta:
    try:
        return read_duration(value)
    except TimeTextError as error:
        raise SettingsError(f"{name}: {error}") from error
