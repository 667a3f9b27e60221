"""ports.Clock over the machine's clocks."""

from __future__ import annotations

import time
from threading import Event


class SystemClock:
    """The machine's time. Thread-safe."""

    def monotonic(self) -> float:
        """See ports.Clock."""
        return time.monotonic()

    def time(self) -> float:
        """See ports.Clock."""
        return time.time()

    def wait(self, event: Event, seconds: float) -> bool:
        """See ports.Clock."""
        return event.wait(seconds)
