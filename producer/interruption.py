"""Ctrl-C and SIGTERM, let in only where nothing can be left half done."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Holds back SIGINT and SIGTERM except inside `with interruption.allowed:`, where they raise KeyboardInterrupt.

    Inside `allowed` goes what waits for others (reading standard input, waiting for acknowledgements); outside it,
    what must not be torn (handing a record to the client and counting it). Before `install` and off the main
    thread it changes nothing."""

    def __init__(self) -> None:
        self.asked = False
        self.allowed = _Allowed(self)
        self._before: dict[signal.Signals, Any] = {}

    def install(self) -> None:
        """Takes over both signals until `restore`. Only the main thread may have signal handlers; elsewhere: nothing."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._arrived)

    def restore(self) -> None:
        """Puts the earlier handlers back. Idempotent."""
        while self._before:
            signal.signal(*self._before.popitem())

    def __enter__(self) -> Interruption:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self.allowed.entered:
            self._raise()

    def _raise(self) -> None:
        self.asked = False  # answered: the next signal is a new request
        raise KeyboardInterrupt


class _Allowed:
    """The reusable context manager behind `Interruption.allowed`; a class, for it is entered once per review."""

    def __init__(self, interruption: Interruption) -> None:
        self.entered = False
        self._interruption = interruption

    def __enter__(self) -> None:
        self.entered = True  # before looking: a signal between the two would be missed
        if self._interruption.asked:
            self.entered = False
            self._interruption._raise()

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.entered = False
