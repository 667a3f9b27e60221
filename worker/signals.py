"""SIGTERM and SIGINT, told to the worker by a thread of its own.

A handler runs in the main thread between any two of its instructions, also while that thread holds the lock of the very
event it waits on: setting an event there can block for ever. So the handlers only put the signal into a SimpleQueue, which
takes no lock (https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put: reentrant), and the thread does the rest.
"""

from __future__ import annotations

import signal
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Protocol

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop(Protocol):
    """What a signal asks for: softly, finishing what is in flight, or hard, giving it up."""

    def __call__(self, *, hard: bool) -> None:
        """Stops the worker."""


def on_stop_signals(stop: Stop) -> None:
    """From now on the first signal stops softly and each further one hard. `stop` is called in a thread of its own, where it
    may take locks. To be called by the main thread."""
    arrived: SimpleQueue[int] = SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        arrived.put(number)

    def pass_on() -> None:
        arrived.get()
        stop(hard=False)
        while True:
            arrived.get()
            stop(hard=True)

    Thread(target=pass_on, name="signals", daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, on_signal)
