"""Alerts: one JSON document posted to a webhook, in the form that Slack reads."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence

TIMEOUT_SECONDS = 10


def post_alert(
    url: str, *, run_id: str, assets: Sequence[str], partition: str | None, error: str
) -> None:
    """Post what failed. Raises urllib.error.URLError where nobody takes it."""
    what = ", ".join(assets) or "a run"
    where = f", partition {partition}" if partition else ""
    document = {
        "text": f"Lakebed: {what}{where} failed: {error}",
        "assets": list(assets),
        "partition": partition,
        "error": error,
        "run_id": run_id,
    }
    request = urllib.request.Request(
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
        pass
