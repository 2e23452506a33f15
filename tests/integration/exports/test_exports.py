"""Tables and models as files: what is in them, in what order, and what stays when one fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from lakebed.exports.target import ExportFailedError
from lakebed.exports.write import Exported, stream_export, write_export
from lakebed.ingest.load import load_table
from lakebed.models.runner import build
from lakebed.spec.export import Csv, Export, ExportError
from lakebed.store.platform import Platform, open_platform
from tests.conftest import Server, open_folder, settings_for
from tests.support.checkout import ROOT
from tests.support.processes import move_key

START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 3000
MODELS = {
    "marts/odd.sql": (
        "-- One row of each type that a file might damage.\n"
        "{{ config(materialized='view') }}\n"
        "select * from (values\n"
        "    (1, '', null, '\\xAA\\x00'::blob, [1, null], {'a': 'x,\"y'},\n"
        "     170141183460469231731::hugeint,\n"
        "     timestamptz '2024-01-01 02:00:00+02', timestamp '2024-01-01 00:00:00.5'),\n"
        "    (2, null, 'a,\"b\"\nc', null, [], null, 1, 'infinity', null)\n"
        ") t (i, empty, text, bytes, list, struct, huge, moment, naive)"
    ),
    "marts/types.sql": (
        "{{ config(materialized='table') }}\n"
        "select interval '2000 hours 0.123456 seconds' as took, '12:00:00+05:30'::timetz as begins,"
        " 'b'::enum('b', 'a') as mood, [1::hugeint] as totals, '0101'::bit as flags,"
        " timestamp_s '2024-01-01 00:00:01' as second"
    ),
    "marts/refused.sql": (
        "select 1 as n, 42::variant as odd,"
        " 170141183460469231731687303715884105727::hugeint as large"
    ),
    "marts/by_month.sql": (
        "-- Readings a month.\n"
        "{{ config(materialized='table') }}\n"
        "select date_trunc('month', \"at\") as month, count(*) as readings\n"
        "from {{ source('lakebed', 'readings') }} group by all"
    ),
    "marts/endless.sql": (
        "{{ config(materialized='view') }}\n"
        "select i * j as n from range(1000000000) a (i), range(1000) b (j) where i * j % 7 = 3"
    ),
    "marts/some.sql": "select range as i, md5(range::varchar) as digest from range(200000)",
    "marts/many.sql": "select range as i, md5(range::varchar) as digest from range(3000000)",
    "marts/bytes.sql": "select '\\xFF\\x00'::blob as b, range as i from range(60)",
    "marts/zeros.sql": (
        "{{ config(materialized='view') }}\n"
        "select case when range % 2 = 0 then -0.0 else 0.0 end::double as zero from range(5000)"
    ),
}


@pytest.fixture(scope="module")
def platform(server: Server, migrated: str) -> Iterator[Platform]:
    """Readings and accounts in both tiers, and models; nothing here changes them."""
    name = server.create(migrated)
    with open_folder() as home:
        for path, text in MODELS.items():
            (home / "models" / path).parent.mkdir(parents=True, exist_ok=True)
            (home / "models" / path).write_text(text)
        settings = settings_for(home, server.url_of(name), LAKEBED_MODELS=str(home / "models"))
        platform = open_platform(settings)
        numbers = range(ROWS)
        (settings.data / "readings").mkdir(parents=True)
        pl.DataFrame(
            {
                "at": [START + timedelta(hours=i % 1500) for i in numbers],
                "sensor": ["b" if i % 3 else "a" for i in numbers],
                "value": [i / 7 for i in numbers],
                "number": [i % 40 for i in numbers],
            },
            schema_overrides={"at": pl.Datetime("us", "UTC"), "number": pl.Int64},
        ).write_parquet(settings.data / "readings" / "r.parquet")
        (settings.data / "accounts").mkdir()
        lines = [
            f"2024-0{1 + i % 3}-05T00:00:00Z,{i},owner {i},{i}.50,2024-01-05T00:00:00Z"
            for i in range(50)
        ]
        text = "\n".join(["opened,id,owner,balance,changed", *lines]) + "\n"
        (settings.data / "accounts" / "a.csv").write_text(text)
        for table in ("readings", "accounts"):
            load_table(settings, platform.postgres, platform.clock, platform.table(table))
            move_key(platform, table, "2024-01")
        assert not [r.error for r in build(platform) if r.error]
        yield platform
    server.drop(name)


@pytest.fixture
def out(tmp_path: Path, platform: Platform) -> Callable[..., Path]:
    """Export something to a file of this test."""

    def export(of: str, file: str = "out.csv", **more: Any) -> Path:
        path = tmp_path / file
        write_export(platform, Export(name="it", of=of, path=str(path), **more))
        return path

    return export


def rows_of(path: Path) -> list[tuple[Any, ...]]:
    return duckdb.sql(f"from '{path}'").fetchall()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_repeated_bytes_are_found_in_a_model_and_in_what_is_exported_of_it(
    platform: Platform, out: Callable[..., Path]
) -> None:
    found = "select count(*) from {} where b = '\\xFF\\x00'::blob"
    with platform.lake.session() as session:
        assert session.sql(found.format("bytes")).fetchall() == [(60,)]
    file = out("bytes", "bytes.parquet")
    assert duckdb.sql(found.format(f"'{file}'")).fetchall() == [(60,)]


def test_a_table_is_written_once_from_both_tiers_in_the_order_of_time_and_key(
    out: Callable[..., Path], platform: Platform
) -> None:
    lines = out("accounts").read_text().splitlines()
    assert lines[:3] == [
        "opened,id,owner,balance,changed",
        "2024-01-05T00:00:00.000000Z,0,owner 0,0.50,2024-01-05T00:00:00.000000Z",
        "2024-01-05T00:00:00.000000Z,3,owner 3,3.50,2024-01-05T00:00:00.000000Z",
    ]
    keys = [(line.split(",")[0], int(line.split(",")[1])) for line in lines[1:]]
    assert keys == sorted(keys)
    assert len(set(keys)) == 50


@pytest.mark.parametrize("file", ["out.csv", "out.csv.gz", "out.parquet"])
def test_the_same_data_give_the_same_bytes_with_any_number_of_threads(
    file: str, out: Callable[..., Path], platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for threads in (1, 2, 4):
        make_readable = type(platform.lake.files).make_readable

        def with_threads(
            files: Any, connection: Any, n: int = threads, to: Any = make_readable
        ) -> None:
            to(files, connection)
            connection.execute(f"set threads = {n}")

        with monkeypatch.context() as patch:
            patch.setattr(type(platform.lake.files), "make_readable", with_threads)
            path = out("readings", file)
            found.add(digest(path))
            path.unlink()
            out("zeros", f"zeros_{file}")
    assert len(found) == 1


def test_rows_that_move_to_the_lake_change_no_byte(
    out: Callable[..., Path], platform: Platform
) -> None:
    before = digest(out("readings", "before.csv"))
    move_key(platform, "readings", "2024-02")
    assert digest(out("readings", "after.csv")) == before


def test_columns_rows_and_order_are_those_that_are_asked_for(out: Callable[..., Path]) -> None:
    path = out(
        "readings",
        columns=("number", "sensor"),
        where="number < 2 -- or so",
        order_by=("sensor desc", "number"),
    )
    lines = path.read_text().splitlines()
    assert lines[0] == "number,sensor"
    assert len(lines) == 1 + ROWS // 20
    assert lines[1:] == sorted(lines[1:], key=lambda line: (-ord(line[2]), line[0]))


def test_nothing_that_csv_could_confuse_is_confused(out: Callable[..., Path]) -> None:
    assert out("odd").read_text() == (
        "i,empty,text,bytes,list,struct,huge,moment,naive\n"
        '1,"",,\\xaa00,"[1,null]","{""a"":""x,\\""y""}",170141183460469231731,'
        "2024-01-01T00:00:00.000000Z,2024-01-01T00:00:00.500000\n"
        '2,,"a,""b""\nc",,[],,1,infinity,\n'
    )
    csv = Csv(delimiter="\t", header=False, null="NULL")
    text = out("odd", "tab.csv", csv=csv, columns=("i", "empty", "text")).read_text()
    assert text == '1\t\tNULL\n2\tNULL\t"a,""b""\nc"\n'


def test_null_and_the_empty_string_come_back_apart(out: Callable[..., Path]) -> None:
    path = out("odd", columns=("i", "empty"))
    read = duckdb.read_csv(path.as_posix(), all_varchar=True, allow_quoted_nulls=False)
    assert read.fetchall() == [("1", ""), ("2", None)]


def test_parquet_keeps_types_and_large_integers(out: Callable[..., Path]) -> None:
    path = out("odd", "odd.parquet")
    kinds = dict(row[:2] for row in duckdb.sql(f"describe from '{path}'").fetchall())
    assert kinds["list"] == "INTEGER[]"
    assert kinds["huge"] == "DECIMAL(38,0)"
    assert rows_of(path)[0][6] == 170141183460469231731


def test_several_tables_and_models_go_into_one_duckdb_file_that_needs_nothing_else(
    tmp_path: Path, platform: Platform
) -> None:
    path = tmp_path / "all.duckdb"
    names = ("readings", "accounts", "by_month")
    done = write_export(platform, Export(name="it", of=names, path=str(path)))
    assert done.rows == ROWS + 50 + 3
    with duckdb.connect(str(path), read_only=True) as file:
        tables = dict(file.sql("from lakebed_export").fetchall())
        assert tables == {"readings": ROWS, "accounts": 50, "by_month": 3}
        assert file.sql("select count(*) from duckdb_views() where not internal").fetchall() == [
            (0,)
        ]
        first = file.sql("select id from accounts limit 2").fetchall()
        assert first == [(0,), (3,)]
    write_export(platform, Export(name="it", of="by_month", path=str(path)))
    with duckdb.connect(str(path), read_only=True) as file:
        assert file.sql("select table_name from duckdb_tables() order by 1").fetchall() == [
            ("by_month",),
            ("lakebed_export",),
        ]
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_without_rows_is_a_header_alone(out: Callable[..., Path]) -> None:
    assert out("readings", where="false").read_text() == "at,sensor,value,number\n"
    assert gzip.decompress(out("readings", "none.csv.gz", where="false").read_bytes()) == (
        b"at,sensor,value,number\n"
    )
    assert rows_of(out("readings", "none.parquet", where="false")) == []


def test_standard_output_takes_csv(platform: Platform) -> None:
    stream = io.BytesIO()
    rows = stream_export(platform, Export(name="it", of="by_month", path="-", format="csv"), stream)
    assert rows == 3
    assert stream.getvalue().splitlines()[1] == b"2024-01-01T00:00:00.000000Z,1488"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"of": "reading"}, "unknown table or built model 'reading'. Did you mean 'readings'?"),
        ({"columns": ("sensr",)}, "columns: unknown column of readings 'sensr'. Did you mean"),
        (
            {"order_by": ("zzz desc",)},
            "order_by: unknown column of readings 'zzz'. Expected one of",
        ),
    ],
    ids=["table", "column", "order"],
)
def test_what_is_not_there_is_named_with_what_is_near(
    more: dict[str, Any], said: str, out: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="export 'it'") as error:
        out(**({"of": "readings"} | more))
    assert said in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_condition_that_is_wrong_leaves_the_old_file(
    out: Callable[..., Path], tmp_path: Path
) -> None:
    old = out("by_month", where="readings > 0").read_text()
    for wrong in ("readings > 'many'", "nope = 1", "error('half way') is null"):
        with pytest.raises((ExportFailedError, ExportError)):
            out("by_month", where=wrong)
    assert (tmp_path / "out.csv").read_text() == old
    assert list(tmp_path.iterdir()) == [tmp_path / "out.csv"]


def test_what_is_no_export_is_not_written_over(
    out: Callable[..., Path], tmp_path: Path, platform: Platform
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "binary.csv").write_bytes(b"SQLite format 3\0")
    (tmp_path / "text.parquet").write_text("notes")
    (tmp_path / "program.py").write_text("print(1)")
    duckdb.connect(str(tmp_path / "mine.duckdb")).close()
    os.mkfifo(tmp_path / "fifo.csv")
    for name, said in {
        "folder.csv": "is a folder",
        "binary.csv": "is not an export as csv",
        "text.parquet": "is not an export as parquet",
        "mine.duckdb": "is not an export as duckdb",
        "fifo.csv": "is not a regular file",
        "no/such/x.csv": "does not exist",
    }.items():
        with pytest.raises(ExportError, match=said):
            out("by_month", name)
    with pytest.raises(ExportError, match="is not an export as csv"):
        out("by_month", "program.py", format="csv")
    (platform.settings.home / "lake" / "mine").mkdir(exist_ok=True)
    inside = platform.settings.home / "lake" / "mine" / "x.parquet"
    for path in (str(inside), inside.as_uri()):
        with pytest.raises(ExportError, match=r"which Lakebed uses|lies in the lake"):
            write_export(platform, Export(name="it", of="by_month", path=path))


def test_two_exports_to_one_file_are_not_mixed(out: Callable[..., Path], tmp_path: Path) -> None:
    program = (
        "import fcntl, os, sys; os.mkdir(sys.argv[1]); folder = os.open(sys.argv[1], os.O_RDONLY);"
        "fcntl.flock(folder, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    held = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / ".out.csv.part")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert held.stdout
    held.stdout.readline()
    with pytest.raises(ExportError, match="Another export is writing to"):
        out("by_month")
    held.communicate(b"\n")
    assert out("by_month").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "out.csv"]


def lakebed(platform: Platform, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LAKEBED_")}
    return subprocess.Popen(
        [sys.executable, "-m", "lakebed.cli", "export", *arguments],
        env=environ | platform.settings.environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.thorough_but("15")
def test_who_is_stopped_leaves_the_old_file_and_nothing_in_the_way(
    number: signal.Signals, platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old\n")
    process = lakebed(platform, "endless", "--no-order", "--output", str(path))
    deadline = time.monotonic() + 60
    part = tmp_path / ".out.csv.part" / "out.csv"
    while not part.exists() or not part.stat().st_size:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert path.read_text() == "old\n"
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        write_export(platform, Export(name="it", of="by_month", path=str(path)))
    else:
        assert process.returncode == 130, said
        assert b"stopped" in said
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_is_said_and_the_old_file_stays(
    platform: Platform, tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old\n")

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    process = lakebed(
        platform, "readings", "--output", str(path), "--no-order", preexec_fn=small_disk
    )
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"error: {path} could not be written".encode() in said
    assert b"The old file is unchanged" in said
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_writes_to_files_and_pipes(platform: Platform, tmp_path: Path) -> None:
    path = tmp_path / "out.csv.gz"
    done = lakebed(
        platform, "by_month", "--output", str(path), "--json", "--order-by", "month desc"
    )
    out, said = done.communicate(timeout=60)
    assert done.returncode == 0, said
    (told,) = json.loads(out)
    assert (told["rows"], told["bytes"]) == (3, path.stat().st_size)
    assert gzip.decompress(path.read_bytes()).splitlines()[1].startswith(b"2024-03-01T")
    done = lakebed(platform, "readings", "--output", "-")
    assert done.stdout
    assert done.stdout.readline() == b"at,sensor,value,number\n"
    done.stdout.close()  # as head does
    assert done.wait(timeout=60) == 0


def test_an_object_store_takes_the_whole_file(platform: Platform) -> None:
    import fsspec

    done: Exported = write_export(
        platform, Export(name="it", of="by_month", path="memory://exports/by_month.parquet")
    )
    stored = fsspec.filesystem("memory").cat("/exports/by_month.parquet")
    assert done.bytes == len(stored)
    assert stored.startswith(b"PAR1")


CSV_IN = {
    "full": b'id,name\n1,""\n2,\n3,"a,b"\n',
    "header alone": b"id,name\n",
    "empty": b"",
}


@pytest.mark.parametrize("name", CSV_IN)
@pytest.mark.parametrize("file", ["in.csv", "in.csv.gz"])
def test_csv_goes_into_the_lake_by_a_model_and_comes_out_as_it_was(
    name: str, file: str, tmp_path: Path, platform_of: Callable[..., Platform]
) -> None:
    given = CSV_IN[name]
    source = tmp_path / file
    source.write_bytes(gzip.compress(given) if file.endswith(".gz") else given)
    (tmp_path / "models" / "staging").mkdir(parents=True)
    (tmp_path / "models" / "staging" / "raw.sql").write_text(
        "{{ config(materialized='table') }}\n"
        f"from read_csv('{source}', columns = {{'id': 'BIGINT', 'name': 'VARCHAR'}},\n"
        "    auto_detect = false, header = true, allow_quoted_nulls = false)"
    )
    plain = platform_of()
    platform = replace(plain, settings=replace(plain.settings, models=tmp_path / "models"))
    (built,) = build(platform)
    assert built.error is None
    out = tmp_path / f"out{file[2:]}"
    write_export(platform, Export(name="it", of="raw", path=str(out)))
    read = gzip.decompress(out.read_bytes()) if file.endswith(".gz") else out.read_bytes()
    assert read == (given or CSV_IN["header alone"])


PROBE = """
import sys
from pathlib import Path
from lakebed.spec.export import Export
from lakebed.exports.write import write_export
from lakebed.store.platform import open_platform
from lakebed.resources.lake_files import LakeFiles
from lakebed.resources.settings import read_settings

