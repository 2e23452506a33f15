"""Doctor, health, metrics and status say the same of what loads left, until it is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from lakebed.cli import main as cli
from lakebed.errors import LakebedError
from lakebed.ingest.load import load_table, load_window
from lakebed.ingest.report import LoadReport
from lakebed.ingest.retry import retry_rejects
from lakebed.monitoring import diagnosis
from lakebed.monitoring.doctor import examine
from lakebed.monitoring.findings import SEVERITIES, Code, Finding, severity_of
from lakebed.monitoring.health import read_health
from lakebed.monitoring.metrics import prometheus
from lakebed.monitoring.status import read_status
from lakebed.monitoring.table_state import read_table_state
from lakebed.monitoring.watch import read_quarantine
from lakebed.schema.ddl import DriftError
from lakebed.spec.partitions import window_for_key
from lakebed.spec.table import CsvFiles, SourceTable
from lakebed.store.platform import Platform
from tests.tables.readings import readings
from tests.unit.monitoring.test_metrics import parsed

MakePlatform = Callable[..., Platform]


class Item(pa.DataFrameModel):
    id: pl.Int64
    price: pl.Float64 = pa.Field(ge=0)


ITEMS = SourceTable(
    name="items",
    model=Item,
    source=CsvFiles(glob="items/*.csv"),
    key=("id",),
    reject_share=0.5,
)


@pytest.fixture(autouse=True)
def server_without_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_SETTINGS", {})


@pytest.fixture
def items(platform_of: MakePlatform) -> Platform:
    platform = platform_of(ITEMS)
    (platform.settings.data / "items").mkdir()
    return platform


def deliver(platform: Platform, name: str, text: str) -> Path:
    path = platform.settings.data / "items" / name
    path.write_text(text)
    return path


def prices(first: int, good: int, bad: int) -> str:
    rows = [f"{first + i},{i + 1}" for i in range(good)]
    rows += [f"{first + good + i},{-i - 1}" for i in range(bad)]
    return "\n".join(["id,price", *rows, ""])


def load(platform: Platform) -> LoadReport:
    (table,) = platform.tables
    return load_table(platform.settings, platform.postgres, platform.clock, table)


def found(platform: Platform) -> dict[Code, Finding]:
    return {finding.code: finding for finding in examine(platform).findings}


def test_refused_files_and_rejects_are_said_by_all_until_they_are_mended(items: Platform) -> None:
    deliver(items, "good.csv", prices(0, 30, 20))
    for number in range(3):
        deliver(items, f"broken{number}.csv", "id\n1\n")
    report = load(items)
    assert (report.inserted, report.rejected, len(report.refused)) == (30, 20, 3)
    told = found(items)
    assert (told[Code.ITEM_REFUSED].level, told[Code.REJECTS_WAITING].level) == ("wrong", "warning")
    assert not examine(items).is_well
    health = read_health(items)
    assert not health.is_well
    assert set(found(items).values()) == set(health.findings)
    status = read_status(items)
    assert {Code.ITEM_REFUSED, Code.REJECTS_WAITING} <= {f.code for f in status.findings}
    assert set(status.findings) <= set(health.findings)
    assert len(status.tables[0].refused_files) == 3
    assert status.to_json()["findings"][0]["level"] == "wrong"
    metrics = parsed(prometheus(health))
    name = "lakebed_findings_by_code"
    assert metrics[f'{name}{{code="item_refused",level="wrong",where="items"}}'] == 1
    assert metrics[f'{name}{{code="rejects_waiting",level="warning",where="items"}}'] == 1
    # Another load, which finds nothing new, changes nothing of it.
    assert load(items).load_ids == ()
    assert found(items).keys() == told.keys()
    for number in range(3):
        (items.settings.data / "items" / f"broken{number}.csv").unlink()
    with items.postgres.connect() as connection:
        connection.execute(
            'update lakebed.rejected_row set source_row = source_row || \'{"price": "1"}\''
        )
    retry_rejects(items.settings, items.postgres, items.clock, ITEMS)
    assert found(items) == {}
    assert examine(items).is_well


def test_what_is_refused_is_forgotten_when_it_is_loaded(items: Platform) -> None:
    path = deliver(items, "1.csv", "id\n1\n")
    load(items)
    ((refused, problem),) = read_status(items).tables[0].refused_files
    assert (refused, "price" in problem) == (str(path), True)
    path.write_text(prices(0, 3, 0))
    assert load(items).inserted == 3
    assert found(items) == {}


def test_a_load_that_fails_as_a_whole_is_said_until_one_succeeds(items: Platform) -> None:
    deliver(items, "1.csv", prices(0, 3, 0))
    load(items)
    deliver(items, "2.csv", prices(3, 3, 0))
    with items.postgres.connect() as connection:
        connection.execute("alter table items alter column price type numeric")
    with pytest.raises(DriftError) as raised:
        load(items)
    failed = found(items)[Code.LOAD_FAILED]
    assert failed.level == "wrong"
    assert str(raised.value) in failed.what
    with items.postgres.connect() as connection:
        connection.execute("alter table items alter column price type double precision")
    assert load(items).inserted == 3
    assert Code.LOAD_FAILED not in found(items)


def test_a_retry_of_the_quarantine_forgets_no_refused_file(items: Platform) -> None:
    deliver(items, "1.csv", prices(0, 5, 1))
    deliver(items, "2.csv", "id\n1\n")
    load(items)
    retry_rejects(items.settings, items.postgres, items.clock, ITEMS)
    assert {Code.ITEM_REFUSED, Code.REJECTS_WAITING} <= found(items).keys()


def test_rows_of_a_retry_are_counted_once(items: Platform) -> None:
    deliver(items, "1.csv", prices(0, 8, 2))
    load(items)

    def quarantine() -> tuple[int, int, float]:
        with items.postgres.connect() as connection:
            seen = read_quarantine(connection, ITEMS)
        return seen.read, seen.rejected, seen.share

    assert quarantine() == (10, 2, 0.2)
    with items.postgres.connect() as connection:
        connection.execute(
            'update lakebed.rejected_row set source_row = source_row || \'{"price": "1"}\''
            " where source_row->>'price' = '-1'"
        )
    retry_rejects(items.settings, items.postgres, items.clock, ITEMS)  # one of them is bad still
    assert quarantine() == (10, 1, 0.1)


def test_a_source_that_cannot_be_asked_is_wrong_and_stops_no_look(
    items: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakebed.ingest.sources.files import FoundFiles
    from lakebed.ingest.sources.reader import SourceError

    def fail(*_: object) -> None:
        raise SourceError("items/*.csv", "the store says no")

    monkeypatch.setattr(FoundFiles, "glance", fail)
    assert found(items)[Code.SOURCE_UNREADABLE].level == "wrong"
    assert read_status(items).tables[0].waiting_files == ("items/*.csv",)


def test_counts_that_do_not_add_up_are_wrong(items: Platform) -> None:
    deliver(items, "1.csv", prices(0, 3, 0))
    (load_id,) = load(items).load_ids
    with items.postgres.connect() as connection:
        connection.execute("update lakebed.load set inserted = 2 where load_id = %s", [load_id])
    assert load_id in found(items)[Code.LOAD_UNBALANCED].what


def test_a_refused_window_is_said_until_that_window_is_loaded(platform_of: MakePlatform) -> None:
    table = replace(readings, load_by="window", source=CsvFiles(glob="readings/*.csv"))
    platform = platform_of(table)
    (platform.settings.data / "readings").mkdir()
    file = platform.settings.data / "readings" / "1.csv"
    file.write_text("at\n2024-02-01\n")
    window = window_for_key(table.require_partitioning.grain, "2024-02")

    def run() -> LoadReport:
        return load_window(platform.settings, platform.postgres, platform.clock, table, window)

    assert len(run().refused) == 1
    assert found(platform)[Code.ITEM_REFUSED].level == "wrong"
    file.write_text("at,sensor,value,number\n2024-02-01T00:00:00Z,a,1,1\n")
    assert run().inserted == 1
    assert Code.ITEM_REFUSED not in found(platform)


def test_freshness_is_judged_once_for_the_doctor_and_for_the_status(items: Platform) -> None:
    table = replace(readings, freshness=timedelta(days=1))
    with items.postgres.connect(autocommit=True) as connection:
        state = read_table_state(connection, items.settings, table, items.clock.now())
    assert state.newest is None
    platform = replace(items, tables=(table,))
    assert severity_of(Code.NO_ROWS) == "warning"
    assert found(platform)[Code.NO_ROWS].where == "readings"
    assert examine(platform).is_well is False  # its source was never there


def test_each_code_has_one_severity_and_a_finding_cannot_say_otherwise() -> None:
    assert {severity_of(code) for code in Code} == set(SEVERITIES)
    with pytest.raises(TypeError):
        Finding(Code.NO_ROWS, "x", "y", "z", level="note")  # type: ignore[call-arg]


def test_the_command_doctor_exits_with_1_for_what_is_wrong_and_0_for_a_warning(
    items: Platform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def doctor() -> list[str]:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("lakebed.cli.doctor.open_for_reading", lambda: items)
            cli.group.main(["doctor", "--json"], standalone_mode=False)
        return [finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]]

    deliver(items, "1.csv", prices(0, 8, 2))
    load(items)
    assert doctor() == ["rejects_waiting"]
    deliver(items, "2.csv", "id\n1\n")
    load(items)
    with pytest.raises(LakebedError):
        doctor()
