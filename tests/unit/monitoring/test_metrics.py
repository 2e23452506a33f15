"""Prometheus's text: every line as its format wants it, every name documented."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from lakebed.monitoring.findings import Code, Finding
from lakebed.monitoring.health import Health, TableHealth
from lakebed.monitoring.metrics import metrics, prometheus
from lakebed.monitoring.status import PlatformStatus, TableStatus
from lakebed.tiering.horizon import Holder

NOW = datetime(2024, 7, 1, tzinfo=UTC)


def parsed(text: str) -> dict[str, float]:
    """Return each sample's value, as Prometheus's own client reads the text."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True), family.name
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found, name
            found[name] = sample.value
    return found


def table(name: str, **values: object) -> TableStatus:
    empty = {
        "exists": True,
        "hot_rows": 0,
        "estimated": False,
        "hot_bytes": 0,
        "cold_rows": 0,
        "cold_bytes": 0,
        "partitions": (),
        "loaded_at": None,
        "last_rows": 0,
        "last_rejected": 0,
        "moved_at": None,
        "cursor": None,
        "lag_seconds": None,
        "fresh": None,
        "quarantined": 0,
        "waiting_files": (),
        "requests": 0,
    }
    return TableStatus(name=name, **(empty | values))  # type: ignore[arg-type]


def health(*tables: TableHealth) -> Health:
    held = Holder("session", 7, "psql", 100, NOW - timedelta(minutes=2))
    return Health(
        read_at=NOW,
        status=PlatformStatus(NOW.isoformat(), "pg", "lake", tuple(t.status for t in tables)),
        tables=tables,
        holders=(held, Holder("slot", None, "replica", 90, None)),
        findings=(
            Finding(Code.LAKE_FILE_WRONG, "lake", "what", "todo"),
            Finding(Code.REJECTS_WAITING, "x", "y", "z"),
            Finding(Code.REJECTS_WAITING, "x", "y", "other"),
        ),
    )


def test_every_line_is_one_that_prometheus_reads() -> None:
    from lakebed.monitoring.status import PartitionStatus

    parts = (
        PartitionStatus("2024-01", "cold", 0, 10, 99, 1),
        PartitionStatus("2024-02", "due", 3, 0, 0, 0),
    )
    loaded = table(
        "readings",
        hot_rows=3,
        hot_bytes=8192,
        cold_rows=10,
        cold_bytes=99,
        partitions=parts,
        loaded_at="2024-06-30T23:00:00+00:00",
        last_rows=13,
        last_rejected=1,
        moved_at="2024-06-30T23:30:00+00:00",
        lag_seconds=90.5,
        quarantined=1,
        waiting_files=("a", "b"),
    )
    states = Counter(part.state for part in parts)
    found = parsed(
        prometheus(
            health(
                TableHealth(loaded, 3600.0, Counter[str](states), ("2024-02",)),
                TableHealth(table("airlines"), None, Counter(), ()),
            )
        )
    )
    assert found["lakebed_read_timestamp_seconds"] == NOW.timestamp()
    assert found['lakebed_findings{level="wrong"}'] == 1
    assert found['lakebed_findings{level="warning"}'] == 2
    assert found['lakebed_findings{level="note"}'] == 0
    name = "lakebed_findings_by_code"
    assert found[f'{name}{{code="rejects_waiting",level="warning",where="x"}}'] == 2
    assert (found["lakebed_horizon_holders"], found["lakebed_horizon_age_seconds"]) == (2, 120)
    assert found['lakebed_table_hot_rows{table="readings"}'] == 3
    assert found['lakebed_table_hot_rows{table="airlines"}'] == 0
    assert found['lakebed_table_cold_bytes{table="readings"}'] == 99
    assert found['lakebed_table_lag_seconds{table="readings"}'] == 90.5
    assert found['lakebed_table_lag_limit_seconds{table="readings"}'] == 3600
    assert (
        found['lakebed_table_last_load_timestamp_seconds{table="readings"}']
        == (NOW - timedelta(hours=1)).timestamp()
    )
    assert found['lakebed_table_partitions{state="due",table="readings"}'] == 1
    assert found['lakebed_table_partitions{state="late",table="readings"}'] == 0
    assert found['lakebed_table_overdue_partitions{table="readings"}'] == 1
    assert found['lakebed_table_waiting_items{table="readings"}'] == 2
    assert not [name for name in found if "lag" in name and "airlines" in name]
    assert not [name for name in found if "partitions" in name and "airlines" in name]


def test_a_platform_without_tables_has_metrics_too() -> None:
    assert parsed(prometheus(health()))["lakebed_horizon_holders"] == 2


def test_the_document_lists_every_metric_and_no_other() -> None:
    document = (Path(__file__).parents[3] / "docs" / "operating.md").read_text()
    listed = re.findall(r"^\| `(lakebed_[a-z_]+)", document, re.M)
    assert listed == [f"lakebed_{metric.name}" for metric in metrics(health())]
