"""Name everything in one place: asset keys, PostgreSQL's tables, paths in the lake.

asset keys       source/<table>  hot/<table>  cold/<table>  <group>/<model>  exports/<name>
                 platform/health
PostgreSQL       public.<table>, its partition tables public.<table>_<key with _>
lake             <table>/year=2024/month=01/day=05/<table>_2024_01_05_g0001.parquet
                 <table>/<table>_g0001.parquet, the lake copy of a table without partitioning
                 <group>/<model>/<model>_g0001.parquet, <model>_f0001.parquet of an incremental one
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from lakebed.spec.partitions import Grain, Window, window_for_key

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

_HIVE_LEVELS = {
    Grain.HOUR: (("year", "%Y"), ("month", "%m"), ("day", "%d"), ("hour", "%H")),
    Grain.DAY: (("year", "%Y"), ("month", "%m"), ("day", "%d")),
    Grain.WEEK: (("year", "%Y"), ("month", "%m"), ("day", "%d")),
    Grain.MONTH: (("year", "%Y"), ("month", "%m")),
    Grain.YEAR: (("year", "%Y"),),
}
_COLD_FILE = re.compile(r"(?P<table>[a-z][a-z0-9_]*?)_(?P<key>\d{4}(_\d\d){0,3})_g(?P<gen>\d{4,})")


_LAKE_COPY = re.compile(r"(?P<table>[a-z][a-z0-9_]*)_g(?P<gen>\d{4,})")


def is_name(text: str) -> bool:
    """Whether the text may name a table or a model, in SQL, paths and keys alike."""
    return NAME.fullmatch(text) is not None


def source_key(table: str) -> list[str]:
    """Return the asset key of a table's source."""
    return ["source", table]


def hot_key(table: str) -> list[str]:
    """Return the asset key of a table's hot tier."""
    return ["hot", table]


def cold_key(table: str) -> list[str]:
    """Return the asset key of a table's cold tier."""
    return ["cold", table]


def export_key(name: str) -> list[str]:
    """Return the asset key of an export."""
    return ["exports", name]


def health_key() -> list[str]:
    """Return the asset key of the health report of the whole platform."""
    return ["platform", "health"]


def partition_table_name(table: str, window: Window) -> str:
    """Return the name of the partition table of a window."""
    return f"{table}_{window.key.replace('-', '_')}"


@dataclass(frozen=True)
class ColdFileName:
    """The parts of a cold file's path."""

    table: str
    window: Window
    generation: int


def cold_path(name: ColdFileName, columns: Collection[str] = ()) -> PurePosixPath:
    """Return the path of a generation of a partition, relative to the lake.

    Args:
        name: Table, window and generation.
        columns: The table's columns. Where one has the name of a hive level (year, month, ...), the
            levels become lake_year, lake_month, ...: engines would otherwise read the folder's
            value instead of the column's.
    """
    levels = _HIVE_LEVELS[name.window.grain]
    prefix = "lake_" if {level for level, _ in levels} & set(columns) else ""
    folders = [f"{prefix}{level}={name.window.lower.strftime(form)}" for level, form in levels]
    stem = f"{partition_table_name(name.table, name.window)}_g{name.generation:04d}"
    return PurePosixPath(name.table, *folders, f"{stem}.parquet")


def parse_cold_path(path: PurePosixPath, grain: Grain) -> ColdFileName:
    """Return the parts of a cold file's path. Raises ValueError for any other path."""
    found = _COLD_FILE.fullmatch(path.stem)
    if found is None or path.suffix != ".parquet":
        raise ValueError(f"{path} is not the path of a cold file")
    window = window_for_key(grain, found["key"].replace("_", "-"))
    return ColdFileName(found["table"], window, int(found["gen"]))


def lake_copy_path(table: str, generation: int) -> PurePosixPath:
    """Return the path of a lake copy of a table, relative to the lake."""
    return PurePosixPath(table, f"{table}_g{generation:04d}.parquet")


def parse_lake_copy_path(path: PurePosixPath) -> tuple[str, int]:
    """Return table and generation of a lake copy. Raises ValueError for any other path."""
    found = _LAKE_COPY.fullmatch(path.stem)
    if found is None or lake_copy_path(found["table"], int(found["gen"])) != path:
        raise ValueError(f"{path} is not the path of a lake copy")
    return found["table"], int(found["gen"])


def model_path(group: str, model: str, generation: int) -> PurePosixPath:
    """Return the path of a generation of a materialized model, relative to the lake."""
    return PurePosixPath(group, model, f"{model}_g{generation:04d}.parquet")


def model_file_path(group: str, model: str, number: int) -> PurePosixPath:
    """Return the path of one file of an incremental model, relative to the lake."""
    return PurePosixPath(group, model, f"{model}_f{number:04d}.parquet")
