"""How many processes the setting `processes` means, and how many cores there are for them."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
MOST = 256


def process_count(processes: str) -> int:
    """The setting `processes` as a number: `auto` is one for each core that this process may use. Raises ValueError with a
    sentence."""
    if processes == "auto":
        return available_cores()
    if not processes.isascii() or not processes.isdecimal() or not 1 <= int(processes) <= MOST:
        raise ValueError(f"processes is {processes!r}; it can be auto or a number from 1 to {MOST}")
    return int(processes)


def available_cores(cgroups: Path = CGROUPS, own_cgroup: Path = OWN_CGROUP) -> int:
    """At least 1: the cores this process may run on, and no more whole cores than its container's limit on CPU time.

    A part of a core is left out: a worker that is throttled is late for its group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *_limits(cgroups, own_cgroup)])))


def _limits(cgroups: Path, own_cgroup: Path) -> list[float]:
    """The limits on CPU time of our cgroup and of those around it, in cores; none where there are no cgroups of version 2.

    Format of `cpu.max`, `QUOTA PERIOD` in microseconds or `max PERIOD`:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files"""
    try:
        entries = [line.split(":", 2) for line in own_cgroup.read_text().splitlines()]
    except OSError:
        return []
    found = []
    for path in (path for number, _, path in entries if number == "0"):
        own = cgroups / path.lstrip("/")
        for folder in [own, *own.parents]:
            if folder.is_relative_to(cgroups):
                found += _limit(folder / "cpu.max")
    return found


def _limit(file: Path) -> list[float]:
    try:
        quota, period = file.read_text().split()
        return [int(quota) / int(period)]
    except (OSError, ValueError):  # not there, or `max`
        return []
