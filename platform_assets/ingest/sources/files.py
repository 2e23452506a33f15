"""Find files and their versions, and add the columns of their paths: the same for all kinds."""

from __future__ import annotations

import glob
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar
from urllib.parse import unquote

import polars as pl
from fsspec.utils import glob_translate

from lakebed.ingest.sources.isolation import isolated
from lakebed.ingest.sources.places import (
    UNREADABLE,
    Found,
    found_files,
    is_url,
    member_version,
    members,
    split_member,
    split_pattern,
    version_of,
)
from lakebed.ingest.sources.reader import Batch, Reader, SourceError, SourceItem
from lakebed.spec.sources import Files

SECONDS_BETWEEN_LISTINGS = 60
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class FoundFiles(Reader):
    """The part of a reader that is the same for all that lies in files.

    suffixes: of the files that are taken from a folder; without any, a folder has no items.
    archives: whether the members of a .zip are items.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    archives: ClassVar[bool] = False

    def __init__(self, pattern: str, data: Path) -> None:
        """Look for pattern, relative to data unless absolute or a URL."""
        self._pattern = pattern
        self._data = data
        self._doubled: set[str] = set()

    def find(self) -> list[SourceItem]:
        """Return the files, by name. Raises SourceError where a store cannot be listed."""
        return self._found(found_files)

    def glance(self) -> list[SourceItem]:
        """Return the files; those of an object store as they were within the last minute.

        A store asks money for each listing, and is slower than a disk.
        """
        if not is_url(self.place):
            return self.find()
        now = int(monotonic() // SECONDS_BETWEEN_LISTINGS)
        return self._found(lambda place, suffixes: _listed_lately(place, suffixes, now))

    def _found(
        self, files_of: Callable[[str, tuple[str, ...]], Iterable[Found]]
    ) -> list[SourceItem]:
        """Return the items of the place; behind a .zip the members of that name, or pattern."""
        archive, member = split_pattern(self.place) if self.archives else (self.place, None)
        if member is None:
            return self._items(files_of(self.place, self.suffixes))
        matches = re.compile(glob_translate(member)).match
        within = [
            item
            for item in self._items(files_of(archive, ()))
            # An archive that cannot be opened is named by its reading.
            if (name := split_member(item.path)[1]) is None or matches(name)
        ]
        if is_url(archive):
            return within
        # A folder may be called so, too.
        return [*self._items(files_of(self.place, self.suffixes)), *within]

    def check_unchanged(self, item: SourceItem) -> None:
        """Make sure that a file is still at the version that was found. Raises SourceError."""
        if version_of(item.path) != item.version:
            raise SourceError(
                item.path,
                "it changed while it was read; write a file under another name and rename it when "
                "it is complete",
            )

    def _items(self, files: Iterable[Found]) -> list[SourceItem]:
        items: list[SourceItem] = []
        # A glob with ** in it twice finds a file on each way that there is to it.
        for found in dict.fromkeys(files):
            if self.archives and found.path.lower().endswith(".zip"):
                items += self._members(found)
            else:
                items.append(self._item(found))
        return items

    @property
    def place(self) -> str:  # type: ignore[override]
        """Where the files are looked for: a path, a folder, a glob or a URL."""
        pattern = self._pattern.removeprefix("file://")
        if is_url(pattern) or Path(pattern).is_absolute():
            return pattern
        return str(Path(glob.escape(str(self._data))) / pattern)

    def _item(self, found: Found) -> SourceItem:
        name = found.path
        if not is_url(name) and Path(name).is_relative_to(self._data):
            name = Path(name).relative_to(self._data).as_posix()
        return SourceItem(found.path, found.version, found.size, name, found.modified)

    def _members(self, found: Found) -> Iterator[SourceItem]:
        archive = self._item(found)
        try:
            with isolated(found.path, "listing it"):
                infos = members(found.path, found.version)
        except SourceError:
            yield archive  # it is no .zip: reading it says so, and the other files go on
            return
        by_name = {info.filename: info for info in infos}
        for name, count in Counter(info.filename for info in infos).items():
            if count > 1:
                self._doubled.add(f"{archive.path}/{name}")
        for info in by_name.values():
            yield SourceItem(
                f"{archive.path}/{info.filename}",
                member_version(info),
                info.file_size,
                f"{archive.name}/{info.filename}",
                found.modified,
            )


class FileReader(FoundFiles):
    """Reads files of one kind, with the columns of their paths."""

    def __init__(self, source: Files, data: Path) -> None:
        """Read the files of source, relative to data unless absolute or URLs."""
        super().__init__(source.glob, data)
        self._files = source

    def columns(self, item: SourceItem) -> list[str]:
        """Return the names of a file's columns and those of its path. Raises SourceError."""
        if item.path in self._doubled:
            raise SourceError(
                item.path, "several members of the .zip have this name; deliver it with one of them"
            )
        if item.version.startswith(UNREADABLE):
            problem = os.strerror(int(item.version.removeprefix(UNREADABLE)))
            raise SourceError(item.path, f"it cannot be read: {problem}; correct its permissions")
        names = [name for name in self._names(item) if name not in self._files.hive]
        return [*names, *self._hive_values(item)]

    def types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the types of a file's columns; those of its path are text. Raises SourceError."""
        return self._types(item) | dict.fromkeys(self._files.hive)

    def batches(
        self, item: SourceItem, *, columns: list[str], newer: tuple[str, Any] | None = None
    ) -> Iterator[Batch]:
        """Yield the rows, with the columns of the path."""
        if newer is not None and newer[0] in self._files.hive:
            newer = None
        return self._with_path(item, columns, lambda own: self._rows(item, own, newer))

    def _with_path(
        self,
        item: SourceItem,
        columns: list[str],
        rows: Callable[[list[str]], Iterator[Batch]],
    ) -> Iterator[Batch]:
        """Yield rows with the columns of the path. rows: called with the file's own columns."""
        hive = {name: value for name, value in self._hive_values(item).items() if name in columns}
        own = [name for name in columns if name not in hive]
        constants = [pl.lit(value, pl.String).alias(name) for name, value in hive.items()]

        def completed(batch: Batch) -> Batch:
            frame = batch.frame.with_columns(constants).select(columns)
            plain = batch.plain
            again = None if plain is None else lambda: completed(plain())
            return replace(batch, frame=frame, plain=again)

        yield from map(completed, rows(own)) if constants else rows(own)

    @abstractmethod
    def _names(self, item: SourceItem) -> list[str]:
        """Return the names of the columns in a file."""

    def _types(self, item: SourceItem) -> dict[str, pl.DataType | None]:
        """Return the types of the columns in a file: none, of files that hold text."""
        return dict.fromkeys(self._names(item))

    @abstractmethod
    def _rows(
        self, item: SourceItem, columns: list[str], newer: tuple[str, Any] | None
    ) -> Iterator[Batch]:
        """Yield the rows of a file."""

    def _hive_values(self, item: SourceItem) -> dict[str, str | None]:
        """Return the columns of a path, as text. Raises SourceError where one is missing."""
        if not self._files.hive:
            return {}
        path, _ = split_member(item.path)
        pairs = (part.partition("=") for part in path.split("/")[:-1] if "=" in part)
        there = {unquote(name): unquote(value) for name, _, value in pairs}
        missing = [name for name in self._files.hive if name not in there]
        if missing:
            raise SourceError(
                item.path,
                f"there is no {missing[0]}=... in its path, where hive asks for one; move it into "
                "such a folder, or narrow the glob",
            )
        values = {name: there[name] for name in self._files.hive}
        return {name: None if value == HIVE_NULL else value for name, value in values.items()}


@lru_cache(maxsize=256)
def _listed_lately(pattern: str, suffixes: tuple[str, ...], now: int) -> tuple[Found, ...]:
    """List a store; the same answer for the same minute, as a sensor asks every few seconds."""
    return tuple(found_files(pattern, suffixes))
