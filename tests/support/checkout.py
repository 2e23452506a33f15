"""Where the checkout is, and the demo's folders in it."""

from __future__ import annotations

from pathlib import Path

from lakebed.demo.demo_folders import MODELS as DEMO_MODELS
from lakebed.demo.demo_folders import TABLES as DEMO_TABLES

__all__ = ["DEMO_MODELS", "DEMO_TABLES", "ROOT"]

ROOT = Path(__file__).resolve().parents[2]
