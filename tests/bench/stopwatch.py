"""Wall and CPU time of this very process."""

from __future__ import annotations

import os
import time

import psutil


class Stopwatch:
    """Starts when it is made, right before the first record is asked for."""

    def __init__(self) -> None:
        self._ready_seconds = time.time() - psutil.Process().create_time()
        self._wall, self._cpu = time.perf_counter(), _cpu_seconds()

    def read(self) -> tuple[float, float, float, int]:
        """Seconds from the process's start to the watch's, wall and CPU seconds since, resident bytes now."""
        rss = psutil.Process().memory_info().rss
        return self._ready_seconds, time.perf_counter() - self._wall, _cpu_seconds() - self._cpu, rss


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
