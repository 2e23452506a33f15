"""Where files lie: on a local disk, in an object store behind an fsspec URL, in a .zip.

List and open files, and determine their versions, whatever their contents. A member of an archive
has the path archive.zip/member and is never unpacked to disk.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import io
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.registry import known_implementations

from lakebed.ingest.sources.reader import SourceError, first_line
from lakebed.resources.extras import install

ZIP_BUFFER_BYTES = 1 << 20
UNREADABLE = "unreadable-"
"""How the version of a file begins that is there and cannot be looked at; then the errno."""
_MEMBER = re.compile(r"(?i)(.*?\.zip)/(.+)", re.S)


@dataclass(frozen=True)
class Found:
    """A file: its path or URL, size in bytes, version, and modification time (0: not known)."""

    path: str
    size: int
    version: str
    modified: float


def is_url(path: str) -> bool:
    """Say whether a path is a URL."""
    return "://" in path


def found_files(pattern: str, suffixes: tuple[str, ...]) -> Iterator[Found]:
    """Yield the files of a path, a folder or a glob, by name.

    suffixes: of the files that are taken from a folder. Local files that disappear in between and
    links without a file are skipped. Raises SourceError where an object store cannot be
    listed.
    """
    if is_url(pattern):
        yield from _remote_files(pattern, suffixes)
        return
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207  (may be absolute)
    if len(names) == 1 and Path(names[0]).is_dir():
        root = Path(names[0])
        names = [
            str(path)
            for path in root.rglob("*")
            if _is_wanted(path.relative_to(root).as_posix(), suffixes)
        ]
    for name in sorted(names):
        try:
            stat = Path(name).stat()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ELOOP):
                # Reading it says why it cannot be read, and the other files go on.
                yield Found(name, 0, f"{UNREADABLE}{error.errno}", 0.0)
            continue
        if Path(name).is_file():
            yield Found(name, stat.st_size, stat_version(stat), stat.st_mtime_ns / 1e9)


def version_of(path: str) -> str:
    """Return the version of a file, or "gone". Raises SourceError."""
    archive, member = split_member(path)
    try:
        if member is not None:
            with _open_archive(archive) as opened:
                return member_version(opened.getinfo(member))
        if not is_url(path):
            return stat_version(Path(path).stat())
        filesystem, name = filesystem_of(path)
        with store_errors(path):
            return _remote_version(filesystem.info(name, **_fresh(filesystem)))
    except (FileNotFoundError, KeyError):
        return "gone"


def split_member(path: str) -> tuple[str, str | None]:
    """Return the file of a path, and the member where it is one of an archive."""
    match = _MEMBER.fullmatch(path)
    if match is None or (not is_url(path) and not Path(match[1]).is_file()):
        return path, None
    return match[1], match[2]


def split_pattern(pattern: str) -> tuple[str, str | None]:
    """Split a pattern into the pattern of archives and the pattern of their members."""
    match = _MEMBER.fullmatch(pattern)
    return (pattern, None) if match is None else (match[1], match[2])


@lru_cache(maxsize=1024)
def members(archive: str, version: str) -> tuple[zipfile.ZipInfo, ...]:
    """Return the files in an archive, without those that begin with a dot or an underscore.

    Kept for each version, as a sensor asks every few seconds. Raises SourceError.
    """
    try:
        with _open_archive(archive) as opened:
            infos = opened.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise SourceError(
            archive, f"it is not a whole .zip ({first_line(error)}); deliver it again"
        ) from error
    wanted = [info for info in infos if not info.is_dir() and _is_wanted(info.filename, ("",))]
    return tuple(sorted(wanted, key=lambda info: info.filename))


def member_version(info: zipfile.ZipInfo) -> str:
    """Return the version of a member: its size and checksum, whatever else is in the archive."""
    return f"{info.file_size}-crc{info.CRC:08x}"


def open_file(path: str) -> BinaryIO:
    """Open a file or an object, unbuffered: each read is one read of the disk or the store.

    Raises SourceError.
    """
    if not is_url(path):
        return cast("BinaryIO", Path(path).open("rb", buffering=0))
    filesystem, name = filesystem_of(path)
    with store_errors(path):
        return cast("BinaryIO", _Guarded(path, filesystem.open(name, "rb", cache_type="none")))


@contextmanager
def opened_bytes(path: str) -> Iterator[BinaryIO]:
    """Open a file, an object or a member of an archive as a stream."""
    archive, member = split_member(path)
    if member is None:
        if path.lower().endswith(".zip"):
            raise SourceError(path, "it cannot be read: it is not a whole .zip; deliver it again")
        with open_file(path) as stream:
            yield stream
        return
    with _open_archive(archive) as opened:
        try:
            stream = cast("BinaryIO", opened.open(member))
        except (KeyError, RuntimeError, NotImplementedError) as error:
            raise SourceError(path, f"it cannot be unpacked ({first_line(error)})") from error
        with stream:
            yield stream


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Turn whatever an object store's package raises into a SourceError that names the URL."""
    try:
        yield
    except (FileNotFoundError, SourceError):
        raise
    except PermissionError as error:
        raise SourceError(
            url,
            f"access is denied ({first_line(error)}); check the rights of the credentials in the "
            "environment (for s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
        ) from error
    except Exception as error:
        kind = type(error).__name__
        if kind in ("NoCredentialsError", "PartialCredentialsError"):
            problem = (
                "the environment has no credentials for it; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3_ANON=true for a public bucket"
            )
        else:
            problem = (
                f"the store cannot be reached ({kind}: {first_line(error)}); check the address, "
                "for s3 AWS_ENDPOINT_URL and the region"
            )
        raise SourceError(url, problem) from error


