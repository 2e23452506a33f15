"""Files that match a glob on local disk: found, told apart by size and modification time."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path

from platform_assets.ingest.sources.reader import Reader, SourceError, SourceItem


class FileReader(Reader):
    """The part of a reader that is the same for all files."""

    def __init__(self, pattern: str, data: Path) -> None:
        """Look for pattern, relative to data unless absolute."""
        self._pattern = pattern
        self._data = data

    def find(self) -> list[SourceItem]:
        """Return the files, by name. A file that vanishes meanwhile is left out."""
        pattern = str(Path(glob.escape(str(self._data))) / self._pattern)
        found = []
        for name in sorted(glob.glob(pattern, recursive=True)):  # noqa: PTH207  (may be absolute)
            path = Path(name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            if path.is_file():
                inside = path.is_relative_to(self._data)
                label = path.relative_to(self._data).as_posix() if inside else str(path)
                found.append(SourceItem(str(path), version_of(stat), stat.st_size, label))
        return found

    def check_unchanged(self, item: SourceItem) -> None:
        """Make sure that a file is still at the version that was found. Raises SourceError."""
        try:
            version = version_of(Path(item.path).stat())
        except FileNotFoundError:
            version = "gone"
        if version != item.version:
            raise SourceError(
                item.path, "it changed while it was read; deliver files beside and rename them"
            )

    def digest(self, item: SourceItem, count: int) -> str:
        """Return the SHA-256 of the first bytes of a file, in hex."""
        found = hashlib.sha256()
        with Path(item.path).open("rb") as stream:
            while count > 0 and (block := stream.read(min(count, 1 << 20))):
                found.update(block)
                count -= len(block)
        return found.hexdigest()

    def read_at(self, item: SourceItem, offset: int, count: int) -> bytes:
        """Return some bytes of a file."""
        with Path(item.path).open("rb") as stream:
            stream.seek(offset)
            return stream.read(count)


def version_of(stat: os.stat_result) -> str:
    """Return what tells a file from an earlier one of its name: size and modification time."""
    return f"{stat.st_size}-{stat.st_mtime_ns}"
