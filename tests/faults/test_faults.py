"""The short form of `make faults`: a hundred seeded faults, two hundred thousand reviews."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.__main__ import show
from tests.faults.runner import Plan, run

SEED = 4
FAULTS = 100
KINDS = 20
MESSAGES = 200_000


# The run's own clients lose their connections, too, and do not close each socket by themselves.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(1_500)
def test_nothing_is_lost_doubled_or_out_of_order_whatever_fails(tmp_path: Path) -> None:
    outcome = run(Plan(seed=SEED, faults=FAULTS, messages=MESSAGES), tmp_path)
    show(outcome)
    assert outcome.ok, f"seed {SEED}; history and logs: {tmp_path}"
    assert outcome.faults.total() >= FAULTS
    assert len(outcome.faults) >= KINDS
    assert outcome.report.messages >= MESSAGES