class _Guarded(io.RawIOBase):
    """An object that is open for reading; what goes wrong names its URL."""

    def __init__(self, url: str, stream: Any) -> None:
        self._url = url
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def read(self, size: int = -1) -> bytes:
        with store_errors(self._url):
            return bytes(self._stream.read(size))

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()


@contextmanager
def _open_archive(path: str) -> Iterator[zipfile.ZipFile]:
    buffered = io.BufferedReader(cast("io.RawIOBase", open_file(path)), ZIP_BUFFER_BYTES)
    with buffered, zipfile.ZipFile(buffered) as opened:
        yield opened


def filesystem_of(url: str) -> tuple[Any, str]:
    """Return fsspec's filesystem for a URL, and the path in it. Raises SourceError."""
    protocol = urlsplit(url).scheme
    try:
        return cast("tuple[Any, str]", fsspec.url_to_fs(url, use_listings_cache=False))
    except ImportError as error:
        known = known_implementations.get(protocol, {}).get("err", first_line(error))
        extra = f": {install('s3')}" if protocol == "s3" else ""
        raise SourceError(url, f"{protocol}:// needs a package ({known}){extra}") from error
    except ValueError as error:
        raise SourceError(
            url, f"fsspec does not know {protocol}:// ({first_line(error)})"
        ) from error


def _remote_files(pattern: str, suffixes: tuple[str, ...]) -> Iterator[Found]:
    filesystem, path = filesystem_of(pattern)
    try:
        with store_errors(pattern):
            infos = _listed(filesystem, path, pattern.endswith("/"), suffixes)
            if not infos:
                _check_there(filesystem, path)
    except FileNotFoundError as error:
        raise SourceError(
            pattern, "the bucket or folder does not exist; check the URL and the region"
        ) from error
    for info in sorted(infos, key=lambda info: str(info["name"])):
        if info["type"] == "file":
            url = filesystem.unstrip_protocol(info["name"])
            size = int(info.get("size") or 0)
            yield Found(url, size, _remote_version(info), _modified(info))


def _listed(
    filesystem: Any, path: str, folder: bool, suffixes: tuple[str, ...]
) -> list[dict[str, Any]]:
    if glob.has_magic(path):
        return list(filesystem.glob(path, detail=True).values())
    if not folder:
        try:
            info = filesystem.info(path, **_fresh(filesystem))
        except FileNotFoundError:
            return []
        if info["type"] == "file":
            return [info]
    root = path.rstrip("/") + "/"
    below = filesystem.find(root, detail=True).values()
    return [info for info in below if _is_wanted(str(info["name"]).removeprefix(root), suffixes)]


def _check_there(filesystem: Any, path: str) -> None:
    """Raise FileNotFoundError where the bucket itself is missing: its listing is merely empty."""
    bucket, _, _ = path.lstrip("/").partition("/")
    if bucket and filesystem.protocol[0] in ("s3", "gs", "gcs", "abfs", "az"):
        filesystem.ls(bucket, **_fresh(filesystem))


def _fresh(filesystem: Any) -> dict[str, bool]:
    return {"refresh": True} if "s3" in filesystem.protocol else {}


def _is_wanted(relative: str, suffixes: tuple[str, ...]) -> bool:
    parts = relative.split("/")
    if any(part.startswith((".", "_")) for part in parts if "=" not in part):
        return False
    return any(fnmatch.fnmatch(parts[-1].lower(), f"*{suffix}") for suffix in suffixes)


def stat_version(stat: os.stat_result) -> str:
    """Return the version of a file: its size and modification time."""
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _remote_version(info: dict[str, Any]) -> str:
    """Return size and etag where the store has one, its time otherwise."""
    for name in ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created"):
        if info.get(name):
            value = info[name]
            text = str(value.timestamp() if isinstance(value, datetime) else value)
            return f"{int(info.get('size') or 0)}-{text.strip(chr(34))}"
    return f"{int(info.get('size') or 0)}-unknown"


def _modified(info: dict[str, Any]) -> float:
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0.0
