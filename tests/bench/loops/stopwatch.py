"""Time, CPU and memory of this very process, from its first record to its last."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import psutil


class Reading(msgspec.Struct, frozen=True):
    """What a loop tells of itself, as one line of JSON."""

    ready_seconds: float
    """From the process's start until it asked for its first record."""
    wall_seconds: float
    cpu_seconds: float
    """User and system, all threads."""
    peak_bytes: int
    """The most resident memory it ever had."""


class Stopwatch:
    """Starts when it is made, right before the first record is asked for."""

    def __init__(self) -> None:
        self._ready_seconds = time.time() - psutil.Process().create_time()
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def tell(self) -> None:
        """Prints the reading."""
        wall, cpu = time.perf_counter() - self._wall, _cpu_seconds() - self._cpu
        reading = Reading(self._ready_seconds, wall, cpu, peak_bytes(os.getpid()))
        sys.stdout.write(msgspec.json.encode(reading).decode() + "\n")


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process ever had: VmHWM in /proc/<pid>/status (proc(5)), in kB there. getrusage's
    figure would be that of the process which started it, if that was larger."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
