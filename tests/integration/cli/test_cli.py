"""The command `lakebed` over the demo's real data, on a real PostgreSQL."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from lakebed.cli import main as cli
from lakebed.demo.demo_files import write_demo_files
from lakebed.resources.settings import read_settings
from lakebed.store.platform import open_platform
from tests.conftest import Server, open_folder
from tests.support.checkout import ROOT

FLIGHTS = 336_776
COUNT = "select count(*) as n from flights"
BUSIEST = "select carrier, count(*) n from flights group by 1 order by 2 desc limit 1"
PASSWORD = "geheim-2013"  # noqa: S105  (the server of the tests asks for none)


@dataclass
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


STANDING = "the clock of this home stands still"


@dataclass
class Lakebed:
    """The command, run in this process on a home and a database of its own."""

    home: Path
    url: str
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> Said:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main(list(arguments))
            sys.exit(0)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in err
        err = "".join(line for line in err.splitlines(True) if not line.startswith(STANDING))
        return Said(int(ended.value.code or 0), out, err)

    def rows(self, query: str) -> list[dict[str, object]]:
        """Return what a query gives as JSON."""
        said = self("sql", query, "--format", "json")
        assert said.code == 0, said.err
        found: list[dict[str, object]] = json.loads(said.out)
        return found


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    """The demo's source files; not to be changed."""
    with open_folder() as folder:
        write_demo_files(folder)
        yield folder


@pytest.fixture
def empty(
    server: Server,
    migrated: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Lakebed]:
    """The command on a platform into which nothing was loaded yet."""
    yield from _lakebed(server, migrated, data, monkeypatch, capsys)


