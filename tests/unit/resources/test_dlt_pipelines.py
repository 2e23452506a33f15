"""How dlt is set up: quiet and without telemetry, unless its own settings say otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.checkout import ROOT

PROBE = """
import json, os
environment = dict(os.environ)
from lakebed.resources.dlt_pipelines import configure_dlt
import dlt
configure_dlt()
runtime = dlt.current.run_context().runtime_config
print(json.dumps({
    "telemetry": runtime.dlthub_telemetry,
    "level": runtime.log_level,
    "keeps": not dlt.config.get("load.delete_completed_jobs", bool),
    "environment": dict(os.environ) == environment,
}))
"""


@pytest.mark.parametrize(
    ("environ", "level"),
    [({}, "CRITICAL"), ({"RUNTIME__LOG_LEVEL": "INFO"}, "INFO")],
    ids=["ours", "the user's"],
)
def test_dlt_is_quiet_unless_its_own_settings_say_otherwise(
    environ: dict[str, str], level: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={**os.environ, **environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == {
        "telemetry": False,
        "level": level,
        "keeps": False,
        "environment": True,
    }
