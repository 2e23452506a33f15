"""The platform's health as Prometheus reads it, in the text format 0.0.4.

docs/operating.md documents each name. A published metric keeps its name and its meaning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lakebed.monitoring.findings import SEVERITIES
from lakebed.monitoring.health import Health, TableHealth
from lakebed.monitoring.status import State

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """A gauge: its name without the prefix, its description, and a value for each label set."""

    name: str
    help: str
    samples: tuple[tuple[Labels, float], ...]


def prometheus(health: Health) -> str:
    """Return all metrics as text, in the order in which they are documented."""
    registry = CollectorRegistry()
    registry.register(_Collected(tuple(_family(metric) for metric in metrics(health))))
    return generate_latest(registry).decode()


class _Collected(Collector):
    """The metrics of one reading, for prometheus-client; those without a sample are left out."""

    def __init__(self, families: tuple[GaugeMetricFamily, ...]) -> None:
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the metrics in their order."""
        yield from (family for family in self._families if family.samples)


def _family(metric: Metric) -> GaugeMetricFamily:
    names = list(metric.samples[0][0]) if metric.samples else []
    family = GaugeMetricFamily(f"lakebed_{metric.name}", metric.help, labels=names)
    for labels, value in metric.samples:
        family.add_metric([labels[name] for name in names], value)
    return family


def metrics(health: Health) -> Iterator[Metric]:
    """Yield all metrics. A table has a sample only of the metrics that apply to it."""
    yield Metric(
        "read_timestamp_seconds", "When this was read.", (({}, health.read_at.timestamp()),)
    )
    yield Metric(
        "findings",
        "What `lakebed doctor` finds, by level.",
        tuple(
            ({"level": level}, sum(finding.level == level for finding in health.findings))
            for level in SEVERITIES
        ),
    )
    found = Counter((finding.level, finding.code, finding.where) for finding in health.findings)
    yield Metric(
        "findings_by_code",
        "What `lakebed doctor` finds, by level, code, and table, server or lake.",
        tuple(
            ({"level": level, "code": code, "where": where}, count)
            for (level, code, where), count in sorted(found.items())
        ),
    )
    yield Metric(
        "horizon_holders",
        "Transactions and slots that hold the snapshot horizon.",
        (({}, len(health.holders)),),
    )
    yield Metric(
        "horizon_age_seconds",
        "For how long the oldest transaction has held the snapshot horizon.",
        (({}, health.horizon_seconds),),
    )
    yield from _of_tables(health.tables)


def _of_tables(tables: Iterable[TableHealth]) -> Iterator[Metric]:
    gauges = {
        "hot_rows": "Rows in PostgreSQL; estimated where a partition table is large.",
        "hot_bytes": "Bytes in PostgreSQL, indexes included.",
        "cold_rows": "Rows in the lake.",
        "cold_bytes": "Bytes of the live files of the lake.",
        "lag_seconds": "Time from the newest row's cursor to now.",
        "lag_limit_seconds": "The largest lag that the table file allows.",
        "last_load_timestamp_seconds": "When the last load was committed.",
        "last_load_rows": "Rows that the last load read.",
        "last_load_rejected_rows": "Rows that the last load rejected.",
        "last_cold_file_timestamp_seconds": "When the last cold file was committed.",
        "quarantined_rows": "Rejected rows that wait to be resolved.",
        "waiting_items": "Files of the source that no load has loaded: new, or refused.",
        "open_requests": "Moves that were requested by SQL and are not done yet.",
        "overdue_partitions": "Partitions that have been due for more than a day.",
    }
    found: dict[str, list[tuple[Labels, float]]] = {name: [] for name in gauges}
    partitions: list[tuple[Labels, float]] = []
    for table in tables:
        values = _values(table)
        for name in gauges:
            if (value := values[name]) is not None:
                found[name].append(({"table": table.name}, value))
        if table.status.partitions:
            partitions += [
                ({"table": table.name, "state": state}, table.states[state])
                for state in get_args(State)
            ]
    for name, text in gauges.items():
        yield Metric(f"table_{name}", text, tuple(found[name]))
    yield Metric("table_partitions", "Partitions, by state.", tuple(partitions))


def _values(table: TableHealth) -> dict[str, float | None]:
    status = table.status
    return {
        "hot_rows": status.hot_rows,
        "hot_bytes": status.hot_bytes,
        "cold_rows": status.cold_rows,
        "cold_bytes": status.cold_bytes,
        "lag_seconds": status.lag_seconds,
        "lag_limit_seconds": table.limit_seconds,
        "last_load_timestamp_seconds": _seconds(status.loaded_at),
        "last_load_rows": status.last_rows if status.loaded_at else None,
        "last_load_rejected_rows": status.last_rejected if status.loaded_at else None,
        "last_cold_file_timestamp_seconds": _seconds(status.moved_at),
        "quarantined_rows": status.quarantined,
        "waiting_items": len(status.waiting_files),
        "open_requests": status.requests,
        "overdue_partitions": len(table.overdue) if status.partitions else None,
    }


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None
