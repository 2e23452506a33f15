"""The bytes of an item as a stream: unpacked, in UTF-8, hashed on their way, read ahead of need."""

from __future__ import annotations

import codecs
import hashlib
import lzma
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, Protocol, TypeVar, cast

import pyarrow as pa

from lakebed.ingest.sources.places import opened_bytes, split_member

COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
PARSERS = 2
"""Threads that parse blocks; more gain nothing, as checks and the COPY want the processor too."""
In = TypeVar("In")
Out = TypeVar("Out")
CHUNK_BYTES = 1 << 20
AROUND_BYTES = 1 << 12
BOM = b"\xef\xbb\xbf"
BROKEN = "lakebed.broken"
"""An error handler: what cannot be decoded becomes the byte FF, which is never UTF-8."""

codecs.register_error(
    BROKEN,
    lambda error: ("\udcff", error.end) if isinstance(error, UnicodeDecodeError) else ("", 0),
)


_SIGNATURES = {
    b"\x1f\x8b": "gzip; its name must end with .gz",
    b"BZh": "bzip2; its name must end with .bz2",
    b"\xfd7zXZ": "xz; its name must end with .xz",
    b"\x28\xb5\x2f\xfd": "zstd; its name must end with .zst",
    b"PK\x03\x04": "zip, as spreadsheets are, too; an archive's name must end with .zip",
    b"7z\xbc\xaf": "7z, which is not read",
    b"Rar!": "rar, which is not read",
    b"\x04\x22\x4d\x18": "lz4, which is not read",
    b"\x1f\x9d": "compress, which is not read",
}


def packed_as(begin: bytes) -> str | None:
    """Say how a file is packed that begins so, with what to do; None where it is not packed."""
    return next((how for mark, how in _SIGNATURES.items() if begin.startswith(mark)), None)


class Stream(Protocol):
    """What can be read to its end."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""


def codec_of(path: str) -> str | None:
    """Return how a file is compressed, by its name."""
    return COMPRESSED.get(PurePosixPath(path).suffix.lower())


def with_packed(*suffixes: str) -> tuple[str, ...]:
    """Return how files of some kinds end, packed or not."""
    return tuple(kind + packed for packed in ("", *COMPRESSED) for kind in suffixes)


def is_utf8(encoding: str) -> bool:
    """Say whether an encoding is UTF-8, with a byte order mark or without, or ASCII."""
    return codecs.lookup(encoding).name in ("utf-8", "ascii", "utf-8-sig")


def can_be_cut(path: str) -> bool:
    """Say whether an item's bytes can be read from any place on: it is not packed."""
    return codec_of(path) is None and split_member(path)[1] is None


@contextmanager
def opened_stream(
    path: str, encoding: str | None = "utf-8", found: Any = None, offset: int = 0
) -> Iterator[Stream]:
    """Open an item for reading, unpacked.

    encoding: the encoding to convert to UTF-8 without a byte order mark; None keeps the bytes.
    found: a hash that is updated with all stored bytes of the item when it is read to its end.
    offset: how many bytes to skip, for an item that `can_be_cut`.
    Raises SourceError, OSError or pa.ArrowInvalid, also when it is read.
    """
    with opened_bytes(path) as raw:
        raw.seek(offset)
        stream: Stream = _Raw(raw) if found is None else _Hashing(raw, found)
        codec = codec_of(path)
        if codec is not None:
            stream = _unpacked(stream, codec)
        if encoding is None:
            yield stream
        elif codecs.lookup(encoding).name == "ascii":
            yield _Ascii(stream)
        elif is_utf8(encoding):
            yield stream if offset else _WithoutMark(stream)
        else:
            yield _Transcoded(stream, encoding)


def blocks(stream: Stream, size: int) -> Iterator[bytes]:
    """Yield a stream in blocks of about a size, each read while the one before is at work."""
    with ThreadPoolExecutor(1, thread_name_prefix="read") as pool:
        prefetch = pool.submit(_filled, stream, size)
        while block := prefetch.result():
            prefetch = pool.submit(_filled, stream, size)
            yield block


