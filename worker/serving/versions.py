"""Which of the versions that a server offers is the one to use, and the thread that keeps asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Event, Thread

from worker.serving.errors import no_version

NEWEST = "newest"
AVAILABLE = "AVAILABLE"


def is_label(wanted: str) -> bool:
    """Whether the setting names a version label, rather than `newest` or a number."""
    return wanted != NEWEST and not wanted.isdecimal()


def choose(states: Mapping[int, str], wanted: str, model: str) -> int:
    """The version to use, given the state of each (ModelVersionStatus.State by name) and `newest` or a number.

    Raises ServingUnavailable when that version is not AVAILABLE; it may still be loading."""
    available = [version for version, state in states.items() if state == AVAILABLE]
    version = max(available, default=None) if wanted == NEWEST else int(wanted)
    if version in available:
        return version
    told = ", ".join(f"{version} is {state}" for version, state in sorted(states.items())) or "it has no versions"
    what = "no version is" if wanted == NEWEST else f"version {wanted} is not"
    raise no_version(f"Of model {model} {what} AVAILABLE: {told}.")


class Watcher:
    """A thread that calls `check` every `period_seconds` until it is closed. `check` must not raise."""

    def __init__(self, check: Callable[[], None], period_seconds: float) -> None:
        self._check = check
        self._period_seconds = period_seconds
        self._closing = Event()
        self._thread = Thread(target=self._run, name="model-watcher", daemon=True)

    def start(self) -> None:
        """The first check comes one period from now. Idempotent."""
        if self._thread.ident is None:
            self._thread.start()

    def close(self, timeout_seconds: float) -> None:
        """Waits for a check under way, but no longer than `timeout_seconds`. Idempotent."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while not self._closing.wait(self._period_seconds):
            self._check()
