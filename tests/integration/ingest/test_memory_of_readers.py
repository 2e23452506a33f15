"""A file that is ten times larger takes no more memory to read."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = """
import sys
from pathlib import Path
import pandera.polars as pandera, polars
from lakebed.spec.table import ArrowFiles, CsvFiles, JsonFiles, ParquetFiles, SourceTable
from lakebed.ingest.sources import delimited, json_lines
from lakebed.ingest.sources.readers import reader_of
from lakebed.resources.settings import read_settings

class Model(pandera.DataFrameModel):
    id: polars.Int64

delimited.CSV_BLOCK_BYTES = json_lines.JSON_BLOCK_BYTES = 1 << 20
folder, name, rows = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
kind = {"csv": CsvFiles, "zip": CsvFiles, "jsonl": JsonFiles, "parquet": ParquetFiles,
        "arrow": ArrowFiles}[name.split(".")[-2] if name.endswith(".gz") else name.split(".")[-1]]
settings = read_settings({"LAKEBED_HOME": str(folder), "LAKEBED_DATA": str(folder)}, folder)
table = SourceTable(name="things", model=Model, source=kind(glob=name))
reader = reader_of(table, settings)
(item,) = reader.find()
read = sum(b.frame.height for b in reader.batches(item, columns=["id", "word", "text"]))
assert read == rows, read
# Not ru_maxrss: that begins with what the parent had.
print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])
"""
SMALL, LARGE = 120_000, 1_200_000
LONG = ("csv.gz", "zip", "jsonl.gz", "arrow")
NAMES = ["parquet", *(pytest.param(name, marks=pytest.mark.thorough) for name in LONG)]


def write(folder: Path, name: str, rows: int) -> str:
    import zipfile

    import polars as pl
    import pyarrow as pa

    file = folder / f"{rows}.{name}"
    frame = pl.DataFrame({"id": pl.int_range(rows, eager=True)}).with_columns(
        (pl.col("id") * 7919 % 100_003).cast(pl.String).alias("word"),
        pl.format("some text that makes a row longer, number {}", pl.col("id")).alias("text"),
    )
    if name == "parquet":
        frame.write_parquet(file, row_group_size=60_000)
    elif name == "arrow":
        with pa.ipc.new_file(file, frame.to_arrow().schema) as writer:
            writer.write_table(frame.to_arrow(), max_chunksize=60_000)
    elif name == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("in.csv", frame.write_csv())
    else:
        text = frame.write_ndjson() if "json" in name else frame.write_csv()
        file.write_bytes(gzip.compress(text.encode(), 1))
    return file.name


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_ten_times_larger_takes_no_more_memory_to_read(tmp_path: Path, name: str) -> None:
    peaks = []
    for rows in (SMALL, LARGE):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(tmp_path), write(tmp_path, name, rows), str(rows)],
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout))
    assert peaks[1] < 1.2 * peaks[0], peaks
