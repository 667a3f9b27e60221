"""Who may call the client now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class Turns:
    """One call of the client at a time, in the order in which they come: a commit made during one would wait for as long as
    others follow that one (confluent-kafka-python issue 2322)."""

    def __init__(self) -> None:
        self._turn, self._in_use = Lock(), Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Waits for its turn."""
        with self._turn:
            self._in_use.acquire()
        try:
            yield
        finally:
            self._in_use.release()

    @contextmanager
    def taken_if_free(self) -> Iterator[bool]:
        """Whether it is free; if not, nothing may be called. Never waits."""
        free = self._in_use.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._in_use.release()
