"""Stop signals: the first is soft, the next are hard, and none of them waits for a lock."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, sys
from threading import Event
from worker.signals import on_stop_signals

stopping = Event()
said = []

def stop(*, hard):
    said.append(hard)
    stopping.set()  # takes the lock that the main thread holds whenever it begins or ends to wait
    if len(said) == 2:
        print(said)
        sys.stdout.flush()
        os._exit(0)

on_stop_signals(stop)
"""


def run(rest: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + rest], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_first_signal_is_soft_and_the_second_hard() -> None:
    done = run(
        "signal.raise_signal(signal.SIGTERM)\nstopping.wait()\nsignal.raise_signal(signal.SIGINT)\nEvent().wait()\n"
    )
    assert (done.stdout, done.stderr) == ("[False, True]\n", "")


def test_a_signal_that_comes_while_the_event_s_lock_is_held_blocks_nothing() -> None:
    done = run(
        "with stopping._cond:\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "Event().wait()\n"
    )
    assert (done.stdout, done.stderr) == ("[False, True]\n", "")


def test_where_all_are_soft_the_second_is_too() -> None:
    program = PROGRAM.replace("on_stop_signals", "on_soft_stop_signals")
    rest = "signal.raise_signal(signal.SIGTERM)\nstopping.wait()\nsignal.raise_signal(signal.SIGTERM)\nEvent().wait()\n"
    done = subprocess.run(
        [sys.executable, "-c", program + rest], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[False, False]\n", "")
