"""PostgreSQL, the hot tier: connections, short locks, and the migrations of schema `lakebed`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lakebed.errors import UNREACHABLE, LakebedError
from lakebed.resources import embedded
from lakebed.resources.locks import migration_lock
from lakebed.resources.patience import Patience
from lakebed.resources.retries import retrying
from lakebed.resources.settings import Settings

Connection = psycopg.Connection[tuple[Any, ...]]

MIGRATIONS = Path(__file__).parent / "migrations"
BASELINE = "001_baseline.sql"
BEFORE_THE_BASELINE = "001_lakebed.sql"
"""The first of the files that the baseline replaces."""
OLDEST_VERSION = 15
LOCK_TIMEOUT = "200ms"
OPTIONS = "-c timezone=UTC -c datestyle=ISO -c intervalstyle=postgres -c quote_all_identifiers=off"
"""The format of PostgreSQL's texts in each session, whatever the server or the role sets."""


ENGLISH = "-c lc_messages=C"
"""What makes a session get PostgreSQL's own texts; a role may be forbidden to set it."""


class PostgresUnavailableError(LakebedError, RuntimeError):
    """The server does not answer, is too old, or does not let us in."""

    exit_code = UNREACHABLE
    retryable = True


class LockWaitError(LakebedError, RuntimeError):
    """A schema change did not get its lock; other sessions lock the table too long."""

    retryable = True


class MigrationError(LakebedError, RuntimeError):
    """The schema `lakebed` in the database and this version of Lakebed do not fit."""


class UnreleasedSchemaError(MigrationError):
    """The schema is older than the first release and cannot be migrated."""


class Postgres:
    """One PostgreSQL server and database, embedded or by URL; opened on first use."""

    def __init__(self, settings: Settings) -> None:
        """Remember where the server is; open nothing."""
        self._settings = settings

    @property
    def patience(self) -> Patience:
        """How long to wait for other sessions."""
        return self._settings.patience

    @cached_property
    def url(self) -> str:
        """The URL of the database, with its password; starts the embedded server where needed."""
        return self._settings.postgres_url or embedded.join(self._settings.home)

    @cached_property
    def server(self) -> dict[str, str]:
        """The parameters of a session by libpq's names, with the password; options come last."""
        given = {name: str(value) for name, value in conninfo_to_dict(self.url).items()}
        options = f"{given.get('options', '')} {OPTIONS}".strip()
        return (
            {"connect_timeout": "10", "application_name": "lakebed"} | given | {"options": options}
        )

    @property
    def server_in_english(self) -> dict[str, str]:
        """The parameters of a session whose errors are PostgreSQL's own texts, if the role may."""
        if not self._may_set_messages:
            return dict(self.server)
        return self.server | {"options": f"{self.server['options']} {ENGLISH}"}

    @cached_property
    def translates(self) -> bool:
        """Whether even sessions of `server_in_english` get texts in another language."""
        if self._may_set_messages:
            return False
        with self._open(autocommit=True) as connection:
            try:
                connection.execute("select 1 / 0")
            except psycopg.errors.DivisionByZero as error:
                return error.diag.message_primary != "division by zero"
        return True

    @cached_property
    def _may_set_messages(self) -> bool:
        with self._open(autocommit=True) as connection:
            query = "select has_parameter_privilege('lc_messages', 'SET')"
            return bool(connection.execute(query).fetchall()[0][0])

    @property
    def name(self) -> str:
        """The server in words that hold no secret."""
        if self._settings.postgres_url is None:
            return f"the embedded PostgreSQL of {self._settings.home}"
        parts = urlsplit(self._settings.postgres_url)
        return f"PostgreSQL at {parts.hostname or 'localhost'}:{_port(parts)}{parts.path}"

    def connect(self, *, autocommit: bool = False) -> Connection:
        """Open a connection in UTC to the migrated database. Raises PostgresUnavailableError."""
        self._migrated  # noqa: B018  (once a process)
        return self._open(autocommit=autocommit)

    def sibling_url(self, suffix: str, driver: str = "postgresql") -> str:
        """Return the SQLAlchemy URL of the database `<ours>_<suffix>` on the same server.

        Makes the database if it is not there. Raises PostgresUnavailableError where it may not.
        """
        with self._open(autocommit=True) as connection:
            name = f"{connection.info.dbname}_{suffix}"
            known = connection.execute("select 1 from pg_database where datname = %s", [name])
            if known.fetchone() is None:
                try:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    pass  # another process made it in between
                except psycopg.errors.InsufficientPrivilege as error:
                    raise PostgresUnavailableError(
                        f"{self.name} lets this user make no database; have {name} made for it"
                    ) from error
        return urlunsplit(urlsplit(self.url)._replace(scheme=driver, path=f"/{quote(name)}"))

    @cached_property
    def _migrated(self) -> bool:
        with self._open(autocommit=True) as connection:
            version = connection.info.server_version // 10000
            if version < OLDEST_VERSION:
                raise PostgresUnavailableError(
                    f"{self.name} is version {version}; Lakebed needs {OLDEST_VERSION} or newer"
                )
            migrate(connection)
        return True

    def _open(self, *, autocommit: bool) -> Connection:
        try:
            return psycopg.connect(make_conninfo("", **self.server), autocommit=autocommit)
        except psycopg.OperationalError as error:
            reason = self.redact(str(error)).strip().splitlines()[0]
            raise PostgresUnavailableError(
                f"cannot reach {self.name}: {reason}\n"
                "Check LAKEBED_POSTGRES_URL, or unset it to use the embedded server."
            ) from None

    def redact(self, text: str) -> str:
        """Return the text without the database's password."""
        given = self._settings.postgres_url
        password = urlsplit(given).password if given else None
        if not password:
            return text
        return text.replace(password, "***").replace(unquote(password), "***")


