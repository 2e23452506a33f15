"""Trying again: how often, after which errors, and what is raised in the end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lakebed.resources.retries import retrying


def failing(times: int, error: Exception) -> tuple[list[float], Callable[[], str]]:
    """Return when a function was called, and the function, which fails so many times."""
    calls: list[float] = []

    def work() -> str:
        calls.append(time.monotonic())
        if len(calls) <= times:
            raise error
        return "done"

    return calls, work


def test_what_fails_twice_is_done_at_the_third_attempt() -> None:
    calls, work = failing(2, TimeoutError("busy"))
    assert retrying(3, TimeoutError, first=0.01)(work) == "done"
    assert len(calls) == 3


def test_the_last_error_is_raised_as_it_is() -> None:
    calls, work = failing(9, TimeoutError("busy"))
    with pytest.raises(TimeoutError, match="busy"):
        retrying(3, TimeoutError, first=0.01)(work)
    assert len(calls) == 3


def test_another_error_is_raised_at_once() -> None:
    calls, work = failing(9, ValueError("bad"))
    with pytest.raises(ValueError, match="bad"):
        retrying(3, TimeoutError, first=0.01)(work)
    assert len(calls) == 1


def test_a_number_of_seconds_outlasts_the_attempts() -> None:
    calls, work = failing(10**6, TimeoutError("busy"))
    with pytest.raises(TimeoutError):
        retrying(2, TimeoutError, first=0.02, longest=0.02, seconds=0.2)(work)
    assert len(calls) > 2
    assert calls[-1] - calls[0] >= 0.15
