"""The programs of the stack as processes: started, watched, and stopped by process id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.local.errors import ProcessDied

TETHER = Path(__file__).with_name("tether.py")
POLL_SECONDS = 0.02
TAIL_LINES = 5

# The kernel ends a tethered process when the *thread* that started it ends, so one thread that lives as long as
# this process starts them all; otherwise a broker restarted from a short-lived thread would die with it.
_starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")


class Process:
    """One running program of the stack. Its output goes to `log` (appended), and it dies with this process."""

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        program = [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *(str(part) for part in command)]
        self._popen = _starter.submit(_start, program, log, {**os.environ, **(environment or {})}).result()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._popen.poll()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Blocks until `ready()`; raises ProcessDied when the process ends first or time runs out."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if self.exit_code is not None:
                raise ProcessDied(self.obituary())
            if time.monotonic() > deadline:
                raise ProcessDied(f"{self.name} was not ready within {timeout_seconds:g} s. Its log: {self.log}")
            time.sleep(POLL_SECONDS)

    def obituary(self) -> str:
        """Why it ended, as far as its log tells."""
        tail = self.tail()
        said = f" Its last lines:\n{tail}" if tail else ""
        return f"{self.name} ended with exit code {self.exit_code}. Its log: {self.log}.{said}"

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of its log."""
        text = self.log.read_text("utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.strip().splitlines()[-lines:])

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL after `grace_seconds`. Blocks until it is gone; idempotent."""
        if self.exit_code is None:
            self._popen.terminate()
            try:
                self._popen.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL. Blocks until it is gone; idempotent."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; does nothing when it has ended."""
        if self.exit_code is None:
            self._popen.send_signal(number)


def _start(program: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in a terminal reaches us, and we stop it in order
        )
