"""A limit for calls that have none of their own."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread

import pytest

from worker.kafka.drivers import timeouts
from worker.kafka.drivers.timeouts import CallTimedOut, call_with_timeout


def test_what_the_call_returns_is_returned() -> None:
    assert call_with_timeout(30, lambda: 7) == 7
    assert call_with_timeout(30, lambda: None) is None


def test_what_the_call_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        call_with_timeout(30, fail)


def test_a_call_that_goes_on_is_given_up() -> None:
    end, ended = Event(), Event()

    def go_on() -> None:
        end.wait()
        ended.set()

    with pytest.raises(CallTimedOut, match=r"no answer within 0\.05 s"):
        call_with_timeout(0.05, go_on)
    end.set()
    assert ended.wait(30), "it goes on in its own thread"


def test_not_even_a_keyboard_interrupt_is_lost() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_with_timeout(30, interrupted)


def test_a_call_that_fails_just_after_its_time_is_given_up_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(Thread):
        """Runs its target when the wait for it is over."""

        def __init__(self, target: Callable[[], None], **_options: object) -> None:
            super().__init__()
            self._late = target

        def start(self) -> None: ...

        def join(self, timeout: float | None = None) -> None: ...

        def is_alive(self) -> bool:
            self._late()
            return False

    def fail() -> None:
        raise OSError("no route")

    monkeypatch.setattr(timeouts, "Thread", Late)
    with pytest.raises(CallTimedOut):
        call_with_timeout(0.05, fail)
