"""The entry of one process of several; what it does with a parent that lives stands in tests/integration."""

from __future__ import annotations

import socket
import subprocess
import sys

from worker.channel import Begin, Channel
from worker.errors import ExitCode


def run(*, settings: dict[str, object] | None) -> subprocess.CompletedProcess[str]:
    """Starts it, says no more than `settings`, and is gone."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel = Channel(ours)
        if settings is not None:
            channel.send(Begin(3, settings))
        channel.close()
        return subprocess.run(
            [sys.executable, "-m", "worker.child", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def test_a_parent_that_died_before_it_said_anything_leaves_nothing_running() -> None:
    done = run(settings=None)
    assert (done.returncode, done.stderr) == (ExitCode.STOPPED_HARD, "")


def test_a_parent_that_died_while_it_started_leaves_nothing_running() -> None:
    unreachable = "127.0.0.1:1"
    done = run(settings={"bootstrap": unreachable, "serving": unreachable, "metrics_port": 0, "log_format": "json"})
    assert done.returncode in (ExitCode.OK, ExitCode.STOPPED_HARD), done.stderr


def test_its_errors_say_which_process_it_was() -> None:
    done = run(settings={"metrics_host": "192.0.2.1", "metrics_port": 0, "log_format": "json"})
    assert done.returncode == ExitCode.CONFIG
    assert "inferry-worker: process 3: The metrics port" in done.stderr