def _port(parts: Any) -> int:
    return parts.port or 5432


def migrate(connection: Connection, folder: Path = MIGRATIONS) -> list[str]:
    """Bring the schema `lakebed` up to date; return the names of the migrations that ran.

    Files run in the order of their names, each once, under an advisory lock, each in a transaction
    of its own. The connection must be in autocommit mode. Raises MigrationError where a migration
    that already ran was changed since, or the database is ahead of this version of Lakebed.
    """
    files = sorted(folder.glob("*.sql"))
    ran: list[str] = []
    with migration_lock().held(connection):
        _make_schema(connection)
        done: dict[str, str] = dict(
            connection.execute("select name, sha256 from lakebed.migration").fetchall()
        )
        if BEFORE_THE_BASELINE in done:
            raise _unreleased(connection)
        unknown = sorted(set(done) - {file.name for file in files})
        if unknown:
            raise MigrationError(
                f"the schema lakebed has migrations this version does not know ({unknown[0]}); "
                "install the version of Lakebed that made them"
            )
        for file in files:
            text = file.read_text()
            digest = hashlib.sha256(text.encode()).hexdigest()
            if file.name in done:
                if done[file.name] != digest and file.name == BASELINE:
                    raise _unreleased(connection)
                if done[file.name] != digest:
                    raise MigrationError(
                        f"migration {file.name} was changed after it ran; restore it and add a new"
                    )
                continue
            with connection.transaction():
                connection.execute(text)
                connection.execute(
                    "insert into lakebed.migration (name, sha256) values (%s, %s)",
                    [file.name, digest],
                )
            ran.append(file.name)
    return ran


def _unreleased(connection: Connection) -> UnreleasedSchemaError:
    ((database,),) = connection.execute("select current_database()").fetchall()
    return UnreleasedSchemaError(
        f"the schema lakebed of the database {database} was created by a Lakebed from before its "
        "first release, and cannot be migrated. Recreate the home. First, with the version that "
        "created it, `lakebed restore` cold partitions that have no other source. Then drop the "
        "schemas lakebed and lakebed_undo and the loaded tables (embedded PostgreSQL: delete the "
        "home), use a new folder for the lake, and load again"
    )


def _make_schema(connection: Connection) -> None:
    """Create the schema if it is missing: a role may use one that it may not create."""
    ((there, role, database),) = connection.execute(
        "select to_regclass('lakebed.migration') is not null, current_user, current_database()"
    ).fetchall()
    if there:
        return
    try:
        connection.execute("create schema if not exists lakebed")
        connection.execute(
            "create table lakebed.migration (name text primary key, "
            "sha256 text not null, applied_at timestamptz not null default now())"
        )
    except psycopg.errors.InsufficientPrivilege as error:
        raise MigrationError(
            f"the role {role} may not create the schemas lakebed and lakebed_undo: GRANT CREATE ON "
            f"DATABASE {database} TO {role}. They are created once; the GRANT can be revoked then"
        ) from error


def change_schema(
    connection: Connection, statements: Sequence[sql.Composed | sql.SQL], *, attempts: int = 40
) -> None:
    """Run DDL in one transaction that waits for no lock longer than LOCK_TIMEOUT; retry.

    A waiting ACCESS EXCLUSIVE lock blocks all later sessions, so the wait is short and the pause
    between two attempts is not. The connection must be in autocommit mode. Raises LockWaitError
    after the last attempt.
    """
    contended = (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)

    def change() -> None:
        with connection.transaction():
            connection.execute(
                sql.SQL("set local lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT))
            )
            for statement in statements:
                connection.execute(statement)

    try:
        retrying(attempts, contended, first=0.05)(change)
    except contended as error:
        raise LockWaitError(
            f"no lock in {attempts} attempts for: {statements[0].as_string(connection)[:200]}\n"
            "Another session locks the table; see pg_locks and pg_stat_activity, then try again."
        ) from error
