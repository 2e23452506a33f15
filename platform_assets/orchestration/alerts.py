"""Alerts: one JSON document posted to a webhook, in the form that Slack reads."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Sequence

TIMEOUT_SECONDS = 10


def post_alert(
    url: str,
    *,
    run_id: str,
    assets: Sequence[str],
    partition: str | None,
    error: str,
    ui_url: str | None = None,
) -> None:
    """Post what failed, with a link to the run.

    ui_url: where people reach the Dagster UI; None where it is not set.
    Raises urllib.error.URLError where the address does not answer.
    """
    what = ", ".join(assets) or "a run"
    where = f", partition {partition}" if partition else ""
    link = f"{ui_url.rstrip('/')}/runs/{run_id}" if ui_url else None
    # The angle brackets make a link in Slack; other chats show them.
    after = f" <{link}|the run>" if link else ""
    document = {
        "text": f"Lakebed: {what}{where} failed: {error}{after}",
        "assets": list(assets),
        "partition": partition,
        "error": error,
        "run_id": run_id,
        "link": link,
    }
    request = urllib.request.Request(
        url,
        data=json.dumps(document).encode(),
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
        pass
