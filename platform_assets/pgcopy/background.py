"""Run calls in a background thread, and prefetch the items of an iterator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class BackgroundWorker:
    """A thread that runs submitted calls in order, while its caller prepares the next one.

    Leaving the block waits for the call that runs and drops those that wait. What a call raised is
    raised by the next `submit` or `wait`.
    """

    def __init__(self, name: str, waiting: int = 2) -> None:
        """Let at most `waiting` calls wait; `submit` blocks until one has finished."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._room = waiting
        self._waiting: deque[Future[None]] = deque()

    def submit(self, call: Callable[..., None], *arguments: Any) -> None:
        """Have a call done; wait for room."""
        while len(self._waiting) > self._room:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(call, *arguments))

    def join(self) -> None:
        """Wait until all is done."""
        while self._waiting:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def prefetch(items: Iterator[T], depth: int) -> Iterator[T]:
    """Yield items while a second thread makes the next few."""
    with ThreadPoolExecutor(1, thread_name_prefix="lakebed_ahead") as pool:
        coming = deque(pool.submit(next, items, None) for _ in range(depth))
        while (item := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, items, None))
            yield item
