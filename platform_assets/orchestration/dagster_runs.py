"""What a run of many partitions reports to Dagster: an event and check results for each.

Dagster's own results speak of all partitions of a run at once: a failed one would turn all of them
red, and a check's result would belong to none. The classes that speak of one partition are
private; see dagster_private.py.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from lakebed.errors import LakebedError
from lakebed.orchestration.dagster_private import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)
from lakebed.orchestration.dagster_private import DagsterEventBatchMetadata
from lakebed.orchestration.transient import is_transient
from lakebed.store.platform import Platform

PAUSES_SECONDS = (1.0, 3.0, 10.0)
"""Pauses before each retry of a partition that was locked, or after PostgreSQL was away."""

PARTITIONS_AT_ONCE = 200
SECONDS_AT_ONCE = 2.0
"""A batch of events ends after this many partitions or seconds."""


@dataclass(frozen=True)
class _Outcome:
    partition: str
    metadata: Mapping[str, Any] | None
    checks: Sequence[dg.AssetCheckResult]
    data_version: str | None


@dataclass
class PartitionLog:
    """Reports the partitions of a run to Dagster, a batch at a time.

    After a crash the sensor `commands_in_the_ui` reports what PostgreSQL committed.
    """

    context: dg.AssetExecutionContext
    key: dg.AssetKey
    _waiting: list[_Outcome] = field(default_factory=list)
    _reported_at: float = field(default_factory=time.monotonic)

    def add(
        self,
        partition: str,
        metadata: Mapping[str, Any] | None,
        checks: Sequence[dg.AssetCheckResult],
        data_version: str | None = None,
    ) -> Iterator[Any]:
        """Note what became of a partition, and yield what waits when it is enough.

        metadata: of the partition's materialization; None where there is none.  data_version: by
        which what is made of it knows that its rows have changed.
        """
        self._waiting.append(_Outcome(partition, metadata, checks, data_version))
        late = time.monotonic() - self._reported_at > SECONDS_AT_ONCE
        if late or len(self._waiting) >= PARTITIONS_AT_ONCE:
            yield from self._tell()

    def finish(self) -> Iterator[Any]:
        """Yield all that waits, and the empty outputs that a run owes for partitioned checks."""
        yield from self._tell()
        asset = self.context.assets_def
        for check in sorted(self.context.selected_asset_check_keys):
            spec = asset.get_spec_for_check_key(check)
            if spec is not None and spec.partitions_def is not None:
                name = asset.get_output_name_for_asset_check_key(check)
                yield dg.Output(None, output_name=name)

    def _tell(self) -> Iterator[Any]:
        waiting, self._waiting = self._waiting, []
        self._reported_at = time.monotonic()
        yield from self._materializations(waiting)
        targets = self._targets(waiting)
        for outcome in waiting:
            for result in outcome.checks:
                yield self._evaluation(outcome.partition, result, targets.get(outcome.partition))

    def _materializations(self, waiting: Sequence[_Outcome]) -> Iterator[dg.DagsterEvent]:
        """Store materializations in one batch, which costs a tenth of one at a time."""
        step = self.context.get_step_execution_context()
        batch = str(uuid.uuid4())
        done = [outcome for outcome in waiting if outcome.metadata is not None]
        for number, outcome in enumerate(done, 1):
            version = outcome.data_version
            materialization = dg.AssetMaterialization(
                self.key,
                partition=outcome.partition,
                metadata=outcome.metadata,
                tags={"dagster/data_version": version} if version else None,
            )
            yield dg.DagsterEvent.asset_materialization(
                step, materialization, DagsterEventBatchMetadata(batch, number == len(done))
            )

    def _targets(self, waiting: Sequence[_Outcome]) -> dict[str, Target]:
        """Return the newest materialization of each partition: without it a check is not current.

        That of a partition that failed now is of another run, so its check shows as failed on it.
        """
        partitions = {outcome.partition for outcome in waiting}
        if not partitions:
            return {}
        newest = self.context.instance.event_log_storage.get_latest_storage_id_by_partition(
            self.key, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions
        )
        return {
            partition: Target(
                storage_id=number, run_id=self.context.run.run_id, timestamp=time.time()
            )
            for partition, number in newest.items()
        }

    def _evaluation(
        self, partition: str, result: dg.AssetCheckResult, target: Target | None
    ) -> dg.AssetCheckEvaluation:
        assert result.check_name is not None
        return dg.AssetCheckEvaluation(
            asset_key=self.key,
            check_name=result.check_name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            target_materialization_data=target,
            # A failed one ends the run at the end, when every partition was reported.
            blocking=False,
            partition=partition,
        )


def failed_partitions(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> set[str]:
    """Return the partitions for which a check has failed on their newest materialization."""
    found = instance.event_log_storage.get_asset_check_partition_info([check])
    return {
        info.partition_key
        for info in found
        if info.partition_key is not None
        and info.latest_execution_status.value == "FAILED"
        and info.is_current
    }


class RetryQueue:
    """The partitions of a run in order; a locked partition is tried again after the rest."""

    def __init__(self, partitions: Sequence[str]) -> None:
        self._waiting = deque(partitions)
        self._tries: Counter[str] = Counter()

    def __iter__(self) -> Iterator[str]:
        while self._waiting:
            partition = self._waiting.popleft()
            if self._tries[partition]:
                time.sleep(PAUSES_SECONDS[self._tries[partition] - 1])
            yield partition

    def batches(self) -> Iterator[list[str]]:
        """Yield all that wait at once: all partitions, then those that come again."""
        while self._waiting:
            partitions = list(self._waiting)
            self._waiting.clear()
            tries = max(self._tries[partition] for partition in partitions)
            if tries:
                time.sleep(PAUSES_SECONDS[tries - 1])
            yield partitions

    def requeue(self, partition: str, error: Exception) -> bool:
        """Whether the partition will come again: the error may pass, and there is a try left."""
        if not is_transient(error) or self._tries[partition] >= len(PAUSES_SECONDS):
            return False
        self._tries[partition] += 1
        self._waiting.append(partition)
        return True


@contextmanager
def retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Let Dagster try a step again where what failed may pass; bad data is never tried again."""
    try:
        yield
    except Exception as error:
        tries = context.retry_number
        if not is_transient(error) or tries >= len(PAUSES_SECONDS):
            raise
        raise dg.RetryRequested(len(PAUSES_SECONDS), PAUSES_SECONDS[tries]) from error


@contextmanager
def expected_refusals(platform: Platform) -> Iterator[None]:
    """Fail a run with the text of an error of Lakebed alone: what was found and what to do.

    A stack trace says nothing about a refused file or a broken model. Other errors keep theirs.
    """
    try:
        yield
    except LakebedError as error:
        raise dg.Failure(platform.text_of(error), allow_retries=False) from None


def partitions_failed(failed: Sequence[tuple[str, str]], of: int) -> dg.Failure:
    """Return what ends a run of which some partitions failed, as (partition, why)."""
    return dg.Failure(
        f"{len(failed)} of {of} partitions failed: "
        + " | ".join(f"{partition}: {why}" for partition, why in failed[:5]),
        allow_retries=False,
    )
