from pathlib import Path

from lakebed import build_defs, read_settings

defs = build_defs(read_settings(folder=Path(__file__).parent))
