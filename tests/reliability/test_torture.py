"""The torture, for a while: no reader is ever wrong, and all is there once in the end.

TORTURE_SECONDS and TORTURE_SEED say for how long, and which; CI plays two minutes.
"""

from __future__ import annotations

import os
import sys

import pytest

from tests.conftest import open_folder
from tests.reliability.torture import play

SECONDS = float(os.environ.get("TORTURE_SECONDS", "20"))
SEED = int(os.environ.get("TORTURE_SEED", "1"))
KILLS = 40 if os.environ.get("THOROUGH") else 10


@pytest.mark.slow
def test_nobody_sees_a_row_twice_or_misses_one_whoever_is_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with open_folder() as folder:
        tally = play(folder, SEED, SECONDS, KILLS)
    with capsys.disabled():
        print(f"\n{tally}", file=sys.stderr)
    assert tally.violations == [], str(tally)
    assert tally.kills >= KILLS
    counts = tally.counts
    assert counts["reads"] and counts["reads by psql"] and counts["writes acknowledged"]
    assert counts["done: move"] + counts["done: fold"] and counts["crashes of the server"]
