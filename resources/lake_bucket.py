"""The lake in a bucket of an S3-compatible store.

A new file is written into the spool of this machine and verified there. A request that the store
refuses if the name is taken (If-None-Match: *) then makes it an object: of two writers of one name
one wins, and the other takes the next generation. DuckDB reads the objects by its httpfs.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import duckdb
from psycopg import sql

from lakebed.resources.bucket import Bucket
from lakebed.resources.extensions import extension_file
from lakebed.resources.extras import MissingExtraError
from lakebed.resources.lake_files import (
    LakeFileError,
    LakeFiles,
    NewFile,
    OwnerFile,
    PathOf,
    StoredFile,
)
from lakebed.resources.spool import Spool

if TYPE_CHECKING:
    from lakebed.resources.object_store import Keys, ObjectStore

UNFINISHED = ".tmp"
PROBE = ".lakebed"
"""An empty object that is there to see whether the store refuses to overwrite it."""

HTTP_SETTINGS = {
    "http_timeout": "30",
    "http_retries": "4",
    "http_retry_wait_ms": "200",
    "http_retry_backoff": "3.0",
    # Objects never change, so what was learnt of them in a session holds.
    "enable_http_metadata_cache": "true",
}
"""How DuckDB asks the store: seconds, milliseconds, and by how much each pause is longer."""


class LakeBucket(LakeFiles):
    """The lake as the objects of a bucket that begin with a prefix."""

    extensions = ("httpfs",)

    def __init__(self, bucket: Bucket, home: Path) -> None:
        """Remember where the lake is. home: whose spool is written to."""
        self.bucket = bucket
        self._home = home
        self._spool = Spool(home / "spool")

    def __str__(self) -> str:
        """Return where the lake is, for people."""
        return str(self.bucket)

    @property
    def uri(self) -> str:
        """Where the lake is, as a URI."""
        return str(self.bucket)

    @property
    def spill(self) -> Path:
        """A folder of the home."""
        return self._home / "spill"

    @property
    def movers(self) -> Path:
        """A folder of the home: a bucket has no locks."""
        return self._home / "movers"

    @cached_property
    def store(self) -> ObjectStore:
        """The bucket. Its client takes a while to import, so reading alone does not."""
        try:
            from lakebed.resources.object_store import ObjectStore
        except ImportError as error:
            raise MissingExtraError("s3", f"The lake {self}") from error
        return ObjectStore(self.bucket)

    def make_readable(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Load httpfs and create DuckDB's secret with the access keys, for this lake only."""
        load = sql.SQL("load {}").format(sql.Literal(str(extension_file("httpfs"))))
        connection.execute(load.as_string())
        for name, value in HTTP_SETTINGS.items():
            connection.execute(f"set global {name} = {value}")
        parts: dict[str, str] = {
            "scope": str(self.bucket),
            "region": self.bucket.region,
            "url_style": "path" if self.bucket.path_style else "vhost",
        }
        if self.bucket.endpoint:
            address = urlsplit(self.bucket.endpoint)
            parts |= {"endpoint": address.netloc, "use_ssl": str(address.scheme == "https")}
        keys = self._keys()
        if keys is not None:
            parts |= {"key_id": keys[0], "secret": keys[1], "session_token": keys[2]}
        secret = sql.SQL("create temporary secret lakebed_lake (type s3, {})").format(
            sql.SQL(", ").join(
                sql.SQL("{} {}").format(sql.SQL(name), sql.Literal(value))
                for name, value in parts.items()
            )
        )
        connection.execute(secret.as_string())

    def _keys(self) -> Keys | tuple[str, str, str] | None:
        """Return what opens the bucket: of the settings, or of the machine's role or profile."""
        bucket = self.bucket
        if bucket.access_key and bucket.secret_key:
            return bucket.access_key, bucket.secret_key, bucket.session_token or ""
        return self.store.keys()

    def address(self, path: PurePosixPath | str) -> str:
        """Return the s3:// URL of a path."""
        return f"{self.bucket}/{path}"

    def key(self, path: PurePosixPath | str) -> str:
        """Return the key of a path in the bucket."""
        return str(PurePosixPath(self.bucket.prefix, path))

    def reserve(self, path_of: PathOf, first: int) -> NewFile:
        """Return a new file; the name is taken when it is published, then or a later one."""
        _ = self._is_safe
        return _BucketFile(self, path_of, first)

    @cached_property
    def _is_safe(self) -> bool:
        if not self.store.refuses_to_overwrite(self.key(PROBE)):
            raise LakeFileError(
                f"{self}: the store overwrites objects in spite of If-None-Match, so that two "
                "writers could destroy each other's files; nothing was written. Use a store that "
                "supports conditional writes"
            )
        return True

    def size(self, path: PurePosixPath | str) -> int | None:
        """Return the size of an object in bytes, None if it does not exist."""
        found = self.store.find(self.key(path))
        return found.size if found else None

    def sha256(self, path: PurePosixPath | str) -> str:
        """Read an object and return its digest. Raises FileNotFoundError."""
        digest = hashlib.sha256()
        for piece in self.store.read(self.key(path)):
            digest.update(piece)
        return digest.hexdigest()

    def listing(self, under: str = "") -> Iterator[StoredFile]:
        """Yield the objects below a path; an upload that was not completed is one called .tmp."""
        below = self.key(under)
        prefix = "" if below == "." else f"{below}/"
        for key, size, modified in self.store.listing(prefix):
            if key not in (self.key(PROBE), self.key(self.OWNER)):
                yield StoredFile(self._path(key), size, modified)
        for key, started in self.store.uploads(prefix):
            yield StoredFile(PurePosixPath(f"{self._path(key)}{UNFINISHED}"), 0, started)

    def remove(self, path: PurePosixPath | str) -> None:
        """Remove an object, and the parts of its incomplete uploads."""
        key = self.key(path)
        if key.endswith(UNFINISHED):
            self.store.abort_uploads(key.removesuffix(UNFINISHED))
        else:
            self.store.remove(key)

    def _path(self, key: str) -> PurePosixPath:
        return PurePosixPath(key).relative_to(self.bucket.prefix)

    @contextmanager
    def replacing(self, path: PurePosixPath | str) -> Iterator[Path]:
        """Give where to write a file that takes the place of the object at path, by one PUT."""
        spooled = self._spool.take(PurePosixPath(path).suffix)
        try:
            yield spooled.path
            self.store.replace(self.key(path), spooled.path)
        finally:
            spooled.release()

    def read_owner(self) -> OwnerFile | None:
        """Return the object that records the owner of the lake, None if it does not exist."""
        found = self.store.get(self.key(self.OWNER))
        return None if found is None else OwnerFile(found[0].decode(errors="replace"), found[1])

    def write_owner(self, text: str, old: OwnerFile | None) -> bool:
        """Write that object in the place of the old one, by a conditional request."""
        _ = self._is_safe
        return self.store.put(self.key(self.OWNER), text.encode(), old.version if old else None)

    def redact(self, text: str) -> str:
        """Return the text without the keys."""
        return self.bucket.redact(text)


class _BucketFile(NewFile):
    """A new object: written into the spool, published by a conditional request."""

    copied = True

    def __init__(self, lake: LakeBucket, path_of: PathOf, first: int) -> None:
        self._lake = lake
        self._path_of = path_of
        self._writer = uuid.uuid4().hex
        self._sent = False
        self._take(first)
        self._spooled = lake._spool.take(".parquet")

    def _take(self, first: int) -> None:
        """Take the first generation whose name is free now."""
        for self.generation in count(first):
            self.path = self._path_of(self.generation)
            if self._lake.size(self.path) is None:
                return

    @property
    def writing(self) -> Path:
        return self._spooled.path

    def publish(self) -> None:
        self._sent = True
        store = self._lake.store
        while not store.create(self._lake.key(self.path), self.writing, self._writer):
            self._take(self.generation + 1)
        self._spooled.release()

    def discard(self) -> None:
        self._spooled.release()
        if self._sent:
            # An object that cannot be removed now is unnamed: housekeeping finds it.
            with suppress(LakeFileError):
                self._lake.store.remove_own(self._lake.key(self.path), self._writer)
