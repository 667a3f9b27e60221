"""A limit for calls that have none of their own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TypeVar

from worker.kafka.driver import Unreachable

T = TypeVar("T")


class CallTimedOut(Unreachable):
    """The call did not return in time; it goes on in a thread of its own, and its outcome is unknown."""


def call_with_timeout(seconds: float, call: Callable[[], T]) -> T:
    """Runs `call` and returns what it returns, or raises what it raises; CallTimedOut after `seconds`.

    The thread for each call costs about 60 µs; a window of hundreds of records pays it twice."""
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # noqa: BLE001  raised again below, in the caller's thread
            raised.append(error)

    thread = Thread(target=run, name="limited", daemon=True)
    thread.start()
    thread.join(seconds)
    # Each list is looked at once: the call may end between any two looks, and then counts as too late.
    if returned:
        return returned[0]
    if raised:
        raise raised[0]
    raise CallTimedOut(f"no answer within {seconds:g} s")
