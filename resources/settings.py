"""Settings: the only reader of the environment.

Three places say a setting, the first one wins: the environment, `.env` in the working folder, and
`settings.env` in LAKEBED_HOME (how a home remembers, for example, that the demo's clock stands
still). Every setting has a default that works on a bare machine. `.env` is the user's, with all
that dotenv makes of it (`${OTHER}` too); settings.env is written here and read as it was written.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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

PACKAGE_ROOT = Path(__file__).resolve().parent.parent

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
    """A setting that makes no sense; the text names the variable and the way out."""

    exit_code = WRONG_USAGE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where everything is.

    home: state, embedded Postgres, Dagster home.  postgres_url: None means the embedded server;
    kept out of repr because it may hold a password.  ui_url: where people reach the Dagster UI.
    lake: folder or bucket of the cold tier.
    tables: folder of table files.  models: folder of SQL models.  data: where relative source
    paths start.  exports: where relative paths of exports start.
    file_grace: for how long a file of the lake that was superseded is kept, and an orphan.
    keep_runs: for how long Dagster remembers a run.  run_timeout: how long one may take.
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

    @property
    def clock(self) -> Clock:
        """The system's clock, or the one that LAKEBED_CLOCK makes stand still."""
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
            "LAKEBED_TABLES": str(self.tables),
            "LAKEBED_MODELS": str(self.models),
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
    """Read the settings from the environment, `.env` of the folder and the home's settings.env.

    environ and folder default to the process's own. Raises SettingsError.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    dot_env = dotenv_values(folder / ".env")
    given = _known(dot_env, folder / ".env") | _known(environ, None)
    home = _plain_path("LAKEBED_HOME", given.get("LAKEBED_HOME", ".lakebed"), folder)
    values = _remembered(home) | given
    return Settings(
        home=home,
        lake=_lake(values.get("LAKEBED_LAKE", str(home / "lake")), folder, (dot_env, environ)),
        tables=_folder(
            "LAKEBED_TABLES", values, PACKAGE_ROOT / "platform_assets" / "demo" / "tables", folder
        ),
        models=_folder("LAKEBED_MODELS", values, PACKAGE_ROOT / "dbt_like_sql", folder),
        data=_path("LAKEBED_DATA", values.get("LAKEBED_DATA", str(home / "data")), folder),
        exports=_path(
            "LAKEBED_EXPORTS", values.get("LAKEBED_EXPORTS", str(home / "exports")), folder
        ),
        postgres_url=_postgres_url(values.get("LAKEBED_POSTGRES_URL")),
        alert_url=_http_url("LAKEBED_ALERT_URL", values),
        ui_url=_http_url("LAKEBED_UI_URL", values),
        fixed_time=_moment(values.get("LAKEBED_CLOCK")),
        file_grace=_duration("LAKEBED_FILE_GRACE", values.get("LAKEBED_FILE_GRACE", "24h")),
        keep_runs=_duration("LAKEBED_KEEP_RUNS", values.get("LAKEBED_KEEP_RUNS", "90d")),
        run_timeout=_duration("LAKEBED_RUN_TIMEOUT", values.get("LAKEBED_RUN_TIMEOUT", "24h")),
    )


def environment() -> Mapping[str, str]:
    """Return the process's environment as it is, for the env_var() of SQL models."""
    return MappingProxyType(os.environ)


def read_secret(
    home: Path,
    name: str,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Return what the environment, `.env` of the folder or the home's settings.env say of a name.

    For secrets that a table file names. Raises SettingsError where nothing is said.
    """
    environ = os.environ if environ is None else environ
    folder = Path.cwd() if folder is None else folder
    files = (folder / ".env", home / "settings.env")
    given = environ.get(name) or next(filter(None, (dotenv_values(f).get(name) for f in files)), "")
    if not given:
        raise SettingsError(
            f"{name} is not set, which a table file names; set it in the environment, or in "
            f"{files[0]}"
        )
    return given


def remember(home: Path, name: str, value: str) -> None:
    """Write one setting into the home's settings.env, keeping the others.

    Raises SettingsError for what is no setting, and for a value that a line cannot hold.
    """
    if name not in NAMES:
        raise SettingsError(f"{name} is no setting; known are {', '.join(NAMES)}")
    kept = _remembered(home) | {name: value}
    text = "".join(f"{key}={_quoted(kept[key])}\n" for key in sorted(kept))
    if not _is_readable(text, kept):
        raise SettingsError(
            f"{name}: its value cannot be remembered as it is (a carriage return, or no UTF-8); "
            "set it in the environment instead"
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.env").write_text(text, encoding="utf-8")


def _remembered(home: Path) -> dict[str, str]:
    file = home / "settings.env"
    return _known(dotenv_values(file, interpolate=False), file)


def _is_readable(text: str, values: Mapping[str, str]) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    # A file that is read as text has no carriage returns.
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
            raise SettingsError(f"{name} {where} is no setting; known are {', '.join(NAMES)}")
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
    """Return a folder whose files DuckDB opens by name, and takes for no pattern of others."""
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
    said = {name: value for place in places for name, value in place.items() if value}
    try:
        return bucket.bucket_of(value, {n: said[n] for n in bucket.NAMES if n in said})
    except ValueError as error:
        raise SettingsError(f"LAKEBED_LAKE: {error}") from None


def _folder(name: str, values: Mapping[str, str], default: Path, folder: Path) -> Path:
    path = _path(name, values.get(name, str(default)), folder)
    if not path.is_dir():
        raise SettingsError(f"{name}: there is no folder {path}; make it, or unset {name}")
    return path


def _postgres_url(value: str | None) -> str | None:
    """Check the form of the URL; no part of it is shown, any may be of the password."""
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
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise SettingsError(
            f"LAKEBED_CLOCK: {value!r} is no ISO 8601 time such as 2013-12-31T00:00:00+00:00"
        ) from error
    if moment.tzinfo is None:
        raise SettingsError(f"LAKEBED_CLOCK: {value!r} names no time zone; write {value}+00:00")
    return moment.astimezone(UTC)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(name: str, value: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,9})([smhd])", value)
    if found is None:
        raise SettingsError(f"{name}: {value!r} is no duration such as 90s, 30m, 24h or 7d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
