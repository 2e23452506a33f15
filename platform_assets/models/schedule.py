"""Runs tasks that wait for each other, as many at a time as there are threads.

A task that fails skips all that wait for it; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from typing import TypeVar

Result = TypeVar("Result")


def run_tasks(
    tasks: Sequence[str],
    after: Mapping[str, frozenset[str]],
    work: Callable[[str], Result],
    *,
    is_failed: Callable[[Result], bool],
    skip: Callable[[str], Result],
    threads: int,
    stop: Callable[[], None],
) -> dict[str, Result]:
    """Run the tasks, each after those that it waits for; return their results in order.

    tasks: in an order in which each comes after those it waits for.  skip: the result of a task
    that is not run.  stop: called where this is interrupted, so that running tasks end.
    """
    results: dict[str, Result] = {}
    failed: set[str] = set()
    rank = {task: place for place, task in enumerate(tasks)}
    order = TopologicalSorter(after)
    order.prepare()
    ready: list[str] = []
    running: dict[Future[Result], str] = {}

    def ended(task: str, result: Result) -> None:
        results[task] = result
        if is_failed(result):
            failed.add(task)
        order.done(task)

    with ThreadPoolExecutor(threads, thread_name_prefix="lakebed-build") as pool:
        try:
            while order.is_active():
                ready = sorted([*ready, *order.get_ready()], key=rank.__getitem__)
                lost = next((task for task in ready if after[task] & failed), None)
                if lost is not None:
                    ready.remove(lost)
                    failed.add(lost)
                    ended(lost, skip(lost))
                    continue
                while ready and len(running) < threads:
                    task = ready.pop(0)
                    running[pool.submit(work, task)] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    ended(running.pop(future), future.result())
        except BaseException:
            stop()
            raise
    return {task: results[task] for task in tasks}
