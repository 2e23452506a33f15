"""Which database owns a lake: a lake belongs to one database, and each records the other.

    the lake        lakebed-owner.json: the database's identity, and a token
    the database    lakebed.lake: the same token

The identity is the system identifier of the server, the number of the database in it and a uuid of
its schema `lakebed`: a restored dump and a copied database are other databases. Any other database
may read the lake; it may not write, sweep or restore there.

A copy of a whole server has the identity of the original. So each writer gives the lake a new token
before it commits, by a request that the lake refuses if its token is not the last one that this
writer knows:

    1  next_token in the database, committed      killed here: the lake has the previous token
    2  the token in the lake, compare-and-swap    killed here: the lake has next_token
    3  token in the database, committed
    4  the writer's own commit

The next writer accepts both tokens. Of two copies, the first to write owns the lake from then on,
and the other one is refused. A copy that was made between 1 and 4 looks like a writer that was
killed there, and no rule can distinguish the two: it may write until the original does.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import psycopg

from lakebed.resources.lake_files import LakeFileError, LakeFiles, OwnerFile
from lakebed.resources.locks import lake_lock
from lakebed.resources.postgres import Connection, Postgres

LOCK_SECONDS = 30
FORMAT = 1

_OURS = """
select database_id::text, (select system_identifier from pg_control_system())::text,
    (select oid from pg_database where datname = current_database())::bigint,
    token, next_token, address,
    exists (select from lakebed.cold_file where removed_at is null)
        or exists (select from lakebed.lake_copy where removed_at is null)
        or exists (select from lakebed.model_version where path is not null and removed_at is null)
        or exists (select from lakebed.model_file where removed_at is null)