def prefetch(items: Iterable[In], work: Callable[[In], Out], workers: int) -> Iterator[Out]:
    """Yield what the work makes of each item, in their order; some of it is done ahead."""
    with ThreadPoolExecutor(workers, thread_name_prefix="parse") as pool:
        waiting: deque[Future[Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def hash_of(path: str, count: int) -> hashlib._Hash:
    """Return the SHA-256 of the first bytes of an item as they are stored."""
    found = hashlib.sha256()
    with opened_bytes(path) as stream:
        while count > 0 and (block := stream.read(min(count, CHUNK_BYTES))):
            found.update(block)
            count -= len(block)
    return found


def bytes_at(path: str, offset: int, count: int) -> bytes:
    """Return some of the bytes of an item as they are stored."""
    with opened_bytes(path) as stream:
        stream.seek(offset)
        return _filled(stream, count)


def bytes_around(path: str, count: int) -> tuple[bytes, bytes]:
    """Return the end of an item's first bytes and what follows them, unpacked: some bytes of each.

    Both are empty where there are none. Of a packed item the beginning must have been one.
    """
    codec = codec_of(path)
    if codec is None:
        begin = max(count - AROUND_BYTES, 0)
        around = bytes_at(path, begin, count - begin + AROUND_BYTES)
        return around[: count - begin], around[count - begin :]
    with opened_bytes(path) as raw:
        before = b""
        beginning = _unpacked(_First(raw, count), codec)
        while block := beginning.read(CHUNK_BYTES):
            before = (before + block)[-AROUND_BYTES:]
        raw.seek(count)
        return before, _filled(_unpacked(_Raw(raw), codec), AROUND_BYTES)


def _unpacked(stream: Stream, codec: str) -> Stream:
    if codec == "xz":
        return _Xz(stream)
    return cast("Stream", pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), codec))


def _filled(stream: Stream, size: int) -> bytes:
    """Read until a block is full: one read may give less."""
    pieces = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Raw:
    """What pyarrow takes for a file."""

    closed = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)

    def close(self) -> None:
        """Do nothing: the caller that opened the stream closes it."""


class _First(_Raw):
    """Ends after a given number of bytes."""

    def __init__(self, stream: Stream, left: int) -> None:
        super().__init__(stream)
        self._left = left

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


class _Xz:
    """Unpacks what Arrow cannot. Raises OSError for what is damaged, as Arrow does."""

    def __init__(self, stream: Stream) -> None:
        self._file = lzma.LZMAFile(cast("Any", stream))  # noqa: SIM115  (closed by its opener)

    def read(self, size: int, /) -> bytes:
        try:
            return self._file.read(size)
        except (lzma.LZMAError, EOFError) as error:
            raise OSError(f"xz: {error}") from error


class _Hashing(_Raw):
    """Passes bytes on and hashes them."""

    def __init__(self, stream: Stream, found: Any) -> None:
        super().__init__(stream)
        self._found = found

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._found.update(data)
        return data


class _Ascii:
    """Makes of each byte above 127, which ASCII has not, one that is never UTF-8."""

    _TABLE = bytes(range(128)) + b"\xff" * 128

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        return data if data.isascii() else data.translate(self._TABLE)


class _WithoutMark:
    """Skips the byte order mark that some programs write before UTF-8."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._begun = False

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        if not self._begun:
            self._begun = True
            if data.startswith(BOM):
                return data[len(BOM) :] or self._stream.read(size)
        return data


class _Transcoded:
    """Turns another encoding into UTF-8."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(BROKEN)
        self._ended = False
        self._over = b""

    def read(self, size: int, /) -> bytes:
        while not self._over and not self._ended:
            data = self._stream.read(size)
            self._ended = not data
            text = self._decoder.decode(data, final=self._ended)
            self._over = text.encode("utf-8", "surrogateescape")
        # UTF-8 may be longer than what it was made from.
        data, self._over = self._over[:size], self._over[size:]
        return data
