"""Processes are stopped by their id, die with their starter, and leave a readable account."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from deploy.local.errors import ProcessDied
from deploy.local.processes import Process

PYTHON = sys.executable
SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def test_stop_ends_it(tmp_path: Path) -> None:
    process = Process("sleeper", [PYTHON, "-c", SLEEP], tmp_path / "log")
    assert process.exit_code is None
    process.stop(grace_seconds=30)
    process.stop(grace_seconds=30)
    assert not psutil.pid_exists(process.pid)


def test_what_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    process = Process("deaf", [PYTHON, "-c", DEAF], tmp_path / "log")
    process.wait_until(lambda: "deaf" in process.tail(), timeout_seconds=30)
    process.stop(grace_seconds=0.1)
    assert process.exit_code == -9


def test_an_early_end_is_told_with_its_exit_code_last_words_and_log(tmp_path: Path) -> None:
    process = Process("broken", [PYTHON, "-c", "print('no such thing'); raise SystemExit(7)"], tmp_path / "log")
    with pytest.raises(ProcessDied, match="broken ended with exit code 7") as told:
        process.wait_until(lambda: False, timeout_seconds=30)
    assert "no such thing" in str(told.value)
    assert str(tmp_path / "log") in str(told.value)


def test_not_ready_in_time_is_told(tmp_path: Path) -> None:
    process = Process("slow", [PYTHON, "-c", SLEEP], tmp_path / "log")
    with pytest.raises(ProcessDied, match=r"slow was not ready within 0\.05 s"):
        process.wait_until(lambda: False, timeout_seconds=0.05)
    process.kill()


def test_a_process_started_by_a_thread_outlives_the_thread(tmp_path: Path) -> None:
    started: list[Process] = []
    thread = threading.Thread(target=lambda: started.append(Process("s", [PYTHON, "-c", DEAF], tmp_path / "log")))
    thread.start()
    thread.join()
    [process] = started
    process.wait_until(lambda: "deaf" in process.tail(), timeout_seconds=30)
    assert process.exit_code is None
    process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_process_dies_with_a_starter_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from deploy.local.processes import Process;"
        f"p = Process('deaf', [sys.executable, '-c', {DEAF!r}], Path({str(tmp_path / 'log')!r}));"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([PYTHON, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        orphan = psutil.Process(int(starter.stdout.readline()))
        starter.kill()
        gone, _ = psutil.wait_procs([orphan], timeout=30)
    assert gone
