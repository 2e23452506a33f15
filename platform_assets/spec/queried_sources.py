"""Declare sources that a load queries: databases, APIs and dlt resources. No I/O.

Such a source returns the rows from the cursor on. A load knows nothing about its earlier rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal, get_args

Epoch = Literal["unix", "unix_ms", "julian"]
"""How a number encodes a moment: seconds or milliseconds since 1970, or days since 4714 BC."""


@dataclass(frozen=True)
class Secret:
    """The name of an environment variable, or of a line in .env, that is read when it is needed."""

    setting: str
    """The name of the variable, such as `SHOP_TOKEN`."""

    def problem(self) -> str | None:
        """Describe what is wrong with the name and how to fix it, or return None."""
        return _problem_of_setting(self.setting)


@dataclass(frozen=True, kw_only=True)
class SqliteTable:
    """A table or view of SQLite databases."""

    kind: ClassVar[str] = "sqlite"
    resumes: ClassVar[Literal["query"]] = "query"

    database: str
    """The database files: a path or pattern relative to LAKEBED_DATA."""
    table: str
    """The table or view."""
    dates: Mapping[str, Epoch] = field(default_factory=dict, hash=False)
    """Columns whose numbers are moments, and how they count: `{"created": "unix"}`, `unix_ms` or
    `julian`. Their text is read as ISO 8601."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        for column, epoch in self.dates.items():
            if epoch not in get_args(Epoch):
                known = ", ".join(map(repr, get_args(Epoch)))
                return f"dates[{column!r}] is {epoch!r}. Expected one of {known}"
        return _problem_of_file(self.database, self.table, "shop.db")

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"table `{self.table}` of SQLite database `{self.database}`"


@dataclass(frozen=True, kw_only=True)
class DuckdbTable:
    """A table or view of DuckDB databases."""

    kind: ClassVar[str] = "duckdb"
    resumes: ClassVar[Literal["query"]] = "query"

    database: str
    """The database files: a path or pattern relative to LAKEBED_DATA."""
    table: str
    """The table or view."""
    schema: str = "main"
    """The schema of the table in DuckDB."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        return _problem_of_file(self.database, self.table, "shop.duckdb")

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"table `{self.schema}.{self.table}` of DuckDB database `{self.database}`"


@dataclass(frozen=True, kw_only=True)
class SqlTable:
    """A table, a view or a query of PostgreSQL, MySQL, MariaDB or another server of SQLAlchemy."""

    kind: ClassVar[str] = "sql"
    resumes: ClassVar[Literal["query"]] = "query"

    url_setting: str
    """The environment variable that holds the URL of the database with its password."""
    table: str | None = None
    """The table or view. Excludes `query`."""
    schema: str | None = None
    """The schema of the table."""
    query: str | None = None
    """A query, whose columns are those of the source. Excludes `table`."""
    every: timedelta = timedelta(hours=1)
    """How often the sensor reads the source where the database cannot cheaply say whether it
    changed. With a cursor, and for a plain table of PostgreSQL, it can."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        if (self.table is None) == (self.query is None):
            return "expected either a table or a query; give one of the two"
        if self.query is not None and self.schema is not None:
            return "schema is for a table; write the schema into the query"
        return _problem_of_setting(self.url_setting) or _problem_of_every(self.every)

    @property
    def label(self) -> str:
        """The table with its schema, or the query, as the ledger records it."""
        if self.query is not None:
            return " ".join(self.query.split())
        return f"{self.schema}.{self.table}" if self.schema else str(self.table)

    @property
    def title(self) -> str:
        """A short description of the source."""
        what = f"table `{self.label}`" if self.query is None else "a query"
        return f"{what} of the database in {self.url_setting}"


