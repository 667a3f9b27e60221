"""The core speaks of causes and element types; gRPC's and TensorFlow's names stay in the adapter that knows them."""

from __future__ import annotations

import re
from pathlib import Path

import grpc
import pytest

import worker

ROOT = Path(worker.__file__).parent
CORE = [
    *(ROOT / name for name in ("records.py", "ports.py", "errors.py", "state.py", "backoff.py", "testing.py")),
    *sorted((ROOT / "pipeline").glob("*.py")),
    *sorted((ROOT / "text").glob("*.py")),
]
STATUSES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
NAMES = "|".join(status for status in STATUSES if "_" in status)
QUOTED = "|".join(f'"{status}"' for status in STATUSES)
FOREIGN = re.compile(rf"{NAMES}|{QUOTED}|\bDT_\w+|(?i:grpc)")


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_core_knows_no_foreign_words(path: Path) -> None:
    found = [line for line in path.read_text(encoding="utf-8").splitlines() if FOREIGN.search(line)]
    assert found == []
