"""Runs tasks that wait for each other, as many at a time as there are threads.

A task that fails skips all that wait for it; the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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
    waiting = list(tasks)
    running: dict[Future[Result], str] = {}
    with ThreadPoolExecutor(threads, thread_name_prefix="lakebed-build") as pool:
        try:
            while waiting or running:
                for task in [*waiting]:
                    if after[task] & failed:
                        results[task] = skip(task)
                        failed.add(task)
                        waiting.remove(task)
                    elif len(running) < threads and after[task] <= results.keys():
                        running[pool.submit(work, task)] = task
                        waiting.remove(task)
                if running:
                    done, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        task = running.pop(future)
                        results[task] = future.result()
                        if is_failed(results[task]):
                            failed.add(task)
        except BaseException:
            stop()
            raise
    return {task: results[task] for task in tasks}