platform = open_platform(read_settings())
kind = type(platform.lake.files)
readable = kind.make_readable

def small(files, connection):
    readable(files, connection)
    connection.execute("set memory_limit = '150MB'; set threads = 1")

kind.make_readable = small
of, path = sys.argv[1:]
rows = write_export(platform, Export(name="it", of=of, path=path)).rows
print(rows, Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the peak")
def test_what_is_larger_than_memory_is_put_in_order_all_the_same(
    platform: Platform, tmp_path: Path
) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LAKEBED_")}
    peaks = []
    for of, rows in (("some", 200_000), ("many", 3_000_000)):
        path = tmp_path / f"{of}.csv"
        done = subprocess.run(
            [sys.executable, "-c", PROBE, of, str(path)],
            env=environ | platform.settings.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        count, peak = map(int, done.stdout.split())
        assert count == rows
        peaks.append(peak)
    assert path.stat().st_size > 100_000_000
    assert peaks[1] < peaks[0] + 200_000, peaks
    spilt = [p for p in platform.lake.files.spill.iterdir() if p.is_dir()]
    assert spilt == []


def test_a_type_that_parquet_lacks_is_written_in_a_form_that_holds_its_value(
    platform: Platform, out: Callable[..., Path]
) -> None:
    with platform.lake.session() as session:
        given = session.sql("select columns(*)::varchar from types").fetchall()
    with duckdb.connect() as connection:
        relation = connection.sql(f"from '{out('types', 'types.parquet')}'")
        assert relation.select("columns(*)::varchar").fetchall() == given
        assert dict(zip(relation.columns, map(str, relation.types), strict=True)) == {
            "took": "VARCHAR",
            "begins": "VARCHAR",
            "mood": "VARCHAR",
            "totals": "DECIMAL(38,0)[]",
            "flags": "VARCHAR",
            "second": "TIMESTAMP",
        }


def test_a_column_that_parquet_cannot_hold_is_refused_by_name(
    platform: Platform, out: Callable[..., Path]
) -> None:
    with pytest.raises(ExportError, match="'odd'"):
        out("refused", "refused.parquet")
    with pytest.raises(ExportFailedError, match="'large'"):
        out("refused", "refused.parquet", columns=("n", "large"))
    assert out("refused", "refused.parquet", columns=("n",)).exists()
