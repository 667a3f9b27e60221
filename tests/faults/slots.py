"""Workers under supervision: a slot keeps one worker alive, as a service manager would, behind proxies of its own."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.faults.proxy import Mode, Proxy
from tests.faults.worker_with_faults import arm
from tests.support.harness import WorkerProcess, wait_for
from worker.errors import ExitCode

PROGRAM = ("-m", "tests.faults.worker_with_faults")
SETTINGS: dict[str, Any] = {
    "window_records": 250,
    "max_windows": 3,
    "batch_rows": 64,
    "audit_headers": True,
    "kafka_request_timeout_seconds": 2,
    "kafka_delivery_timeout_seconds": 3,
    "transaction_timeout_seconds": 4,
    "session_timeout_seconds": 6,
    "max_poll_interval_seconds": 10,
    "request_timeout_seconds": 3,
    "retry_delay_seconds": 0.05,
    "max_retry_delay_seconds": 1,
    "model_poll_seconds": 0.5,
    "drain_seconds": 5,
}
"""Limits as short as they nest, so that a run of minutes passes all of them often."""

EXPECTED_ENDS = {-signal.SIGKILL, -signal.SIGTERM, ExitCode.OK, ExitCode.STOPPED_HARD}
"""What a worker may end with whenever a fault kills or stops it; SIGTERM itself ends it before it has installed a handler.
Everything else needs a reason."""


class History:
    """What happened when, one JSON object a line. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("a")
        self._started = time.monotonic()
        self._lock = threading.Lock()

    def note(self, event: str, **details: object) -> None:
        line = json.dumps({"at_seconds": round(time.monotonic() - self._started, 3), "event": event, **details})
        with self._lock:
            if not self._file.closed:
                print(line, file=self._file, flush=True)

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Slot:
    """One worker's place: its identity, its proxies to broker and model server, and whichever process runs there now."""

    def __init__(
        self, name: str, settings: Mapping[str, object], kafka: Proxy, serving: Proxy, folder: Path, history: History
    ) -> None:
        self.name = name
        self.kafka = kafka
        self.serving = serving
        self.ends: list[int] = []
        """Exit codes of the processes that ended here."""
        self.allowed: set[int] = set(EXPECTED_ENDS)
        self._arms = folder / f"{name}.arms"
        self._log = folder / f"{name}.log"
        self._settings = {**settings, "bootstrap": kafka.address, "serving": serving.address}
        self._history = history
        self._overrides: dict[str, object] = {}
        self._process: WorkerProcess | None = None
        self._stopped = threading.Event()
        self._keeper: threading.Thread | None = None

    def start(self, overrides: Mapping[str, object] | None = None) -> None:
        """Starts a worker and keeps one running until `stop`; `overrides` are settings for this time only."""
        self._stopped.clear()
        self._overrides = dict(overrides or {})
        self._launch()
        self._keeper = threading.Thread(target=self._keep, name=f"keeper-{self.name}", daemon=True)
        self._keeper.start()

    @property
    def process(self) -> WorkerProcess:
        assert self._process is not None, "the slot was not started"
        return self._process

    @property
    def unexpected_ends(self) -> list[int]:
        return [code for code in self.ends if code not in self.allowed]

    def strike(self, step: str, count: int, action: str = "kill", *, within_seconds: float = 15.0) -> bool:
        """Arms the worker and waits until it passed the step. Whether it did; otherwise it is disarmed."""
        arm(self._arms, step, count, action)
        try:
            wait_for(lambda: not self._arms.exists(), within_seconds, f"step {step}")
        except TimeoutError:
            self._arms.unlink(missing_ok=True)
            return False
        return True

    def arm(self, step: str, count: int, action: str = "kill") -> None:
        """Arms the worker, or the next one, without waiting."""
        arm(self._arms, step, count, action)

    @property
    def armed(self) -> bool:
        return self._arms.exists()

    def disarm(self) -> None:
        self._arms.unlink(missing_ok=True)

    def opinion(self) -> str:
        """What its worker thinks now: its probes, its lag, and what it tells of itself; as far as it answers."""
        process = self.process
        for old in self._opinions():
            old.unlink(missing_ok=True)
        if process.exit_code is None:
            process.ask()
        try:
            wait_for(lambda: len(self._opinions()) >= self.processes, 5, f"the opinion of {self.name}")
            inside = ""
        except TimeoutError as error:
            inside = str(error)
        inside += "\n".join(told.read_text() for told in self._opinions())
        lag = {name: value for name, value in process.metrics().items() if name.startswith("inferry_lag_records")}
        probes = [process.get(path) for path in ("/livez", "/readyz")]
        return f"{self.name}: pid {process.pid}, ended: {process.exit_code}, probes {probes}, lag {lag}\n{inside}"

    def _opinions(self) -> list[Path]:
        return sorted(self._arms.parent.glob(f"{self.name}*.opinion"))

    @property
    def processes(self) -> int:
        """How many processes the worker that runs here has, its parent apart."""
        return int(str({**self._settings, **self._overrides}.get("processes", 1)))

    def children(self) -> list[psutil.Process]:
        """Those of its processes that run now; none where the worker is a single one."""
        with suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children()
        return []

    def pause(self, seconds: float) -> None:
        """SIGSTOP to the worker, each of its processes included, and SIGCONT after a while. Blocks so long."""
        process, children = self.process, self.children()
        process.pause()
        signal_all(children, signal.SIGSTOP)
        time.sleep(seconds)
        _resume(process, children)

    def heal(self) -> None:
        """Undoes whatever a fault left behind."""
        self.disarm()
        self.kafka.let_through()
        self.kafka.mode = self.serving.mode = Mode.OPEN
        _resume(self.process, self.children())

    def stop(self) -> None:
        """Ends the supervision, then the worker with SIGTERM."""
        self._stopped.set()
        if self._keeper is not None:
            self._keeper.join()
        if self._process is not None and self._process.exit_code is None:
            _resume(self._process, self.children())
            self._end(self._process.stop())

    def close(self) -> None:
        self.stop()
        self.kafka.close()
        self.serving.close()

    def wait_restarted(self, before: WorkerProcess, timeout_seconds: float = 60.0) -> None:
        """Blocks until another process than `before` is ready."""
        wait_for(lambda: self.process is not before and self.process.ready(), timeout_seconds, f"{self.name}'s restart")

    def _launch(self) -> None:
        program = (*PROGRAM, str(self._arms), "run")
        self._process = WorkerProcess({**self._settings, **self._overrides}, self._log, program=program)
        self._history.note("started", worker=self.name, pid=self._process.pid)

    def _keep(self) -> None:
        while not self._stopped.wait(0.1):
            code = self.process.exit_code
            if code is not None:
                self._end(code)
                self._launch()

    def _end(self, code: int | None) -> None:
        if code is not None:
            self.ends.append(code)
            self._history.note("ended", worker=self.name, pid=self.process.pid, code=code)


def _resume(process: WorkerProcess, children: Iterable[psutil.Process]) -> None:
    process.resume()
    signal_all(children, signal.SIGCONT)


def signal_all(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Signals those that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def make_slot(
    name: str,
    settings: Mapping[str, object],
    kafka: Proxy,
    serving_target: tuple[str, int],
    folder: Path,
    history: History,
) -> Slot:
    """A slot whose transactional id is its own name."""
    own = {**SETTINGS, **settings, "transactional_id": f"faults.{name}"}
    return Slot(name, own, kafka, Proxy(serving_target), folder, history)
