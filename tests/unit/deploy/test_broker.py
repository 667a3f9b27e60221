"""A broker that does not come up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.local import broker
from deploy.local.broker import Broker
from deploy.local.errors import ProcessDied


class SlowProcess:
    """A program that never gets ready."""

    killed = 0
    exit_code = None

    def __init__(self, *_given: Any) -> None:
        pass

    def wait_until(self, _ready: object, _timeout_seconds: float) -> None:
        raise ProcessDied("not ready")

    def kill(self) -> None:
        SlowProcess.killed += 1


def test_one_that_is_too_slow_is_ended_and_is_no_broker_that_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Left alone it would hold port and folder, and a second start would take it for one that answers."""
    monkeypatch.setattr(broker, "Process", SlowProcess)
    monkeypatch.setattr(broker, "ensure_jars", lambda _folder: [])
    monkeypatch.setattr(broker, "find_java", lambda: "java")
    monkeypatch.setattr(Broker, "_format", lambda *_given: None)
    slow = Broker(tmp_path)
    for attempt in (1, 2):
        with pytest.raises(ProcessDied, match="not ready"):
            slow.start()
        assert SlowProcess.killed == attempt
        assert not slow.running