@pytest.fixture(scope="module")
def loaded(server: Server, migrated: str, data: Path) -> Iterator[tuple[str, Path]]:
    """The database into which all five tables were loaded, and the lake that goes with it."""
    name = server.create(migrated)
    with open_folder() as home:
        environment = os.environ | _environment(home, server.url_of(name), data)
        subprocess.run(
            [sys.executable, "-m", "lakebed.cli", "load", "--all"],
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
        yield name, home / "lake"
    server.drop(name)


@pytest.fixture
def lakebed(
    server: Server,
    loaded: tuple[str, Path],
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Lakebed]:
    """The command on a platform into which all five tables were loaded."""
    yield from _lakebed(server, loaded[0], data, monkeypatch, capsys, lake=loaded[1])


def _lakebed(
    server: Server,
    template: str,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    lake: Path | None = None,
) -> Iterator[Lakebed]:
    name = server.create(template)
    url = server.url_of(name).replace("postgres:@", f"postgres:{PASSWORD}@")
    assert PASSWORD in url
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with open_folder() as home:
        for setting, value in _environment(home, url, data).items():
            monkeypatch.setenv(setting, value)
        if lake is not None:
            shutil.copytree(lake, home / "lake")
            open_platform(read_settings()).lake.owner.claim()
        yield Lakebed(home, url, capsys)
    server.drop(name)


def _environment(home: Path, url: str, data: Path) -> dict[str, str]:
    return {
        "LAKEBED_HOME": str(home),
        "LAKEBED_POSTGRES_URL": url,
        "LAKEBED_DATA": str(data),
        "LAKEBED_CLOCK": "2013-12-31T00:00:00+00:00",
    }


def own_data(lakebed: Lakebed, data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the platform source files that may be changed; return their folder."""
    mine = lakebed.home / "data"
    shutil.copytree(data, mine)
    monkeypatch.setenv("LAKEBED_DATA", str(mine))
    return mine


def test_a_load_reports_each_table_and_a_second_one_says_nothing_new(empty: Lakebed) -> None:
    first = empty("load", "--all")
    assert first.code == 0
    lines = {line.split()[0]: line.split()[1:] for line in first.out.splitlines()}
    # Counts that are zero for every table are left out.
    flights = dict(zip(lines["table"], lines["flights"], strict=False))
    weather = dict(zip(lines["table"], lines["weather"], strict=False))
    assert (flights["files"], flights["read"], flights["inserted"]) == ("12", "336,776", "336,776")
    assert (weather["files"], weather["read"], weather["inserted"]) == ("12", "26,115", "26,115")
    assert not {"updated", "unchanged", "superseded", "rejected"} & set(lines["table"])
    second = empty("load", "--all")
    assert (second.code, second.out) == (0, "")
    assert second.err.splitlines() == [
        f"{name}: nothing new" for name in ("airlines", "airports", "flights", "planes", "weather")
    ]


def test_a_refused_file_is_named_exits_with_1_and_leaves_stdout_to_the_json(
    empty: Lakebed, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = own_data(empty, data, monkeypatch)
    bad = mine / "weather" / "weather_2013_05.csv.gz"
    bad.write_bytes(bad.read_bytes()[:1000])
    said = empty("load", "weather", "airlines", "--json")
    assert said.code == 1
    found = {report["table"]: report for report in json.loads(said.out)}
    assert (found["weather"]["files"], found["airlines"]["inserted"]) == (11, 16)
    assert [refused["path"] for refused in found["weather"]["refused"]] == [str(bad)]
    assert f"error: 1 not loaded:\n  weather: {bad}: its header cannot be read" in said.err


def test_one_table_that_cannot_be_loaded_keeps_no_other_from_it(empty: Lakebed) -> None:
    with psycopg.connect(empty.url) as connection:
        connection.execute("create table airlines (carrier integer)")
    said = empty("load", "airlines", "airports", "--json")
    assert said.code == 1
    airports, airlines = json.loads(said.out)
    assert airports["inserted"] == 1458
    assert airlines["table"] == "airlines"
    assert "differs from its contract" in airlines["error"]
    assert airlines["error"] in said.err


def test_bad_rows_are_shown_with_file_row_and_reason(
    empty: Lakebed, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "the quarantine is empty" in empty("rejects", "weather").out
    file = own_data(empty, data, monkeypatch) / "weather" / "weather_2013_05.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    column = lines[0].split(",").index("temp")
    for number in (3, 4):
        cells = lines[number].split(",")
        cells[column] = "warm"
        lines[number] = ",".join(cells)
    file.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    assert empty("load", "weather").code == 0
    shown = empty("rejects", "weather", "--limit", "1")
    reasons, newest, *_ = shown.out.splitlines()
    assert reasons.split()[0] == "2" and reasons.endswith("in temp")
    assert newest.startswith(f"{file}, row 4: temp")
    assert "1 more; see --limit" in shown.err
    rejects = json.loads(empty("rejects", "weather", "--json").out)
    assert f"(rejected_row_id {rejects[0]['rejected_row_id']})" in shown.out
    assert [row["row_number"] for row in rejects] == [4, 3]
    assert {row["source_row"]["temp"] for row in rejects} == {"warm"}
    narrowed = empty("rejects", "weather", "--column", "dewp")
    assert "no such row in the quarantine" in narrowed.out
    exported = empty.home / "bad.csv"
    assert "2 rows in" in empty("rejects", "weather", "--export", str(exported)).err
    with exported.open(newline="") as stream:
        assert [row["temp"] for row in csv.DictReader(stream)] == ["warm", "warm"]
    assert "2 rows read again, 0 left" in empty("rejects", "weather", "--retry").out
    assert empty("rejects", "weather", "--set", "nope=1").code == 2
    nothing = empty("rejects", "weather", "--set", "temp=60.5", "--where", "temp=cold")
    assert nothing.out == "weather: 0 rows changed in the quarantine\n"
    changed = empty("rejects", "weather", "--set", "temp=60.5", "--where", "temp=warm")
    assert changed.out == "weather: 2 rows changed in the quarantine\n"
    retried = json.loads(empty("rejects", "weather", "--retry", "--json").out)
    assert (retried["rows_read"], retried["rejected"]) == (2, 0)
    assert "the quarantine is empty" in empty("rejects", "weather").out
    assert len(json.loads(empty("rejects", "weather", "--resolved", "--json").out)) == 2
    assert "nothing to load again" in empty("rejects", "weather", "--retry").out


def test_flights_are_counted_alike_before_and_after_they_move(lakebed: Lakebed) -> None:
    assert lakebed.rows(COUNT) == [{"n": FLIGHTS}]
    early = lakebed("move", "flights", "--due", "--as-of", "2013-03-01T00:00:00+00:00")
    assert (early.code, early.out) == (0, "flights: nothing is due\n")
    moved = lakebed("move", "flights", "--due")
    assert moved.code == 0
    keys = [line.split()[1] for line in moved.out.splitlines()[1:]]
    assert keys == [f"2013-{month:02d}" for month in range(1, 10)]
    assert lakebed.rows(COUNT) == [{"n": FLIGHTS}]
    assert lakebed.rows(BUSIEST) == [{"carrier": "UA", "n": 58665}]
    assert lakebed("move", "flights", "--due").out == "flights: nothing is due\n"
    assert json.loads(lakebed("move", "flights", "--due", "--json").out) == []
    assert (lakebed.home / "lake" / "catalog.duckdb").exists()


def test_named_partitions_move_in_order_and_an_empty_one_says_so(lakebed: Lakebed) -> None:
    said = lakebed("move", "flights", "--partition", "2013-12", "--partition", "2013-02", "--json")
    assert said.code == 0
    february, december = json.loads(said.out)
    assert [m["partition_key"] for m in (february, december)] == ["2013-02", "2013-12"]
    assert [m["rows"] for m in (february, december)] == [24_936, 28_191]
    again = lakebed("move", "flights", "--partition", "2013-02")
    assert (again.code, again.out) == (0, "")
    assert again.err == "flights 2013-02: no hot rows, nothing to move\n"


def test_partitions_come_back_by_name_or_by_time_and_are_held(lakebed: Lakebed) -> None:
    lakebed("move", "flights", "--due")
    count = lakebed("sql", COUNT, "--format", "csv").out
    said = lakebed("restore", "flights", "--partition", "2013-02", "--hold", "2d", "--json")
    assert said.code == 0, said.err
    (february,) = json.loads(said.out)
    assert (february["generation"], february["rows"]) == (1, 24_936)
    assert february["held_until"] == "2014-01-02 00:00:00+00:00"
    stretch = ("--from", "2013-01-31T00:00:00+00:00", "--to", "2013-04-01T00:00:00+00:00")
    said = lakebed("restore", "flights", *stretch)
    assert [line.split(":")[0] for line in said.err.splitlines()] == [
        "flights 2013-01",
        "flights 2013-03",
    ]
    assert lakebed("sql", COUNT, "--format", "csv").out == count
    assert "3 held" in lakebed("status").out.replace("\n", " ")
    assert lakebed("move", "flights", "--due").out == "flights: nothing is due\n"
    assert lakebed("move", "flights", "--partition", "2013-02").code == 0
    for wrong in (
        ["--partition", "2013"],
        [],
        ["--from", "2013-01-01T00:00"],
        [*stretch, "--hold", "x"],
    ):
        assert lakebed("restore", "flights", *wrong).code == 2


def test_a_partition_that_cannot_move_leaves_the_others_moved(lakebed: Lakebed) -> None:
    assert lakebed("move", "flights", "--partition", "2013-01").code == 0
    (file,) = (lakebed.home / "lake").glob("flights/*/*/*.parquet")
    file.write_bytes(b"no parquet")
    with psycopg.connect(lakebed.url) as connection:
        connection.execute(
            "insert into flights (time_hour, carrier, flight, origin, dest, sched_dep_time,"
            " sched_arr_time, distance) values ('2013-01-05', 'UA', 9999, 'JFK', 'SFO', 1, 2, 3)"
        )
    said = lakebed("move", "flights", "--partition", "2013-01", "--partition", "2013-02", "--json")
    assert said.code == 1, said.err
    good, bad = json.loads(said.out)
    assert (good["partition_key"], good["moved"]) == ("2013-02", 24_936)
    assert bad["partition_key"] == "2013-01"
    assert "\n  flights 2013-01: " in said.err
    assert "\n  the catalog file could not be written: " in said.err


def test_models_are_built_and_named_ones_alone(lakebed: Lakebed) -> None:
    built = json.loads(lakebed("build", "--json").out)
    assert {m["name"]: m["rows"] for m in built}["daily_traffic"] == 1095
    one = lakebed("build", "daily_traffic")
    assert one.code == 0
    assert [line.split()[0] for line in one.out.splitlines()] == ["model", "daily_traffic"]
    assert lakebed.rows("select count(*) n from daily_traffic") == [{"n": 1095}]


def test_the_three_formats_tell_the_same_rows(lakebed: Lakebed) -> None:
    query = "select carrier, name from airlines order by carrier"
    as_json = [tuple(row.values()) for row in lakebed.rows(query)]
    as_csv = list(csv.reader(io.StringIO(lakebed("sql", query, "--format", "csv").out)))
    table = lakebed("sql", query).out.splitlines()
    assert len(as_json) == 16
    assert as_csv[0] == ["carrier", "name"]
    assert [tuple(row) for row in as_csv[1:]] == as_json
    assert [tuple(line.strip().split(maxsplit=1)) for line in table[2:]] == as_json


def test_json_holds_times_as_iso_and_loses_no_column_and_no_value(lakebed: Lakebed) -> None:
    (row,) = lakebed.rows(
        "select '2013-01-01 05:00:00.5+00'::timestamptz as t, 'infinity'::timestamptz as f,"
        " 'nan'::double as x, 1.50::decimal(4,2) as d, 1 as a, 2 as a, null as z,"
        " {'q': '2013-01-01'::date} as s, [1, 2] as l, 'é\"\\' as \"na'me\""
    )
    assert row == {
        "t": "2013-01-01T05:00:00.5+00:00",
        "f": "infinity",
        "x": "nan",
        "d": 1.5,
        "a": 1,
        "a_1": 2,
        "z": None,
        "s": {"q": "2013-01-01"},
        "l": [1, 2],
        "na'me": 'é"\\',
    }
    assert lakebed.rows("select 1 where false") == []


def test_csv_tells_null_from_empty_and_no_reader_skips_a_row(lakebed: Lakebed) -> None:
    query = "select null as z, '' as e, 'a,b' as c, 'q\"r' as q, e'two\\nlines' as \"l,i\""
    assert lakebed("sql", query, "--format", "csv").out == (
        'z,e,c,q,"l,i"\n,"","a,b","q""r","two\nlines"\n'
    )
    lone = lakebed("sql", "select unnest([1, null, 2]) as a", "--format", "csv").out
    assert [row for row in csv.reader(io.StringIO(lone)) if row] == [["a"], ["1"], [""], ["2"]]


def test_a_table_shows_values_as_they_are_and_nothing_that_a_terminal_obeys(
    lakebed: Lakebed,
) -> None:
    said = lakebed("sql", "select '[bold]x[/bold]' as a, '[/]' as b, e'\\x1b[2J' as c, null as z")
    assert said.out.splitlines()[2].split() == ["[bold]x[/bold]", "[/]", "\\x1b[2J", "null"]


def test_a_table_says_how_many_rows_it_does_not_show(lakebed: Lakebed) -> None:
    said = lakebed("sql", "select flight from flights")
    assert len(said.out.splitlines()) == 2 + 1000
    assert said.err == "335,776 more rows are not shown; --format csv gives all\n"


def test_every_statement_runs_and_the_last_one_is_shown(lakebed: Lakebed) -> None:
    assert lakebed.rows(
        "select error('it runs') from flights where false; from airlines limit 1;"
        " select count(*) as n from airlines where carrier = 'UA'; -- that is it"
    ) == [{"n": 1}]
    failed = lakebed("sql", "select error('it runs'); select 1")
    assert (failed.code, failed.out) == (1, "")


@pytest.mark.parametrize(
    "statement",
    [
        "create table seen as select 1",
        "insert into flights select * from flights",
        "drop table flights",
        "copy flights to 'flights.csv'",
        "select 1; create table seen (n int); select 2",
        "call postgres_execute('pg', 'delete from airlines')",
        "",
    ],
)
def test_what_is_no_query_is_refused(lakebed: Lakebed, statement: str) -> None:
    for command in ("sql", "explain"):
        said = lakebed(command, statement)
        assert (said.code, said.out) == (2 if not statement else 1, "")
        assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "statement",
    [
        "show tables",
        "describe flights",
        "summarize airlines",
        "pragma version",
        "explain select 1",
        "call pragma_version()",
        "values (1)",
        "pivot flights on origin using count(*) group by carrier",
    ],
)
def test_whatever_has_rows_is_shown_in_all_formats(lakebed: Lakebed, statement: str) -> None:
    assert len(lakebed.rows(statement)) > 0
    for form in ("table", "csv"):
        said = lakebed("sql", statement, "--format", form)
        assert said.code == 0
        assert len(said.out.splitlines()) > 1


def test_a_query_of_several_statements_sees_all_cold_rows_in_each(lakebed: Lakebed) -> None:
    lakebed("move", "flights", "--due")
    december = "select max(distance) from flights where time_hour >= '2013-12-01'"
    assert lakebed.rows(f"{december}; {COUNT}") == [{"n": FLIGHTS}]
    both = "select count(*) n from flights where time_hour < '2013-02-01'"
    assert lakebed.rows(f"{both}; summarize flights")[0]["count"] == FLIGHTS


def test_a_query_comes_from_standard_input_too(
    lakebed: Lakebed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"-- how many\n{COUNT};\n"))
    assert lakebed.rows("-") == [{"n": FLIGHTS}]


def test_a_wrong_query_gives_the_message_of_duckdb_and_1(lakebed: Lakebed) -> None:
    for query, said in (
        ("selec 1", 'error: Parser Error: syntax error at or near "selec"'),
        ("select nope from flights", 'error: Binder Error: Referenced column "nope" not found'),
        ("from nothing", "error: Catalog Error: Table with name nothing does not exist"),
        ("select x::int from (values ('a')) t (x)", "error: Conversion Error: Could not convert"),
    ):
        answer = lakebed("sql", query, "--format", "csv")
        assert answer.code == 1
        assert answer.err.startswith(said)
        assert "lakebed_rows" not in answer.err


def test_a_model_that_cannot_be_read_is_said_to_be_the_reason(lakebed: Lakebed) -> None:
    with psycopg.connect(lakebed.url) as connection:
        connection.execute(
            "insert into lakebed.model_version (model, generation, materialized, sql, code_version)"
            " values ('stale', 1, 'view', 'select gone from flights', 'x')"
        )
    answer = lakebed("sql", "from stale")
    assert answer.code == 1
    assert "The model stale cannot be r" in answer.err
    assert '"gone" not found' in answer.err


def test_an_output_is_whole_or_not_there(lakebed: Lakebed) -> None:
    file = lakebed.home / "out.csv"
    said = lakebed("sql", "select time_hour, carrier from flights", "--output", str(file))
    assert (said.code, said.out) == (0, "")
    assert said.err == f"336,776 rows in {file}\n"
    with file.open() as stream:
        assert sum(1 for _ in csv.reader(stream)) == FLIGHTS + 1
    file.write_text("before")
    query = "select case when i = 100000 then error('stop') end from range(200000) t (i)"
    assert lakebed("sql", query, "--output", str(file)).code == 1
    assert file.read_text() == "before"
    assert [path.name for path in lakebed.home.glob("*out*")] + [
        path.name for path in lakebed.home.glob(".*out*")
    ] == ["out.csv"]


def test_an_output_that_is_a_device_or_a_link_stays_one(lakebed: Lakebed) -> None:
    target, link = lakebed.home / "target.csv", lakebed.home / "link.csv"
    link.symlink_to(target)
    assert lakebed("sql", "select 1 as n", "--output", str(link)).code == 0
    assert (link.is_symlink(), target.read_text()) == (True, "n\n1\n")
    pipe = lakebed.home / "pipe.csv"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert lakebed("sql", "select 2 as n", "--output", str(pipe)).code == 0
        assert reader.communicate(timeout=10)[0] == b"n\n2\n"
    assert pipe.is_fifo()


def test_explain_says_what_is_read_of_both_tiers(lakebed: Lakebed) -> None:
    before = lakebed("explain", COUNT).out
    assert before.splitlines()[0] == "flights: hot 336,776 rows"
    assert "no table is read" in lakebed("explain", "select 1").out
    lakebed("move", "flights", "--due")
    out = lakebed("explain", f"{COUNT} where time_hour < '2013-01-20'").out
    lines = out.splitlines()
    assert lines[0] == "flights: hot 0 rows"
    assert lines[1].startswith("    cold 1 of 9 files, 26,865 of 252,392 rows, 0.")
    assert lines[2] == "    within to 2013-01-19 23:59:59 UTC"
    assert lines[3].strip().endswith("flights/year=2013/month=01/flights_2013_01_g0001.parquet")
    assert "AGGREGATE" in out


def test_the_shell_reads_a_new_snapshot_for_each_statement_and_goes_on_after_an_error(
    lakebed: Lakebed,
) -> None:
    program = [sys.executable, "-m", "lakebed.cli", "sql"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as it:
        assert it.stdin is not None and it.stdout is not None and it.stderr is not None
        it.stdin.write("select count(*) as n\nfrom airlines;\n")
        it.stdin.flush()
        while "16" not in it.stdout.readline():
            pass
        with psycopg.connect(lakebed.url) as connection:
            connection.execute("insert into airlines values ('X1', 'A new one')")
        it.stdin.write(
            "from nowhere;\nselect ';' as s, count(*) as n from airlines;\n\\d airlines\n"
        )
        it.stdin.write("\\nonsense\n\\q\nselect 'never';\n")
        it.stdin.close()
        out, err = it.stdout.read(), it.stderr.read()
        it.wait(timeout=30)
    assert it.returncode == 1
    assert "17" in out and "VARCHAR" in out and "never" not in out
    assert err.count("error: ") == 2
    assert PASSWORD not in out + err


def test_tables_and_their_columns_are_listed_with_models(lakebed: Lakebed) -> None:
    lakebed("build", "stg_flights")
    found = {one["name"]: one for one in json.loads(lakebed("tables", "--json").out)}
    assert found["flights"]["key"] == ["time_hour", "carrier", "flight"]
    assert (found["stg_flights"]["kind"], found["stg_flights"]["columns"]) == ("model", 16)
    columns = json.loads(lakebed("tables", "stg_flights", "--json").out)
    assert len(columns) == 16 and columns[0]["type"]
    assert lakebed("tables", "nope").code == 1


def test_psql_opens_on_the_hot_tier_or_the_address_is_printed_without_the_password(
    lakebed: Lakebed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "lakebed.cli", "psql"]
    if shutil.which("psql"):
        query = [*program, "-Atc", "select count(*) from airlines"]
        assert subprocess.run(query, cwd=ROOT, capture_output=True).stdout == b"16\n"
    monkeypatch.setenv("PATH", str(tmp_path))
    said = subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert said.returncode == 0
    assert said.stdout.startswith("postgresql://") and PASSWORD not in said.stdout


def test_a_status_and_a_load_fit_a_terminal_of_80_columns_with_all_names(
    lakebed: Lakebed, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakebed("move", "flights", "--due")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    shown = re.sub(r"\x1b\[[\d;]*m", "", lakebed("status").out)
    assert max(map(len, shown.splitlines())) <= 80
    for name in ("airlines", "airports", "flights", "planes", "weather", "252,392", "newest row"):
        assert name in shown
    assert "…" not in shown and "quarantine" not in shown
    again = re.sub(r"\x1b\[[\d;]*m", "", lakebed("load", "airlines", "planes", "--again").out)
    assert max(map(len, again.splitlines())) <= 80
    assert "unchanged" in again and "rejected" not in again


def test_due_partitions_of_all_tables_move_with_one_command(lakebed: Lakebed) -> None:
    said = lakebed("move", "--due", "--json")
    moved = {one["table"] for one in json.loads(said.out)}
    assert (said.code, moved) == (0, {"flights", "weather"})


def test_the_status_shows_each_partition_by_a_letter(lakebed: Lakebed) -> None:
    lakebed("move", "flights", "--due")
    shown = lakebed("status")
    lines = {line.split()[0]: line for line in reversed(shown.out.splitlines()) if line.strip()}
    assert "cccccccccHHHH" in lines["flights"]
    assert "DDDDDDDDDHHH·" in lines["weather"]
    assert "not partitioned" in lines["planes"]
    status = json.loads(lakebed("status", "--json").out)
    flights = next(table for table in status["tables"] if table["name"] == "flights")
    assert (flights["hot_rows"], flights["cold_rows"]) == (84_384, 252_392)
    assert flights["hot_rows"] + flights["cold_rows"] == FLIGHTS


def test_an_unreachable_server_exits_with_3_and_keeps_the_password(
    empty: Lakebed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEBED_POSTGRES_URL", f"postgresql://me:{PASSWORD}@127.0.0.1:9/db")
    for command in (
        ["load", "airlines"],
        ["move", "flights", "--partition", "2013-01"],
        ["sql", "select 1"],
        ["status"],
        ["build"],
        ["rejects", "flights"],
    ):
        said = empty(*command)
        assert (said.code, said.out) == (3, ""), command
        assert said.err.startswith("error: cannot reach PostgreSQL at 127.0.0.1:9/db: ")
        assert PASSWORD not in said.err


def test_no_query_shows_the_password_of_the_database(lakebed: Lakebed) -> None:
    for query in ("from duckdb_databases()", "from duckdb_secrets()", "from duckdb_settings()"):
        said = lakebed("sql", query, "--format", "json")
        assert said.code == 0
        assert PASSWORD not in said.out + said.err


def test_reading_and_moving_import_neither_dagster_nor_dlt(lakebed: Lakebed) -> None:
    program = """
import sys
from lakebed.cli.main import main
for arguments in (["sql", "from airlines"], ["status"], ["move", "airlines", "--due"]):
    try:
        main(arguments)
    except SystemExit:
        pass
print([m for m in ("dagster", "dlt") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_query_ends_at_once_with_130_and_leaves_no_file(
    lakebed: Lakebed, number: signal.Signals
) -> None:
    output = lakebed.home / "endless.csv"
    query = "select i * j from range(1000000000) a (i), range(1000) b (j) where i * j % 7 = 3"
    command = ["sql", query, "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lakebed.cli", *command],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        unfinished = output.with_name(".endless.csv.part")
        deadline = time.monotonic() + 60
        while not unfinished.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    # A shell shows both as 130.
    assert process.returncode in (130, -signal.SIGINT)
    assert "stopped; what was not committed did not happen" in err
    assert "Traceback" not in err
    assert not unfinished.exists()
    assert not output.exists()


def test_a_reader_who_has_seen_enough_is_no_failure(lakebed: Lakebed) -> None:
    command = f'{sys.executable} -m lakebed.cli sql "from flights" --format csv | head -n 1'
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("time_hour,carrier,flight")
