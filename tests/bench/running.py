"""Runs one program over a topic that already holds the reviews, and reads its CPU and memory from the kernel."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import requests

from deploy.local.ports import free_port
from tests.bench.checking import last_written_seconds
from tests.bench.figures import Measured
from tests.bench.loops.stopwatch import Reading, peak_bytes

GIVE_UP_SECONDS = 1800
LOOK_SECONDS = 1.0
"""How often a worker is asked how far it is: a scrape costs it a few milliseconds, which count as its own."""


class Place(msgspec.Struct, frozen=True):
    """Where a candidate runs: addresses, the topics of its own, and the model's folder."""

    bootstrap: str
    grpc_target: str
    rest_url: str
    topics: Sequence[str]
    """Reviews, results, dead letters."""
    model: Path
    """The served version's folder."""
    logs: Path
    model_pid: int


def run_loop(module: str, reviews: int, place: Place) -> Measured:
    """A loop, which counts for itself (see loops.stopwatch)."""
    reviews_topic, results_topic, _ = place.topics
    arguments = [place.bootstrap, reviews_topic, results_topic, str(reviews), str(place.model)]
    command = [sys.executable, "-m", module, *arguments, place.grpc_target, place.rest_url]
    model_seconds = cpu_seconds(place.model_pid)
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP_SECONDS, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stderr}")
    reading = msgspec.json.decode(done.stdout.splitlines()[-1], type=Reading)
    return Measured(
        reviews,
        reading.cpu_seconds / reviews * 1e6,
        reviews / reading.wall_seconds,
        reading.peak_bytes,
        reading.ready_seconds,
        (cpu_seconds(place.model_pid) - model_seconds) / reviews * 1e6,
    )


def run_worker(module: str, arguments: Sequence[str], reviews: int, place: Place) -> Measured:
    """A real worker, all its processes."""
    worker = WorkerUnderTest(place, arguments, module=module)
    try:
        ready = worker.wait_ready()
        started, cpu, model = time.time(), worker.cpu_seconds(), cpu_seconds(place.model_pid)
        worker.wait_answered(reviews)
        spent = worker.cpu_seconds() - cpu
        done = last_written_seconds(place.bootstrap, place.topics[1])
        return Measured(
            reviews,
            spent / reviews * 1e6,
            reviews / (done - started),
            worker.peak_bytes(),
            ready,
            (cpu_seconds(place.model_pid) - model) / reviews * 1e6,
        )
    finally:
        worker.stop()


class WorkerUnderTest:
    """A worker over a place's topics; its group is named after the topic of reviews."""

    def __init__(self, place: Place, arguments: Sequence[str] = (), *, module: str = "worker") -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        reviews, results, dead = place.topics
        command = [sys.executable, "-m", module, "run", "--bootstrap", place.bootstrap, "--serving", place.grpc_target]
        command += ["--group", reviews, "--input-topic", reviews, "--output-topic", results]
        command += ["--dead-letter-topic", dead, "--metrics-host", "127.0.0.1", "--metrics-port", str(port), *arguments]
        self._log = place.logs / f"{reviews}.log"
        self._started = time.perf_counter()
        with self._log.open("w") as log:
            self._popen = subprocess.Popen(command, stdout=log, stderr=log)
        self._process = psutil.Process(self._popen.pid)

    def wait_ready(self) -> float:
        """Seconds from the start until /readyz says yes."""
        while time.perf_counter() - self._started < 60 and self._popen.poll() is None:
            try:
                if requests.get(f"{self._url}/readyz", timeout=1).ok:
                    return time.perf_counter() - self._started
            except requests.ConnectionError:
                pass
            time.sleep(0.01)
        raise SystemExit(f"the worker did not get ready; its log is:\n{self._log.read_text()}")

    def wait_answered(self, count: int) -> None:
        """Returns soon after `count` reviews are answered."""
        deadline = time.perf_counter() + GIVE_UP_SECONDS
        while time.perf_counter() < deadline:
            if self.answered() >= count:
                return
            time.sleep(LOOK_SECONDS)
        raise SystemExit(f"the worker answered only {self.answered()} of {count} reviews")

    def answered(self) -> int:
        """Results and dead letters delivered so far, from its own metrics."""
        text = requests.get(f"{self._url}/metrics", timeout=5).text
        names = ("inferry_results_total", "inferry_dead_letters_total")
        return int(sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(names)))

    def cpu_seconds(self) -> float:
        """User and system CPU of its processes so far."""
        return sum(cpu_seconds(each.pid) for each in self._processes())

    def peak_bytes(self) -> int:
        """The most resident memory that each of its processes ever had, added up."""
        return sum(peak_bytes(each.pid) for each in self._processes())

    def stop(self) -> None:
        """Ends it and waits for it."""
        self._popen.terminate()
        self._popen.wait(30)

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


def cpu_seconds(pid: int) -> float:
    """User and system CPU of one process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
