"""SIGTERM and SIGINT, told to the worker by a thread of its own.

A handler runs in the main thread between any two of its instructions, also while that thread holds the lock of the very
event it waits on: setting an event there can block for ever. So the handlers only put the signal into a SimpleQueue, which
takes no lock (https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put: reentrant), and the thread does the rest.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Protocol

SOFTLY, HARD = False, True
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopWorker(Protocol):
    """What a signal asks for: softly, finishing what is in flight, or hard, giving it up."""

    def __call__(self, *, hard: bool) -> None:
        """Stops the worker."""


def on_stop_signals(stop: StopWorker) -> None:
    """From now on the first signal stops softly and each further one hard. `stop` is called in a thread of its own, where it
    may take locks. To be called by the main thread."""
    _on_signals(itertools.chain([SOFTLY], itertools.repeat(HARD)), stop)


def on_soft_stop_signals(stop: StopWorker) -> None:
    """As `on_stop_signals`, with each signal soft."""
    _on_signals(itertools.repeat(SOFTLY), stop)


def _on_signals(hardness: Iterator[bool], stop: StopWorker) -> None:
    arrived: SimpleQueue[int] = SimpleQueue()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        arrived.put(number)

    def pass_on() -> None:
        for hard in hardness:
            arrived.get()
            stop(hard=hard)

    Thread(target=pass_on, name="signals", daemon=True).start()
    for number in SIGNALS:
        signal.signal(number, on_signal)
