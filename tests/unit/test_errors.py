"""Every error of the package is a LakebedError that says its exit code and whether to retry."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import psycopg
import pytest

import lakebed
from lakebed.errors import LakebedError, PartlyFailedError, exit_code
from lakebed.models.functions import Returned
from lakebed.orchestration.transient import is_transient
from lakebed.orchestration.up import UpError, _Stopped
from lakebed.resources.postgres import LockWaitError, PostgresUnavailableError
from lakebed.resources.settings import SettingsError
from lakebed.spec.table import TableError
from lakebed.store.locks import LoadBusyError
from lakebed.tiering.lake_copies import LakeCopyBusyError
from lakebed.tiering.partition import PartitionBusyError

SIGNALS = {Returned, _Stopped}
"""What is raised to leave a macro or a wait, and is no error."""


def _raised_by_the_package() -> set[type[BaseException]]:
    found: set[type[BaseException]] = set()
    for module in pkgutil.walk_packages(lakebed.__path__, "lakebed."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        classes = (value for _, value in inspect.getmembers(loaded, inspect.isclass))
        found |= {
            kind
            for kind in classes
            if kind.__module__ == module.name and issubclass(kind, BaseException)
        }
    return found


def test_every_error_of_the_package_derives_from_the_base() -> None:
    found = _raised_by_the_package()
    assert len(found) > 40
    assert {kind for kind in found if not issubclass(kind, LakebedError)} == SIGNALS


def test_every_error_says_what_the_command_exits_with() -> None:
    errors = {kind for kind in _raised_by_the_package() if issubclass(kind, LakebedError)}
    assert {kind.exit_code for kind in errors} == {1, 2, 3}
    assert all(kind.__doc__ for kind in errors)
    assert all(exit_code(kind.__new__(kind)) == kind.exit_code for kind in errors)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (LakebedError, 1),
        (UpError, 1),
        (PartlyFailedError, 1),
        (PartitionBusyError, 1),
        (TableError, 2),
        (SettingsError, 2),
        (PostgresUnavailableError, 3),
    ],
)
def test_the_exit_code_is_that_of_the_class(kind: type[LakebedError], code: int) -> None:
    assert kind.exit_code == code


def test_a_retry_helps_where_somebody_was_busy_or_away() -> None:
    retryable = {kind for kind in _raised_by_the_package() if getattr(kind, "retryable", False)}
    assert {
        LoadBusyError,
        PartitionBusyError,
        LakeCopyBusyError,
        LockWaitError,
        PostgresUnavailableError,
    } <= retryable
    assert TableError not in retryable
    assert all(is_transient(kind.__new__(kind)) for kind in retryable)


def test_a_retry_is_decided_by_the_cause_too() -> None:
    error = UpError("did not start")
    assert not is_transient(error)
    error.__cause__ = LockWaitError("a lock")
    assert is_transient(error)
    assert is_transient(psycopg.errors.SerializationFailure("again"))
    assert not is_transient(psycopg.errors.UniqueViolation("twice"))