from lakebed.lake
"""

_LIVE = """
select path from lakebed.cold_file where superseded_at is null
union all select path from lakebed.lake_copy where superseded_at is null
union all select path from lakebed.model_version where path is not null and superseded_at is null
union all select path from lakebed.model_file where superseded_at is null
"""


class ForeignLakeError(LakeFileError):
    """The lake belongs to another database, or to another copy of this one; nothing was written."""


@dataclass(frozen=True)
class Identity:
    """Which database. id: of its schema lakebed.  system: of its server.  oid: in that server."""

    id: str
    system: str
    oid: int


@dataclass(frozen=True)
class Owner:
    """What a lake says of its database. name: for people.  written: when, in UTC."""

    identity: Identity
    name: str
    token: str
    written: datetime
    file: OwnerFile


@dataclass(frozen=True)
class _Database:
    """The database's record of its lake. address: None if it never had one.

    names_files: whether its manifest names any file.
    """

    identity: Identity
    token: str | None
    next_token: str | None
    address: str | None
    names_files: bool


class LakeOwner:
    """The bond between a lake and a database. Opens nothing until it is used."""

    def __init__(self, files: LakeFiles, postgres: Postgres) -> None:
        """Remember both."""
        self._files = files
        self._postgres = postgres
        self._is_readable = False

    def check(self) -> None:
        """Make sure that this database may write to the lake; take a lake that belongs to no one.

        Raises ForeignLakeError, LakeFileError.
        """
        with self._locked(shared=True) as connection:
            ours, owner = self._both(connection)
            self._judge(ours, owner)
        if owner is None:
            self.advance()

    def check_readable(self) -> None:
        """Check, once, that the files which this database names are those of the lake.

        A restored dump has the uuid of the original and may read its lake. An unrelated database
        would mistake files of the same names for its own. Raises ForeignLakeError, LakeFileError.
        """
        if self._is_readable:
            return
        owner = self.owner()
        if owner is not None:
            with self._postgres.connect() as connection:
                ours = self._ours(connection)
            if ours.identity.id != owner.identity.id:
                raise self._foreign(ours, owner)
        self._is_readable = True

    def advance(self) -> None:
        """Give the lake a new token, so that no other copy of this database may write any more.

        Before each commit that names files, and before files are removed.
        Raises ForeignLakeError, LakeFileError.
        """
        with self._locked(shared=False) as connection:
            ours, owner = self._both(connection)
            self._judge(ours, owner)
            self._give_token(connection, owner)

    def problem(self) -> str | None:
        """Return why this database may not write to the lake, None if it may."""
        try:
            with self._locked(shared=True) as connection:
                self._judge(*self._both(connection))
        except ForeignLakeError as error:
            return str(error)
        return None

    def owner(self) -> Owner | None:
        """Return what the lake says of its database. Raises LakeFileError."""
        file = self._files.read_owner()
        return None if file is None else _owner_of(file, str(self._files))

    def count_named(self) -> tuple[int, int]:
        """Return how many live files the database names, and how many of them are missing."""
        with self._postgres.connect() as connection:
            named = {path for (path,) in connection.execute(_LIVE)}
        there = {str(file.path) for file in self._files.listing()}
        return len(named), len(named - there)

    def claim(self) -> None:
        """Make this database the owner of the lake, whatever database owned it.

        Raises LakeFileError.
        """
        with self._locked(shared=False) as connection:
            self._give_token(connection, self.owner())

    def _both(self, connection: Connection) -> tuple[_Database, Owner | None]:
        # Under the lock: no other process of this database is between its steps.
        return self._ours(connection), self.owner()

    def _ours(self, connection: Connection) -> _Database:
        ((*identity, token, next_token, address, names),) = connection.execute(_OURS).fetchall()
        return _Database(Identity(*identity), token, next_token, address, names)

    def _foreign(self, ours: _Database, owner: Owner) -> ForeignLakeError:
        lake, database = self._files, self._postgres.name
        return ForeignLakeError(
            f"the lake {lake} belongs to another database, {owner.name} (last written "
            f"{owner.written:%Y-%m-%d %H:%M} UTC), and not to {database}, whose lake is "
            f"{ours.address or 'not set yet'}. Are LAKEBED_LAKE and LAKEBED_POSTGRES_URL "
            "right? If this database is a restored one that replaces the other: `lakebed lake "
            "claim`"
        )

    def _judge(self, ours: _Database, owner: Owner | None) -> None:
        """Raise ForeignLakeError where the database may not write to the lake."""
        lake, database = self._files, self._postgres.name
        if owner is None:
            if ours.token is not None and ours.names_files:
                raise ForeignLakeError(
                    f"{lake} is not the lake of {database}, which is {ours.address}: it holds no "
                    f"{lake.OWNER}. Is LAKEBED_LAKE right? If the lake was brought here without "
                    "that file: `lakebed lake claim`"
                )
            if not ours.names_files and self._holds_files():
                raise ForeignLakeError(
                    f"{lake} holds files, but {database} names no file of it. Are LAKEBED_LAKE and "
                    "LAKEBED_POSTGRES_URL right? If this database should own the lake: `lakebed "
                    "lake claim`"
                )
            return
        if owner.identity != ours.identity:
            raise self._foreign(ours, owner)
        if owner.token not in (ours.token, ours.next_token):
            raise ForeignLakeError(
                f"the lake {lake} was last written ({owner.written:%Y-%m-%d %H:%M} UTC) by another "
                f"copy of the database {database}, or by a later or earlier state of it: one of "
                "the two is a copy or was restored from a backup. Stop the other copy; if "
                "this database is the right one: `lakebed lake claim`"
            )

    def _holds_files(self) -> bool:
        """Return whether anything lies in a folder of the lake, as tables have one each."""
        found = (file for file in self._files.listing() if len(file.path.parts) > 1)
        ours = (file for file in found if not file.path.parts[0].startswith("."))
        return any(islice(ours, 1))

    def _give_token(self, connection: Connection, owner: Owner | None) -> None:
        token = uuid.uuid4().hex
        ((*identity, known),) = connection.execute(
            # What the lake has now stays known, in case this process is killed at once.
            "update lakebed.lake set token = coalesce(%s, token), next_token = %s, address = %s"
            " returning database_id::text, (select system_identifier from pg_control_system())"
            "::text, (select oid from pg_database where datname = current_database())::bigint,"
            " owned_since",
            [owner.token if owner else None, token, str(self._files)],
        ).fetchall()
        database = {"id": identity[0], "system": identity[1], "oid": identity[2]}
        written = datetime.now(UTC)
        text = json.dumps(
            {
                "what": "The database that this lake belongs to. Lakebed writes this file.",
                "format": FORMAT,
                "database": database | {"name": self._postgres.name},
                "token": token,
                "written": written.isoformat(),
            },
            indent=2,
        )
        if not self._files.write_owner(text, owner.file if owner else None):
            raise ForeignLakeError(
                f"another copy of {self._postgres.name} has written to the lake {self._files} at "
                "this moment; nothing was written here. Stop one of the two"
            )
        connection.execute(
            "update lakebed.lake set token = %s, next_token = null, owned_since = %s",
            [token, known or written],
        )

    @contextmanager
    def _locked(self, *, shared: bool) -> Iterator[Connection]:
        """Open a connection that holds the lock; a killed process releases it."""
        with self._postgres.connect(autocommit=True) as connection:
            connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'")
            # A token that the lake has must survive a crash of the server.
            connection.execute("set synchronous_commit = on")
            held = ExitStack()
            try:
                held.enter_context(lake_lock().held(connection, shared=shared))
            except psycopg.errors.LockNotAvailable:
                raise LakeFileError(
                    f"{self._files}: another process has been giving the lake a token for "
                    f"{LOCK_SECONDS} seconds; nothing was written. Is that process stopped?"
                ) from None
            with held:
                yield connection


def _owner_of(file: OwnerFile, lake: str) -> Owner:
    try:
        content: dict[str, Any] = json.loads(file.text)
        database = content["database"]
        identity = Identity(str(database["id"]), str(database["system"]), int(database["oid"]))
        return Owner(
            identity,
            str(database["name"]),
            str(content["token"]),
            datetime.fromisoformat(content["written"]).astimezone(UTC),
            file,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise LakeFileError(
            f"{lake}/{LakeFiles.OWNER} cannot be read ({type(error).__name__}): bring it back from "
            "a backup of the lake, or remove it and run `lakebed lake claim`"
        ) from error
