"""What of Dagster is private: in one module, and refused by name where it is gone."""

from __future__ import annotations

import re
import runpy

import dagster
import pytest

from lakebed.orchestration import dagster_private
from lakebed.orchestration.dagster_private import DagsterVersionError, private
from tests.support.checkout import ROOT


@pytest.mark.parametrize("owner", ["dagster._core.no_such_module", "dagster._core.events"])
def test_what_is_gone_is_named_with_the_version_that_has_it(owner: str) -> None:
    with pytest.raises(DagsterVersionError) as caught:
        private(owner, "NoSuchThing", "to do something")
    for said in (owner, "NoSuchThing", dagster.__version__, dagster_private.WRITTEN_FOR):
        assert said in str(caught.value)


def test_a_dagster_that_lost_a_class_is_refused_as_soon_as_it_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("dagster._core.events.DagsterEventBatchMetadata")
    with pytest.raises(ImportError, match="DagsterEventBatchMetadata"):
        runpy.run_path(str(dagster_private.__file__))


def test_no_other_module_reaches_into_dagster() -> None:
    reached = re.compile(r"dagster\w*\._|\._(?:engine|run_storage|event_log_storage|instance)\b")
    found = {
        file.name
        for file in (ROOT / "platform_assets" / "orchestration").glob("*.py")
        if reached.search(file.read_text().replace("self._instance", ""))
    }
    assert found == {"dagster_private.py"}
