"""The programs that are measured, and how."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
import requests

from tests.support.model_server import ServerHandle, free_ports

GIVE_UP_SECONDS = 1800


class Program(StrEnum):
    """Modules to run."""

    FLOOR = "tests.bench.floor"
    BLOG = "tests.bench.blog"
    WORKER = "worker"


@dataclass(frozen=True)
class Measured:
    """One process, from its first record to its last."""

    name: str
    reviews: int
    cpu_us: float
    """Microseconds of the process's CPU for each review, start-up left out."""
    per_second: float
    resident_bytes: int
    """Resident memory at the end, before it exits."""
    ready_seconds: float
    """From the process's start until it asked for its first record."""


@dataclass(frozen=True)
class Candidate:
    """A program, and how many reviews it is given."""

    name: str
    program: Program
    reviews: int
    arguments: tuple[str, ...] = ()

    def run(self, bootstrap: str, server: ServerHandle, topics: list[str], folder: Path) -> Measured:
        """Runs it over a topic that already holds the reviews."""
        if self.program is Program.WORKER:
            return self._run_worker(bootstrap, server, topics, folder)
        command = [sys.executable, "-m", self.program, bootstrap, *topics[:2], str(self.reviews), server.rest_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP_SECONDS, check=True)
        ready, wall, cpu, resident = (float(word) for word in done.stdout.split()[-4:])
        return self._measured(cpu, wall, int(resident), ready)

    def _run_worker(self, bootstrap: str, server: ServerHandle, topics: list[str], folder: Path) -> Measured:
        worker = WorkerUnderTest(bootstrap, server.grpc_target, topics, folder, self.arguments)
        try:
            ready = worker.wait_ready()
            started, cpu = time.perf_counter(), worker.cpu_seconds()
            done = worker.wait_answered(self.reviews)
            return self._measured(worker.cpu_seconds() - cpu, done - started, worker.process.memory_info().rss, ready)
        finally:
            worker.stop()

    def _measured(self, cpu: float, wall: float, resident: int, ready: float) -> Measured:
        return Measured(self.name, self.reviews, cpu / self.reviews * 1e6, self.reviews / wall, resident, ready)


class WorkerUnderTest:
    """A real worker process."""

    def __init__(
        self, bootstrap: str, grpc_target: str, topics: list[str], folder: Path, arguments: tuple[str, ...]
    ) -> None:
        port = free_ports(1)[0]
        self._url = f"http://127.0.0.1:{port}"
        reviews, labels, dead = topics
        command = [sys.executable, "-m", "worker", "run", "--bootstrap", bootstrap, "--serving", grpc_target]
        command += ["--group", reviews, "--input-topic", reviews, "--output-topic", labels, "--dead-letter-topic", dead]
        command += ["--metrics-host", "127.0.0.1", "--metrics-port", str(port), *arguments]
        self._log = (folder / f"{reviews}.log").open("w")
        self._started = time.perf_counter()
        self._popen = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self.process = psutil.Process(self._popen.pid)

    def wait_ready(self) -> float:
        """Seconds from the start until /readyz says yes."""
        while time.perf_counter() - self._started < 60 and self._popen.poll() is None:
            try:
                if requests.get(f"{self._url}/readyz", timeout=1).ok:
                    return time.perf_counter() - self._started
            except requests.ConnectionError:
                pass
            time.sleep(0.01)
        raise SystemExit(
            f"the worker did not get ready; its log is {self._log.name}:\n{Path(self._log.name).read_text()}"
        )

    def wait_answered(self, count: int) -> float:
        """The moment (perf_counter) at which `count` reviews were answered."""
        deadline = time.perf_counter() + GIVE_UP_SECONDS
        while time.perf_counter() < deadline:
            if self.answered() >= count:
                return time.perf_counter()
            time.sleep(0.25)
        raise SystemExit(f"the worker answered only {self.answered()} of {count} reviews")

    def answered(self) -> int:
        """Results and dead letters delivered so far, from its own metrics."""
        text = requests.get(f"{self._url}/metrics", timeout=5).text
        names = ("inferry_results_total", "inferry_dead_letters_total")
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(names)))

    def cpu_seconds(self) -> float:
        """User and system CPU of the worker's process so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        """Ends the process and waits for it."""
        self._popen.terminate()
        self._popen.wait(30)
        self._log.close()
