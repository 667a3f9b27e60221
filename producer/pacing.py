"""A steady rate."""

from __future__ import annotations

import time
from collections.abc import Callable

_LONGEST_CATCH_UP_SECONDS = 1.0


class Pacer:
    """Spreads calls of `wait` evenly at `rate` per second. After a stall it catches up at most one second's worth,
    so that a slow input is not followed by a flood. `rate` None: no waiting at all."""

    def __init__(
        self,
        rate: float | None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_seconds = 1 / rate if rate else 0.0
        self._monotonic = monotonic
        self._sleep = sleep
        self._due = monotonic()

    def wait(self) -> None:
        """Blocks until the next call is due."""
        if not self._interval_seconds:
            return
        now = self._monotonic()
        if self._due > now:
            self._sleep(self._due - now)
        self._due = max(self._due, now - _LONGEST_CATCH_UP_SECONDS) + self._interval_seconds
