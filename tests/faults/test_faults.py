"""The short form of `make faults`: a hundred seeded faults, two hundred thousand reviews."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SEED = 4
FAULTS = 100
KINDS = 20
MESSAGES = 200_000
LIMIT_SECONDS = 900


@pytest.mark.lasts(400)
@pytest.mark.timeout(LIMIT_SECONDS + 60)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_fails(tmp_path: Path) -> None:
    # A process of its own: the run's clients lose their connections as well, and leave sockets to the garbage collector.
    command = [sys.executable, "-m", "tests.faults", "--seed", str(SEED), "--faults", str(FAULTS)]
    command += ["--messages", str(MESSAGES), "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    told = " ".join(done.stdout.split())
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}\nhistory and logs: {tmp_path}"
    faults, kinds = _numbers(rf"seed {SEED}: ([\d,]+) faults of ([\d,]+) kinds", told)
    (messages,) = _numbers(r"([\d,]+) messages checked", told)
    assert faults >= FAULTS
    assert kinds >= KINDS
    assert messages >= MESSAGES


def _numbers(pattern: str, text: str) -> list[int]:
    found = re.search(pattern, text)
    assert found is not None, text
    return [int(number.replace(",", "")) for number in found.groups()]
