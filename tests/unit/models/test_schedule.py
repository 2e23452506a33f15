"""Tasks that wait for each other: their order, how many run at once, what a failed one skips."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from lakebed.models.schedule import run_tasks

DIAMOND = {"top": (), "left": ("top",), "right": ("top",), "end": ("left", "right")}


class Runner:
    """Runs tasks and notes their order; fails those that it is told to fail."""

    def __init__(self, *failing: str, threads: int = 1) -> None:
        self.failing, self.threads = failing, threads
        self.begun: list[str] = []
        self.most = self.now = self.stopped = 0
        self._lock = threading.Lock()

    def run(self, after: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
        return run_tasks(
            list(after),
            {task: frozenset(before) for task, before in after.items()},
            self._work,
            is_failed=lambda result: result != "done",
            skip=lambda task: "skipped",
            threads=self.threads,
            stop=self._stop,
        )

    def _work(self, task: str) -> str:
        with self._lock:
            self.begun.append(task)
            self.now += 1
            self.most = max(self.most, self.now)
        if task == "interrupted":
            raise KeyboardInterrupt
        threading.Event().wait(0.01)
        with self._lock:
            self.now -= 1
        return "failed" if task in self.failing else "done"

    def _stop(self) -> None:
        self.stopped += 1


def test_a_task_runs_after_those_that_it_waits_for_in_their_order() -> None:
    runner = Runner()
    assert runner.run(DIAMOND) == dict.fromkeys(DIAMOND, "done")
    assert runner.begun == ["top", "left", "right", "end"]


def test_a_failed_task_skips_all_that_wait_for_it_and_no_other() -> None:
    runner = Runner("left")
    assert runner.run(DIAMOND | {"last": ("end",)}) == {
        "top": "done",
        "left": "failed",
        "right": "done",
        "end": "skipped",
        "last": "skipped",
    }
    assert runner.begun == ["top", "left", "right"]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_as_many_run_at_once_as_there_are_threads(threads: int) -> None:
    runner = Runner(threads=threads)
    tasks = {str(number): () for number in range(8)}
    assert runner.run(tasks) == dict.fromkeys(tasks, "done")
    assert runner.most <= threads
    assert (runner.most > 1) == (threads > 1)


def test_an_interrupt_stops_what_runs() -> None:
    runner = Runner()
    with pytest.raises(KeyboardInterrupt):
        runner.run({"first": (), "interrupted": ("first",), "never": ("interrupted",)})
    assert (runner.begun, runner.stopped) == (["first", "interrupted"], 1)


def test_no_task_is_no_work() -> None:
    assert Runner().run({}) == {}
