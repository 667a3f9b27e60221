"""The waits of a start: what may still be starting is asked again until it answers, all within one deadline."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import TypeVar

from worker.ports import Clock, Events
from worker.records import Retry

RETRY_SECONDS = 0.5
"""Wait between attempts to reach what is not there yet."""

T = TypeVar("T")


class Startup:
    """Begins when it is made. Thread-safe."""

    def __init__(self, seconds: float, stopping: Event, events: Events, clock: Clock) -> None:
        """`seconds` is what all waits share; `stopping` ends them."""
        self.seconds = seconds
        self._deadline = clock.monotonic() + seconds
        self._stopping = stopping
        self._events = events
        self._clock = clock

    def over(self) -> bool:
        """Whether the time of the start is up."""
        return self._clock.monotonic() > self._deadline

    def retry_until_available(self, away: type[Exception], connect: Callable[[], T]) -> T:
        """What `connect` returns, tried again after each `away`. Raises the last `away` once the time is up or the worker is
        told to stop, and whatever else `connect` raises at once."""
        attempt = 0
        while True:
            try:
                return connect()
            except away as error:
                attempt += 1
                if self.over() or self._stopping.is_set():
                    raise
                self._events.retrying(Retry("start", type(error).__name__, attempt, RETRY_SECONDS, str(error)))
                self._clock.wait(self._stopping, RETRY_SECONDS)