@dataclass(frozen=True, kw_only=True)
class RestApi:
    """One list of an HTTP API that answers in JSON, read page by page through dlt's rest_api."""

    kind: ClassVar[str] = "rest"
    resumes: ClassVar[Literal["query"]] = "query"

    base_url: str
    """The http or https address, without a user name or password."""
    path: str
    """The path of the list below the address."""
    params: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Parameters of the query."""
    headers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Headers of the request."""
    data_selector: str | None = None
    """The JSON path of the list in an answer. By default dlt searches for the list."""
    paginator: str | Mapping[str, Any] | None = field(default=None, hash=False)
    """A paginator of dlt's rest_api, such as `{"type": "page_number", "base_page": 1}`."""
    auth: Mapping[str, Any] | None = field(default=None, hash=False)
    """An auth of dlt's rest_api, such as `{"type": "bearer", "token": Secret("SHOP_TOKEN")}`."""
    cursor_param: str | None = None
    """The parameter that asks for rows from the cursor on."""
    cursor_format: str | None = None
    """The format of `cursor_param`, in strftime's notation. By default ISO 8601 for a time."""
    page_without_list: Literal["refuse", "empty"] = "refuse"
    """What an answer without a list at `data_selector` is: `refuse` makes the load fail, `empty`
    makes it an empty page."""
    every: timedelta = timedelta(hours=1)
    """How often the sensor reads the source."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        if not re.match(r"https?://[^/@]+(/|$)", self.base_url):
            return (
                "base_url must be an http or https address without a user name or password; put "
                "credentials into auth"
            )
        for name, value in (self.auth or {}).items():
            if name in ("token", "api_key", "password") and not isinstance(value, Secret):
                return f"auth[{name!r}] is a secret; write Secret('NAME_OF_A_VARIABLE')"
        if self.page_without_list not in ("refuse", "empty"):
            return f"page_without_list is {self.page_without_list!r}. Expected 'refuse' or 'empty'"
        if self.cursor_format is not None and self.cursor_param is None:
            return "cursor_format is the format of cursor_param; declare cursor_param too"
        return _problem_of_secrets(self.auth, self.params, self.headers) or _problem_of_every(
            self.every
        )

    def unproven_end(self) -> str | None:
        """Describe why a load could take a failure for the last page, or return None."""
        if self.page_without_list == "empty":
            return "page_without_list='empty' takes an error for the last page; remove it"
        if self.paginator is None:
            return (
                "paginator is not declared, so dlt would guess where the pages end; declare one, "
                "such as 'single_page' for an API with one page"
            )
        if not isinstance(self.paginator, str):
            for name in ("maximum_page", "maximum_offset"):
                if self.paginator.get(name) is not None:
                    return f"paginator[{name!r}] may stop before the last page; remove it"
        return None

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"API `{self.base_url.rstrip('/')}/{self.path.lstrip('/')}`"


@dataclass(frozen=True, kw_only=True)
class DltResource:
    """Any dlt resource, by its importable name.

    A `dlt.sources.incremental` of the resource starts at the cursor of Lakebed's ledger. Lakebed
    keeps no state of dlt.
    """

    kind: ClassVar[str] = "dlt"
    resumes: ClassVar[Literal["query"]] = "query"

    resource: str
    """A resource, or a function that returns a resource or a dlt source, as
    `package.module:name`."""
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The arguments of the call. Write a secret as `Secret("NAME")`."""
    select: str | None = None
    """The name of the resource in a dlt source."""
    table: str | None = None
    """The table whose rows are taken from a resource that yields rows of several tables."""
    every: timedelta = timedelta(hours=1)
    """How often the sensor reads the source."""

    def problem(self) -> str | None:
        """Describe what is wrong with the source and how to fix it, or return None."""
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", self.resource):
            return f"resource is {self.resource!r}. Expected package.module:name"
        return _problem_of_secrets(self.arguments) or _problem_of_every(self.every)

    @property
    def title(self) -> str:
        """A short description of the source."""
        return f"dlt resource `{self.resource}`"


QueriedSource = SqliteTable | DuckdbTable | SqlTable | RestApi | DltResource


def secret_names(source: object) -> set[str]:
    """Return the names of the environment variables that a source reads secrets from."""
    if not is_dataclass(source):
        return set()
    values = [getattr(source, each.name) for each in fields(source)]
    found = {secret.setting for secret in secrets_in(values)}
    return found | ({source.url_setting} if isinstance(source, SqlTable) else set())


def secrets_in(value: Any) -> list[Secret]:
    """Return all secrets in nested mappings and lists."""
    if isinstance(value, Secret):
        return [value]
    if isinstance(value, Mapping):
        return [secret for part in value.values() for secret in secrets_in(part)]
    if isinstance(value, list | tuple):
        return [secret for part in value for secret in secrets_in(part)]
    return []


def _problem_of_file(database: str, table: str, example: str) -> str | None:
    if not database:
        return f"database is empty; name a file such as {example}"
    return None if table else "table is empty; name a table of the database"


def _problem_of_setting(name: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return (
            "a table file names a secret and does not contain it; give the name of an environment "
            "variable, such as SHOP_URL"
        )
    if name.startswith("LAKEBED_"):
        return f"{name}: LAKEBED_ is the prefix of Lakebed's own settings; choose another name"
    return None


def _problem_of_secrets(*values: Any) -> str | None:
    problems = (secret.problem() for value in values for secret in secrets_in(value))
    return next((problem for problem in problems if problem is not None), None)


def _problem_of_every(every: timedelta) -> str | None:
    return None if every > timedelta(0) else "every must be more than zero"
