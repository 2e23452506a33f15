"""Sources that are asked for their rows: databases, APIs and dlt resources, declared. No I/O.

What is asked for rows from the cursor on answers with those alone; nothing is known of the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal, get_args

Epoch = Literal["unix", "unix_ms", "julian"]
"""How a number stands for a moment: seconds or milliseconds since 1970, or days since 4714 BC."""

HOURLY = timedelta(hours=1)


@dataclass(frozen=True)
class Secret:
    """The name of an environment variable, or of a line in .env, that is read when it is needed."""

    setting: str
    """The name of the variable, such as `SHOP_TOKEN`."""

    def problem(self) -> str | None:
        """Say why the name cannot be, or None."""
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
        """Say why the source makes no sense, with the way out, or None."""
        for column, epoch in self.dates.items():
            if epoch not in get_args(Epoch):
                known = ", ".join(map(repr, get_args(Epoch)))
                return f"dates[{column!r}] is {epoch!r}, which is none of {known}"
        return _problem_of_file(self.database, self.table, "shop.db")

    @property
    def title(self) -> str:
        """The source in a few words."""
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
        """Say why the source makes no sense, with the way out, or None."""
        return _problem_of_file(self.database, self.table, "shop.duckdb")

    @property
    def title(self) -> str:
        """The source in a few words."""
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
    every: timedelta = HOURLY
    """How often the sensor reads the source where the database cannot cheaply say whether it
    changed. With a cursor, and for a plain table of PostgreSQL, it can."""

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        if (self.table is None) == (self.query is None):
            return "name a table or write a query, one of the two"
        if self.query is not None and self.schema is not None:
            return "schema belongs to a table; write it into the query"
        return _problem_of_setting(self.url_setting) or _problem_of_every(self.every)

    @property
    def label(self) -> str:
        """The table with its schema, or the query, as the ledger knows it."""
        if self.query is not None:
            return " ".join(self.query.split())
        return f"{self.schema}.{self.table}" if self.schema else str(self.table)

    @property
    def title(self) -> str:
        """The source in a few words."""
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
    every: timedelta = HOURLY
    """How often the sensor reads the source."""

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        if not re.match(r"https?://[^/@]+(/|$)", self.base_url):
            return "base_url must be an http or https address without a user name or password"
        for name, value in (self.auth or {}).items():
            if name in ("token", "api_key", "password") and not isinstance(value, Secret):
                return f"auth[{name!r}] is a secret: write Secret('NAME_OF_A_VARIABLE')"
        if self.page_without_list not in ("refuse", "empty"):
            return "page_without_list is 'refuse' or 'empty'"
        if self.cursor_format is not None and self.cursor_param is None:
            return "cursor_format is the form of cursor_param; name that too"
        return _problem_of_secrets(self.auth, self.params, self.headers) or _problem_of_every(
            self.every
        )

    def unproven_end(self) -> str | None:
        """Say why the last page could not be told from a failure, or None."""
        if self.page_without_list == "empty":
            return "page_without_list='empty' takes an error for the last page; take it out"
        if self.paginator is None:
            return (
                "paginator is not declared, and dlt would guess where the pages end; declare it, "
                "'single_page' where there is only one"
            )
        if not isinstance(self.paginator, str):
            for name in ("maximum_page", "maximum_offset"):
                if self.paginator.get(name) is not None:
                    return f"paginator[{name!r}] ends the pages whatever is left; take it out"
        return None

    @property
    def title(self) -> str:
        """The source in a few words."""
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
    """The arguments of the call. `Secret("NAME")` stands for a secret."""
    select: str | None = None
    """The name of the resource in a dlt source."""
    table: str | None = None
    """The table whose rows are taken from a resource that yields rows of several tables."""
    every: timedelta = HOURLY
    """How often the sensor reads the source."""

    def problem(self) -> str | None:
        """Say why the source makes no sense, with the way out, or None."""
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", self.resource):
            return f"{self.resource!r} names no resource; write package.module:name"
        return _problem_of_secrets(self.arguments) or _problem_of_every(self.every)

    @property
    def title(self) -> str:
        """The source in a few words."""
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
    """Return the secrets that stand anywhere in nested mappings and lists."""
    if isinstance(value, Secret):
        return [value]
    if isinstance(value, Mapping):
        return [secret for part in value.values() for secret in secrets_in(part)]
    if isinstance(value, list | tuple):
        return [secret for part in value for secret in secrets_in(part)]
    return []


def _problem_of_file(database: str, table: str, example: str) -> str | None:
    if not database:
        return f"the database is empty; name a file such as {example}"
    return None if table else "the table is empty; name one of the database"


def _problem_of_setting(name: str) -> str | None:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        return (
            "a secret is named, not written down: give the name of an environment variable, "
            "such as SHOP_URL"
        )
    if name.startswith("LAKEBED_"):
        return f"{name}: names that begin with LAKEBED_ are Lakebed's own settings; choose another"
    return None


def _problem_of_secrets(*values: Any) -> str | None:
    problems = (secret.problem() for value in values for secret in secrets_in(value))
    return next((problem for problem in problems if problem is not None), None)


def _problem_of_every(every: timedelta) -> str | None:
    return None if every > timedelta(0) else "every must be longer than no time"
