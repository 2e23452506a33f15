"""Run tasks that depend on each other, as many at a time as threads allow.

When a task fails, the tasks that depend on it are skipped. The rest goes on.
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
    """Run the tasks, each after its dependencies. Return their results in order.

    Args:
        tasks: The tasks, each after its dependencies.
        after: The dependencies of each task.
        work: Runs one task.
        is_failed: Whether a result is a failure.
        skip: Returns the result of a task that is skipped.
        threads: How many tasks run at a time.
        stop: Called on an interruption, to end the running tasks.
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
